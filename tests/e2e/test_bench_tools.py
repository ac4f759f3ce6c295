"""Benchmarks of maintainers: that they can be run, on a few calls."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

ROOT = Path(__file__).parents[2]


TINY = {**os.environ, "PGFLOW_BENCH_SCALE": "0.02"}
LEFT = """
select
  (select count(*) from pgflow.flows), (select count(*) from pgmq.meta),
  to_regnamespace('pgflow_bench')::text
"""


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", *arguments]


def run(*arguments: str) -> str:
    return subprocess.run(
        command(*arguments), cwd=ROOT, env=TINY, check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def left(database: str) -> tuple[object, ...]:
    with psycopg.connect(database, autocommit=True) as connection:
        return connection.execute(LEFT).fetchall()[0]


def test_two_checkouts_are_measured_in_turns(tmp_path):
    (tmp_path / ".venv").symlink_to(sys.prefix)
    options = ("--rounds", "2", "--drains", "1", "--tasks", "20", "--workers", "2", "--json")
    rows = json.loads(run("tests.bench.turns", str(tmp_path), str(tmp_path), *options))
    assert len(rows) == 9
    for row in rows:
        assert row["old"]["p50"] <= row["old"]["p99"]
        assert row["new"]["p50"] <= row["new"]["p99"]
    by_name = {row["what"]: row for row in rows}
    assert by_name["client.start, ms"]["ratio"] > 0
    # The clock of CPU counts hundredths of a second, which so few tasks may not take.
    assert by_name["drain: worker CPU a task, us"]["new"]["p50"] >= 0


@pytest.mark.parametrize(
    ("scenario", "settings"),
    [
        ("flows", ["1 flow, client.start to handler", "2 flows, backlog"]),
        ("workers", ["1 worker", "2 workers", "2 workers, the last one stopped"]),
    ],
)
def test_a_scenario_can_be_measured_and_leaves_nothing(database, scenario, settings):
    lines = run("tests.bench", scenario, "--json", "--dsn", database).splitlines()
    found = {result["setting"]: result for result in map(json.loads, lines)}
    assert set(settings) < set(found)
    for setting, result in found.items():
        assert result["ours"]
        assert bool(result["floor"]) == (not setting.startswith("1 flow,"))
    assert left(database) == (0, 0, None)


def test_maps_can_be_measured_and_leave_nothing(database):
    few, many, others, large = map(
        json.loads, run("tests.bench", "maps", "--json", "--dsn", database).splitlines()
    )
    assert few["ours"]["p50"] <= few["ours"]["p99"]
    assert many["ours"]["rate"] > 0
    assert others["floor"]
    assert large["ours"].keys() == {"rate", "worker, MiB", "backend, MiB"}
    assert left(database) == (0, 0, None)


def test_an_interrupted_scenario_leaves_nothing(database):
    options = command("tests.bench", "workers", "--dsn", database)
    with subprocess.Popen(
        options, cwd=ROOT, env=TINY, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr
        for line in process.stderr:
            if "stopped" in line:
                break
        process.send_signal(signal.SIGINT)
        process.stderr.read()
        assert process.wait(60)
    assert left(database) == (0, 0, None)
