"""What happens to the server in the midst of a map."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
import pytest
import trio

from pgflow_events import Flow, Settings, connect

from ...parts.observing import execute, rows, until
from ..parts.soundness import assert_sound

ELEMENTS, SOON = 300, 60
LONG = "long " * 4000  # a blob
RESULT = {"whole": [[n, LONG if n % 3 == 0 else ""] for n in range(ELEMENTS)]}
WAITING = """
select from pg_locks where relation = 'pgflow.map_elements'::regclass and not granted
"""


class Crawl:
    """A map that says how far it is, of small elements and of large ones."""

    def __init__(self) -> None:
        self.flow = Flow("crawl", max_attempts=50, base_delay=0, timeout=5)
        self.attempts: Counter[tuple[int, int]] = Counter()
        self.is_under_way = trio.Event()
        links = self.flow.step(slug="links")(lambda: RESULT["whole"])
        page = self.flow.step(links.each, self.flow.context, slug="page")(self._page)
        self.flow.step(page, slug="whole")(lambda pages: pages)

    async def _page(self, link, context):
        self.attempts[link[0], context.attempt] += 1
        if len(self.attempts) >= SOON:
            self.is_under_way.set()
        return link


@asynccontextmanager
async def at_work(work, dsn: str) -> AsyncIterator[tuple]:
    """Two workers in the midst of a map, and its run, which then ends as it has to."""
    crawl = Crawl()
    async with connect(dsn) as client:
        for _ in range(2):
            await work(crawl.flow, dsn=dsn, settings=Settings(slots=5))
        with trio.fail_after(50):
            run = await client.start(crawl.flow, None)
            await crawl.is_under_way.wait()
            yield crawl, run
            assert await run.result() == RESULT
    assert {n for n, _ in crawl.attempts} == {*range(ELEMENTS)}
    await assert_sound(dsn)


async def test_a_server_that_crashes_in_the_midst_of_a_map_loses_no_element(
    server_of_ours, own_database, work
):
    async with at_work(work, own_database):
        await trio.to_thread.run_sync(server_of_ours.restart, "immediate")


async def test_a_lock_on_the_elements_stops_a_map_for_as_long_as_it_is_held(database, work):
    async with at_work(work, database) as (crawl, _):
        with psycopg.connect(database) as locking:
            locking.execute("lock table pgflow.map_elements in access exclusive mode")
            await until(lambda: rows(database, WAITING))
            before = len(crawl.attempts)
            assert before < ELEMENTS
    assert max(crawl.attempts.values()) == 1


@pytest.mark.parametrize("table", ["map_elements", "step_states", "step_tasks"])
async def test_vacuum_full_in_the_midst_of_a_map_costs_it_nothing(database, work, table):
    async with at_work(work, database) as (crawl, _):
        await execute(database, f"vacuum full pgflow.{table}")
    assert max(crawl.attempts.values()) == 1
