"""A worker that is killed at a named point of a map's life: no element is lost or done twice."""

from collections import Counter

import psycopg
import pytest
import trio
from psycopg.rows import namedtuple_row

from ...parts.liveness_scenes import whole
from ...parts.models.core import Core
from ...parts.models.windows import LOW, make_windows_small
from ...parts.observing import rows
from ..parts.breakpoint import Breakpoint
from ..parts.map_victim import ELEMENTS, RESULT, MapRescuer
from ..parts.soundness import assert_sound
from ..parts.victim import printed

READ = "then content end"
CLAIM, COMPLETE = "pgflow_queues.claim_", "pgflow.complete_tasks"

# The statement, how often it passes before, and what is in the victim's hand: that runs again if it
# had begun and is not completed.
FIRST, REFILL, LAST, CONSUMER = 1, LOW, ELEMENTS, ELEMENTS + 1
POINTS = {
    "before the first claim": (CLAIM, 0, "asked"),
    "after the first claim": (CLAIM, 0, "committed"),
    "before the list is stored": (COMPLETE, 0, "asked"),
    "before the map has started": (COMPLETE, 0, "done"),
    "after the map has started": (COMPLETE, 0, "committed"),
    "before an element is read": (READ, 0, "asked"),
    "after an element was read": (READ, 0, "committed"),
    "before an element is completed": (COMPLETE, FIRST, "asked"),
    "before the first element's completion has committed": (COMPLETE, FIRST, "done"),
    "after an element's completion has committed": (COMPLETE, FIRST, "committed"),
    "before the window is filled again": (COMPLETE, REFILL, "asked"),
    "before that has committed": (COMPLETE, REFILL, "done"),
    "after that has committed": (COMPLETE, REFILL, "committed"),
    "before the last element is completed": (COMPLETE, LAST, "asked"),
    "before the map's end has committed": (COMPLETE, LAST, "done"),
    "after the map's end has committed": (COMPLETE, LAST, "committed"),
    "before the consumer is completed": (COMPLETE, CONSUMER, "asked"),
    "before the run's end has committed": (COMPLETE, CONSUMER, "done"),
    "after the run's end has committed": (COMPLETE, CONSUMER, "committed"),
}
SOME = (
    "after the map has started",
    "before that has committed",
    "before the map's end has committed",
)


@pytest.fixture
async def rescuer(database):
    """A worker that only the news of a death can wake; not begun, but its flow is defined."""
    worker = MapRescuer(database)
    await worker.define()
    with psycopg.connect(database, autocommit=True, row_factory=namedtuple_row) as connection:
        make_windows_small(Core(connection))
    return worker


@pytest.mark.parametrize(
    "point",
    [p if p in SOME else pytest.param(p, marks=pytest.mark.slow_fault) for p in POINTS],
)
async def test_no_element_is_lost_or_done_twice_wherever_its_worker_is_killed(
    client, database, victim, rescuer, nursery, *, point
):
    statement, skip, moment = POINTS[point]
    breakpoint_ = Breakpoint(database, statement, moment, skip=skip)
    await nursery.start(breakpoint_.run)
    run = await client.start("crawl", None)
    process = victim(breakpoint_.dsn, module="map_victim")
    with trio.fail_after(40):
        await breakpoint_.reached.wait()
        await nursery.start(rescuer.run)
        await whole(database)
        process.kill()
        process.wait()
        breakpoint_.drop()
        assert await run.result() == RESULT
    _, *before = process.stdout.read().split("\n")[:-1]
    await assert_once(database, [*before, *rescuer.begun])


@pytest.mark.parametrize("step", ["links", "page 1", f"page {ELEMENTS - 1}", "index"])
async def test_what_runs_when_its_worker_is_killed_runs_again_and_nothing_else(
    client, database, victim, rescuer, nursery, *, step
):
    run = await client.start("crawl", None)
    process = victim(database, step, module="map_victim")
    with trio.fail_after(40):
        await printed(process, f"{step}, 1")
        await nursery.start(rescuer.run)
        await whole(database)
        process.kill()
        process.wait()
        assert await run.result() == RESULT
    assert [each for each in rescuer.begun if not each.endswith(" 1")] == [f"{step}, 2"]
    await assert_sound(database)


async def assert_once(database: str, begun: list[str]) -> None:
    """Each element was completed once, and at most one attempt was lost with the victim."""
    assert max(Counter(begun).values()) == 1
    steps = Counter(each.partition(",")[0] for each in begun)
    assert steps.keys() == {"links", *(f"page {n}" for n in range(ELEMENTS)), "index"}
    assert sum(steps.values()) <= ELEMENTS + 3
    tasks = "select from pgflow.step_tasks where step_slug = 'page' and status = 'completed'"
    assert len(await rows(database, tasks)) == ELEMENTS
    await assert_sound(database)
