"""Handlers that compute in processes of their own."""

import os
import sys
from pathlib import Path

import pytest
import trio

from pgflow_events import Flow, RunFailed, SettingsError, Worker

from ...parts.handlers import computing
from ...parts.observing import rows, until

THIS = Path(computing.__file__).read_bytes()
TASK = "select status, attempts_count from pgflow.step_tasks where run_id = %s"


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_step_computes_in_another_process_which_is_used_again(client, work):
    await work(computing.flow)
    pids = set()
    for number in (7, 8):
        run = await client.start(computing.flow, {"how": "square", "number": number})
        output = (await run.result())["compute"]
        assert output["square"] == number**2
        pids.add(output["pid"])
    assert len(pids) == 1
    assert os.getpid() not in pids


async def test_a_map_that_may_be_skipped_computes_in_processes(client, work):
    await work(computing.squares)
    run = await client.start(computing.squares, [7, 8, 9])
    assert await run.output(computing.squared) == [49, 64, 81]


VALUES = [None, True, 2**64 - 1, -0.0, "", "\0 \N{PILE OF POO}", {"a": [1.0, {}]}, b"\xff", b""]


@pytest.mark.parametrize("value", VALUES, ids=ascii)
async def test_values_come_back_as_they_were(client, work, value):
    await work(computing.values)
    output = await (await client.start(computing.values, value)).result()
    assert output["spelled"] == repr(value)
    assert output["sizes"] == [7_000_000, repr(value)]
    assert output["file"] == THIS


FAILURES = {
    "exit": r"HandlerCrashed: the process of the handler ended with exit code 3",
    "kill": r"HandlerCrashed: .* was ended by SIGKILL: is memory short\?",
    "read from nowhere": r"HandlerCrashed: the process of the handler was ended by SIGSEGV",
    "leave": r"SystemExit: 4",
    "raise": r"ZeroDivisionError: division by zero",
    "raise for good": r"PermanentError: never",
    "raise what cannot cross": r"Unpicklable: <function ",
    "allocate": r"MemoryError$",
    "tuple": r"ValueRefused: compute\(\) returned what cannot be stored: \$\.x is of type tuple",
}
FOR_GOOD = {"raise for good", "tuple"}


@pytest.mark.parametrize("how", FAILURES)
async def test_whatever_happens_in_the_process_fails_the_attempt_and_nothing_else(
    how, client, work, database, caplog
):
    neighbour = Flow("neighbour")
    go_on = trio.Event()

    @neighbour.step()
    async def waits():
        await go_on.wait()

    await work(computing.flow, neighbour)
    beside = await client.start(neighbour, None)
    run = await client.start(computing.flow, {"how": how})
    with pytest.raises(RunFailed, match=rf"step 'compute': {FAILURES[how]}"):
        await run.result()
    attempts = 1 if how in FOR_GOOD else 2
    assert await rows(database, TASK, run.id) == [("failed", attempts)]
    go_on.set()
    await beside.result()
    assert await rows(database, TASK, beside.id) == [("completed", 1)]
    after = await client.start(computing.flow, {"how": "square", "number": 3})
    assert (await after.result())["compute"]["square"] == 9
    if how == "raise":
        assert "in compute" in caplog.text  # the traceback is that of the child


async def test_a_process_is_killed_at_the_timeout_of_its_step(client, work, tmp_path, database):
    note = tmp_path / "pid"
    await work(computing.flow)
    await rows(database, "update pgflow.flows set opt_timeout = 1 returning 1")
    run = await client.start(computing.flow, {"how": "sleep", "note": str(note)})
    with pytest.raises(RunFailed, match=r"HandlerTimeout: .* its timeout of 1 s"):
        await run.result()
    assert not is_there(int(note.read_text()))


async def test_a_worker_that_is_cancelled_kills_its_processes(client, database, tmp_path):
    note = tmp_path / "pid"

    async def has_begun() -> bool:
        return note.exists() and note.read_text() != ""

    async with trio.open_nursery() as nursery:
        await nursery.start(Worker([computing.flow], database).run)
        await client.start(computing.flow, {"how": "sleep", "note": str(note)})
        await until(has_begun)
        nursery.cancel_scope.cancel()
    assert not is_there(int(note.read_text()))


def test_without_the_extra_a_worker_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "trio_parallel", None)
    with pytest.raises(SettingsError, match=r"step 'compute' is cpu_bound: pip install 'pgflow"):
        Worker([computing.flow])
