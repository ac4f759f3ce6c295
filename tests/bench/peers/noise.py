"""How quiet the machine is: a fixed piece of work, and the smallest commit there is."""

import time
from typing import Any

import psycopg

from tests.bench.measuring import percentile

LOOPS, COMMITS = 9, 100


def measure(dsn: str) -> dict[str, Any]:
    """Milliseconds of both, and by how much the middle nine in ten differ."""
    return figures("CPU loop", [loop() for _ in range(LOOPS)]) | figures("commit", commits(dsn))


def figures(name: str, seconds: list[float]) -> dict[str, float]:
    """Median, and the spread around it."""
    middle = percentile(seconds, 0.5)
    low, high = percentile(seconds, 0.05), percentile(seconds, 0.95)
    return {f"{name}, ms": middle * 1e3, f"{name}, spread": (high - low) / middle}


def loop() -> float:
    """The seconds of a fixed piece of work."""
    began = time.perf_counter()
    sum(range(1_000_000))
    return time.perf_counter() - began


def commits(dsn: str) -> list[float]:
    """The seconds of each of some commits of a row."""
    seconds = []
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("drop table if exists bench_floor")
        connection.execute("create table bench_floor (id int)")
        for number in range(COMMITS):
            began = time.perf_counter()
            connection.execute("insert into bench_floor values (%s)", [number])
            seconds.append(time.perf_counter() - began)
        connection.execute("drop table bench_floor")
    return seconds
