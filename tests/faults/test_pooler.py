"""PgBouncer in transaction mode between workers, clients and the server."""

import pytest
import trio

from pgflow_events import Settings, Worker, connect

from ..integration.observing import logged, rows
from .pooler import pooler
from .soundness import assert_sound
from .victim import PAGE, pages

CONFIGURATIONS = {
    "as it comes": "",
    "with options ignored": "ignore_startup_parameters = options",
}


@pytest.fixture(params=list(CONFIGURATIONS))
def pooled(database, request):
    with pooler(database, CONFIGURATIONS[request.param]) as conninfo:
        yield conninfo


async def note(_):
    pass


async def test_with_a_dsn_to_listen_at_all_is_as_without_a_pooler(pooled, database, nursery, caplog):
    flow = pages(note)
    settings = Settings(listen_dsn=database, check_interval=3600, connections=4, cache_budget=0)
    for _ in range(3):
        await nursery.start(Worker([flow], pooled, settings=settings).run)
    async with connect(pooled) as client:
        for _ in range(5):
            runs = await client.start_many(flow, [None] * 40)
            with trio.fail_after(20):
                for run in runs:
                    assert await run.result() == {"length": len(PAGE)}
    await assert_sound(database)
    print(caplog.text)
