"""Benchmarks of maintainers: that they can be run, on a few calls."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> str:
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


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
    assert by_name["drain: worker CPU a task, us"]["new"]["p50"] > 0
