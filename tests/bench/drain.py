"""How many waiting runs one worker process gets done in a second, with handlers that do nothing."""

import time
from typing import Any

import trio

from pgflow_events import Client, Flow, Settings, Worker, connect

RUNS = {"single": 12_000, "chain": 3_000}


def single_step() -> Flow[int]:
    """The smallest flow there is."""
    flow = Flow("bench_single", input=int)

    @flow.step(flow.input)
    async def only(run: int) -> int:
        return run

    return flow


def analyze_website() -> Flow[int]:
    """Four steps: one, two side by side, one that waits for both."""
    flow = Flow("bench_chain", input=int)

    @flow.step(flow.input)
    async def website(run: int) -> int:
        return run

    @flow.step(website)
    async def sentiment(page: int) -> int:
        return page

    @flow.step(website)
    async def summary(page: int) -> int:
        return page

    @flow.step(flow.input, sentiment, summary)
    async def save(run: int, mood: int, text: int) -> int:
        return run + mood + text

    return flow


async def measure(dsn: str) -> dict[str, Any]:
    """Runs a second of both flows, with the worker's defaults and with 200 slots."""
    result: dict[str, Any] = {}
    async with connect(dsn) as client:
        for slots in (None, 200):
            settings = Settings(slots=slots) if slots else Settings()
            for flow, kind in ((single_step(), "single"), (analyze_website(), "chain")):
                rate = await drain(client, dsn, flow, RUNS[kind], settings)
                result[f"{kind}, {settings.slots} slots: runs/s"] = rate
    return result


async def drain(client: Client, dsn: str, flow: Flow[int], runs: int, settings: Settings) -> float:
    """Start the runs, then a worker; runs a second until the last has ended."""
    await define(dsn, flow)
    waiting = []
    for first in range(0, runs, 1000):
        waiting += await client.start_many(flow, list(range(first, first + 1000)))
    async with trio.open_nursery() as nursery:
        began = time.perf_counter()
        await nursery.start(Worker([flow], dsn, settings=settings).run)
        async with trio.open_nursery() as waiters:
            for run in waiting:
                waiters.start_soon(run.wait)
        seconds = time.perf_counter() - began
        nursery.cancel_scope.cancel()
    return runs / seconds


async def define(dsn: str, flow: Flow[int]) -> None:
    """Let a worker define the flow, and leave."""
    async with trio.open_nursery() as nursery:
        worker = Worker([flow], dsn)
        await nursery.start(worker.run)
        worker.stop()
