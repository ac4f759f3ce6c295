"""Whatever a handler does, its task ends and says why, and the others go on."""

import re
import threading
from collections.abc import Iterator
from functools import partial

import pytest
import trio

from pgflow_events import Client, Flow, PgflowError, RunFailed, Settings

from ...parts.handlers.poisons import POISONS, Poison, released
from ...parts.observing import execute, rows

TASKS = "select status, attempts_count from pgflow.step_tasks where flow_slug = %s"


class Neighbour:
    """A flow of two steps, one in a thread and one in trio, that go on when they are told to."""

    def __init__(self) -> None:
        self.flow = Flow("neighbour", max_attempts=1)
        self.running = trio.Event()
        self.go_on = threading.Event()
        self.flow.step(self.flow.input, slug="in_thread")(self._in_thread)
        self.flow.step(self.flow.input, slug="in_trio")(self._in_trio)

    def _in_thread(self, run: str) -> str:
        self.go_on.wait()
        return run

    async def _in_trio(self, run: str) -> str:
        self.running.set()
        await trio.to_thread.run_sync(self.go_on.wait, abandon_on_cancel=True)
        return run


@pytest.fixture
def neighbour() -> Iterator[Neighbour]:
    made = Neighbour()
    yield made
    made.go_on.set()


@pytest.fixture(autouse=True)
def release() -> Iterator[None]:
    """Lets end what does not heed its cancellation."""
    released.clear()
    yield
    released.set()


def poisoned(slug: str, poison: Poison) -> Flow:
    flow = Flow(slug, base_delay=0, max_attempts=2, timeout=poison.timeout)
    flow.step(flow.context, slug="step")(poison.handler)
    return flow


async def what_is_said(client: Client, flow: Flow) -> str:
    with trio.fail_after(20), pytest.raises(RunFailed) as failed:
        await (await client.start(flow, None)).result()
    return str(failed.value)


# A worker meets them all, since to start one for each takes longer than the rest: one after the
# other, but at the same time where they last for seconds and let others run meanwhile.
LASTING = {name: poison for name, poison in POISONS.items() if poison.lasts}
BRIEF = {name: poison for name, poison in POISONS.items() if not poison.lasts}


@pytest.mark.parametrize("poisons", [BRIEF, LASTING], ids=["in turn", "at once"])
async def test_each_task_says_why_it_failed_and_the_neighbours_are_untouched(
    poisons: dict[str, Poison], neighbour, client, work, database
):
    flows = {name: poisoned(f"poison_{n}", poisons[name]) for n, name in enumerate(poisons)}
    at_once = len(poisons) if poisons is LASTING else 1
    # One slot is left to a poison: were it kept, what comes after could not run.
    await work(*flows.values(), neighbour.flow, settings=Settings(slots=2 + at_once))
    beside = await client.start(neighbour.flow, "beside")
    await neighbour.running.wait()
    said: dict[str, str] = {}
    turns = trio.CapacityLimiter(at_once)

    async def meet(name: str) -> None:
        async with turns:
            said[name] = await what_is_said(client, flows[name])

    async with trio.open_nursery() as nursery:
        for name in poisons:
            nursery.start_soon(meet, name)
    assert {
        name: said[name]
        for name, poison in poisons.items()
        if not re.search(f"step 'step': {poison.says}", said[name])
    } == {}
    neighbour.go_on.set()
    after = await client.start_many(neighbour.flow, ["after"] * 3)
    with trio.fail_after(10):
        assert await beside.result() == {"in_thread": "beside", "in_trio": "beside"}
        for run in after:
            assert await run.result() == {"in_thread": "after", "in_trio": "after"}
    assert await rows(database, TASKS, "neighbour") == 8 * [("completed", 1)]
    assert {name: await rows(database, TASKS, flow.slug) for name, flow in flows.items()} == {
        name: [("failed", 1 if poisons[name].permanent else 2)] for name in flows
    }
    released.set()


async def test_an_input_too_deep_for_python_fails_its_task_for_good(
    neighbour, client, work, database
):
    flow = Flow("poisoned", max_attempts=2)
    flow.step(flow.input, slug="inline")(lambda run: run)
    await work(flow, neighbour.flow)
    neighbour.go_on.set()
    start = "select run_id from pgflow.start_flow('poisoned', %s)"
    ((run_id,),) = await rows(database, start, "[" * 2000 + "]" * 2000)
    run = await client.start(neighbour.flow, "beside")
    with pytest.raises(RunFailed, match=r"(the input|its JSON) cannot be read"):
        await (await client.find(run_id)).result()
    assert await run.result() == {"in_thread": "beside", "in_trio": "beside"}
    assert await rows(database, TASKS, "poisoned") == [("failed", 1)]


async def test_an_output_that_python_cannot_read_hides_nothing_else_of_its_run(client, database):
    await execute(
        database,
        "select pgflow.create_flow('f', 1)",
        "select pgflow.add_step('f', slug) from unnest(array['huge', 'end']) as slug",
    )
    await execute(database, "select pgflow.start_flow('f', 'null') from generate_series(1, 2)")
    await execute(database, "select from pgflow.poll_for_tasks('f', 1, 9, 0)")
    complete = "select pgflow.complete_task(run_id, 'huge', 0, '[1e400]') from pgflow.runs"
    (done, failed) = await rows(database, "select run_id from pgflow.runs order by 1")
    await execute(
        database,
        complete,
        f"select pgflow.complete_task('{done.run_id}', 'end', 0, '7')",
        f"select pgflow.fail_task('{failed.run_id}', 'end', 0, 'no more')",
    )
    run = await client.find(done.run_id)
    assert await run.status() == "completed"
    flow = Flow("f")
    huge = flow.step(slug="huge")(list)
    assert await run.output(flow.step(slug="end")(lambda: 0)) == 7
    for unreadable in (run.result, partial(run.output, huge), partial(run.output, huge.blob)):
        with pytest.raises(PgflowError, match="the output can be read only in SQL: number is"):
            await unreadable()
    with pytest.raises(RunFailed, match="step 'end': no more"):
        await (await client.find(failed.run_id)).result()
