"""What a run of two steps costs on disk and in WAL that passes a page of 5 kB of one site.

Inline, as peers do; and as a blob compressed with a dictionary that was trained on other pages.
"""

import psycopg
import trio

from blobstore.values.dictionaries import train
from pgflow_events import Flow, Settings, Worker, connect
from pgflow_events.bench.measured import Measured
from tests.bench import corpus
from tests.bench.measuring import define, growth

RUNS = 2000
BATCH = 20

KEEP = """
insert into pgflow.blob_dictionaries (flow_slug, step_slug, content, samples)
values ('bench_page_blob', 'page', %b, 1)
"""


async def pages(dsn: str) -> list[Measured]:
    """What a run costs that passes a page of 5 kB, compressed with a dictionary; and as jsonb."""
    inline, blob = make("bench_page_inline"), make("bench_page_blob", blob_threshold=1024)
    await define(dsn, blob)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(KEEP, [train(corpus.site().training)])
    jsonb, ours = await cost(dsn, inline), await cost(dsn, blob)
    return [Measured(unit="", ours=ours, beside={"inline, as jsonb": jsonb})]


def make(slug: str, **options: int) -> Flow[int]:
    """A flow whose first step gives a page to the second."""
    flow = Flow(slug, input=int)
    site = [page.decode() for page in corpus.site().held_out]

    @flow.step(flow.input, **options)
    async def page(run: int) -> str:
        return site[run % len(site)]

    @flow.step(page)
    async def length(content: str) -> int:
        return len(content)

    return flow


async def cost(dsn: str, flow: Flow[int]) -> dict[str, float]:
    """Bytes a run, on disk and in WAL."""
    async with trio.open_nursery() as nursery, connect(dsn) as client:
        await nursery.start(Worker([flow], dsn, settings=Settings(slots=BATCH)).run)
        disk, wal = growth(dsn)
        for first in range(0, RUNS, BATCH):
            for run in await client.start_many(flow, list(range(first, first + BATCH))):
                await run.wait()
        disk_after, wal_after = growth(dsn)
        nursery.cancel_scope.cancel()
    return {
        "disk bytes a run": (disk_after - disk) / RUNS,
        "WAL bytes a run": (wal_after - wal) / RUNS,
    }
