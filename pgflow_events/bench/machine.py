"""The machine of a benchmark, and its noise."""

import os
import platform
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg

from pgflow_events.bench import tables as queries
from pgflow_events.bench.measured import MILLISECONDS, percentile, scaled

TRIES = 100
LOOP = 50_000  # rounds: about two milliseconds


def machine(dsn: str) -> dict[str, Any]:
    """The machine, the versions, and the present noise. Takes half a second."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        loops = [timed(lambda: sum(range(LOOP))) for _ in range(scaled(TRIES))]
        commits = [
            timed(lambda: connection.execute(queries.ADD_COMMIT)) for _ in range(scaled(TRIES))
        ]
        settings = queries.settings(connection)
    return {
        "cpus": os.cpu_count(),
        "cpu_model": cpu_model(),
        "python": platform.python_version(),
        **settings,
        "noise": {
            "cpu_p90_by_p10": spread(loops),
            "commit_p90_by_p10": spread(commits),
            "commit_p50_ms": percentile(commits, 0.5) * MILLISECONDS,
        },
    }


def timed(call: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def spread(values: list[float]) -> float:
    """The ratio of a slow value to a quick one. It is 1 on a quiet machine."""
    return percentile(values, 0.9) / percentile(values, 0.1)


def cpu_model() -> str:
    """The model of the CPU, on Linux as the kernel names it."""
    if sys.platform == "linux":
        with suppress(OSError):
            for line in Path("/proc/cpuinfo").read_text().splitlines():
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
