"""Handlers that end their process, or spoil what all of it shares."""

import resource
import signal
import socket
import time
from contextlib import ExitStack
from pathlib import Path
from uuid import UUID

import psycopg
import pytest
from psycopg.rows import namedtuple_row
from psycopg.types.json import Jsonb

from .conftest import FLOWS, end

MORTAL = str(Path(__file__).with_name("mortal_flows.py"))
WITNESS = str(Path(__file__).with_name("stubborn_flows.py"))
TASK = "select status, attempts_count, output, error_message from pgflow.step_tasks"
WATCHERS = "select count(*) from pg_locks where locktype = 'advisory' and not granted"


@pytest.fixture
def doors(tmp_path):
    """Where handlers ask what to do, by flow."""
    with ExitStack() as stack:
        opened = {}
        for flow in ("patient", "once", "mortal", "heir"):
            door = opened[flow] = stack.enter_context(socket.socket(socket.AF_UNIX))
            door.bind(str(tmp_path / flow))
            door.listen()
            door.settimeout(30)
        yield opened


@pytest.fixture
def db(database):
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


def start(db: psycopg.Connection, flow: str, run: object) -> UUID:
    query = "select run_id from pgflow.start_flow(%s, %s)"
    return db.execute(query, [flow, Jsonb(run)]).fetchone()[0]


def task(db: psycopg.Connection, run_id: UUID) -> tuple:
    with db.cursor(row_factory=namedtuple_row) as cursor:
        return cursor.execute(f"{TASK} where run_id = %s", [run_id]).fetchone()


def until(happened) -> None:
    """Return when it has happened: for what tells nobody."""
    deadline = time.monotonic() + 45
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def answer(door: socket.socket, text: str) -> None:
    asking, _ = door.accept()
    with asking:
        asking.send(text.encode())


DEATHS = {
    "exit": 3,
    "kill": -signal.SIGKILL,
    "abort": -signal.SIGABRT,
    "read from nowhere": -signal.SIGSEGV,
    "overflow": -signal.SIGSEGV,
}


@pytest.mark.parametrize("how", DEATHS)
def test_who_ends_its_process_fails_in_the_end_and_its_neighbours_run_again(how, worker, doors, db):
    runs = {}
    worker(WITNESS)
    for attempt in (1, 2):
        process = worker(FLOWS, MORTAL)
        asking = {}
        for flow in ("patient", "once", "mortal") if attempt == 1 else ("patient", "mortal"):
            here = {"door": doors[flow].getsockname()}
            runs[flow] = runs[flow] if attempt == 2 else start(db, flow, here)
            asking[flow], _ = doors[flow].accept()
        until(lambda: db.execute(WATCHERS).fetchone() == (2,))
        asking["mortal"].send(how.encode())
        assert process.wait(30) == DEATHS[how]
        for each in asking.values():
            each.close()
    last = worker(FLOWS, MORTAL)
    answer(doors["patient"], "at last")
    for run_id in runs.values():
        until(lambda run_id=run_id: task(db, run_id).status != "queued")
    lost = f"its worker died (process {process.pid} on {socket.gethostname()})"
    assert task(db, runs["mortal"]) == ("failed", 2, None, f"attempt 2 was lost: {lost}")
    assert task(db, runs["patient"])[:3] == ("completed", 3, "at last")
    # Who may not be tried again pays for what others do to the process.
    assert task(db, runs["once"])[:2] == ("failed", 1)
    assert task(db, runs["once"]).error_message.startswith("attempt 1 was lost: its worker died")
    assert end(last)[0] == 0


SPOILS = {
    "close_the_standard_files": "completed",
    "go_where_nothing_is": "completed",
    "ignore_what_ends": "completed",
    "leave_threads": "completed",
    "leave_processes": "completed",
    "fork_and_go_on": "completed",
    "fork_and_raise": "completed",
    "allocate": "failed",
    "block": "failed",
}
# Python ends with 120 where the last lines of the log are left in a buffer of stderr.
ENDS = {"close_the_standard_files": {0, 120}}


@pytest.mark.parametrize("how", SPOILS)
def test_what_a_handler_does_to_its_process_does_not_harm_the_others(how, worker, doors, db):
    door = doors["patient"]
    process = worker(FLOWS, MORTAL)
    beside = start(db, "patient", {"door": door.getsockname()})
    asking, _ = door.accept()
    if how == "allocate":
        resource.prlimit(process.pid, resource.RLIMIT_AS, (4 << 30, 4 << 30))
    run_id = start(db, "block" if how == "block" else "spoil", how)
    until(lambda: task(db, run_id).status != "queued")
    assert task(db, run_id).status == SPOILS[how]
    asking.send(b"beside")
    asking.close()
    after = start(db, "patient", {"door": door.getsockname()})
    answer(door, "after")
    for run in (beside, after):
        until(lambda run=run: task(db, run).status == "completed")
        assert task(db, run).attempts_count == 1
    # Python waits for threads, and a worker that ignores signals for SIGKILL.
    if how not in {"leave_threads", "ignore_what_ends"}:
        code, log = end(process)
        assert code in ENDS.get(how, {0})
        assert "a child went on" not in log


def test_a_child_that_a_handler_has_forked_does_not_keep_its_death_a_secret(worker, doors, db):
    worker(WITNESS)
    process = worker(MORTAL)
    run_id = start(db, "heir", {"door": doors["heir"].getsockname(), "sleep": 30})
    asking, _ = doors["heir"].accept()
    until(lambda: db.execute(WATCHERS).fetchone() == (2,))
    process.kill()
    until(lambda: "its worker died" in (task(db, run_id).error_message or ""))
    asking.close()


def test_a_step_of_a_script_computes_in_a_process_of_its_own_which_may_crash(worker, db):
    process = worker(MORTAL)
    runs = [start(db, "crunch", number) for number in (0, 7)]
    for run_id in runs:
        until(lambda run_id=run_id: task(db, run_id).status != "queued")
    said = "HandlerCrashed: the process of the handler was ended by SIGABRT"
    assert task(db, runs[0]) == ("failed", 2, None, said)
    assert task(db, runs[1]) == ("completed", 1, 49, None)
    assert end(process)[0] == 0
