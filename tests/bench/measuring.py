"""Percentiles, pages and processes that several benchmarks share."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

import click
import psycopg
import trio

from pgflow_events import Flow, Worker
from pgflow_events.bench.measured import percentile
from pgflow_events.bench.pages import html

__all__ = ["define", "growth", "html", "in_process", "percentile", "progress"]

T = TypeVar("T")

GROWTH = """
select pg_database_size(current_database()), pg_current_wal_lsn() - '0/0'::pg_lsn
"""


def progress(what: str) -> None:
    """Say on stderr what a scenario of many seconds is about."""
    click.echo(what, err=True)


async def in_process(function: Callable[..., T], *arguments: object) -> T:
    """Call a function of a module in a process of its own."""

    def call() -> T:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            return pool.submit(function, *arguments).result()

    return await trio.to_thread.run_sync(call)


async def define(dsn: str, flow: Flow[int]) -> None:
    """Let a worker define the flow, and leave."""
    async with trio.open_nursery() as nursery:
        worker = Worker([flow], dsn)
        await nursery.start(worker.run)
        worker.stop()


def growth(dsn: str) -> tuple[int, int]:
    """Bytes of the database, and of WAL so far, right after a checkpoint."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("checkpoint")
        size, wal = connection.execute(GROWTH).fetchall()[0]
        return int(size), int(wal)
