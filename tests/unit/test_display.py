"""Runs as they are shown on a terminal."""

import io
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from rich.console import Console

from pgflow_events.display import run_tree, runs_table, value
from pgflow_events.summaries import RunSummary, StepSummary
from pgflow_events.texts import duration, one_line

NOW = datetime.now(UTC)


def shown(renderable, width: int = 200) -> str:
    output = io.StringIO()
    Console(file=output, width=width, force_terminal=False).print(renderable)
    return output.getvalue()


def a_run(status: str) -> RunSummary:
    ended = None if status == "started" else NOW
    return RunSummary(uuid4(), "a_flow", status, NOW, ended, 7200.0, 61.4, 1, 2)


def a_step(status: str, **facts) -> StepSummary:
    usual = {
        "step_slug": "a_step", "dependencies": [], "attempts": 1, "max_attempts": 3,
        "error": None, "output": None, "worker_id": None, "queued_at": NOW,
        "started_at": NOW, "ended_at": None, "duration": 0.25, "blob": None,
    }  # fmt: skip
    return StepSummary(status=status, **usual | facts)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.0123, "12 ms"),
        (1.25, "1.2 s"),
        (59.94, "59.9 s"),
        (60, "1 min 0 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h 0 min"),
        (86400 * 3 + 3600 * 4 + 5, "3 d 4 h"),
    ],
)
def test_a_duration_has_one_or_two_units(seconds, text):
    assert duration(seconds) == text


def test_a_text_is_cut_to_a_line_and_cannot_move_the_cursor():
    assert one_line("\n a\x1b[2Jb\x9bc\nnext") == "a�[2Jb�c"
    assert one_line("x" * 200) == "x" * 99 + "…"
    assert one_line("") == ""


def test_a_blob_is_told_of_by_its_sizes():
    sizes = {"id": "", "kind": "text", "codec": "zstd", "raw_size": 1_200_000, "forgotten": False}
    assert str(value(None, {**sizes, "stored_size": 180_000})) == "text, 1.2 MB as 180.0 kB"
    assert str(value(None, {**sizes, "stored_size": 1_200_000})) == "text, 1.2 MB"
    gone = {**sizes, "stored_size": 180_000, "forgotten": True}
    assert str(value(None, gone)) == "text, 1.2 MB as 180.0 kB, forgotten"


@pytest.mark.parametrize(
    ("output", "json"), [(None, "null"), (0, "0"), (False, "false"), ("", '""'), ([], "[]")]
)
def test_an_output_that_is_nothing_is_shown(output, json):
    tree = shown(run_tree(a_run("completed"), [a_step("completed", output=output)]))
    assert tree.splitlines()[-1] == f"    └── {json}"


def test_the_state_of_each_step_is_told():
    steps = [
        a_step("running", attempts=2),
        a_step("retrying", error="ValueError: [red]no[/]", duration=None),
        a_step("waiting", dependencies=["x", "y"], attempts=0, duration=None),
    ]
    run = a_run("started")
    assert shown(run_tree(run, steps)).splitlines() == [
        f"run {run.run_id} of a_flow: started for 1 min 1 s",
        "├── a_step running for 250 ms, attempt 2 of 3",
        "├── a_step retrying, attempt 1 of 3",
        "│   └── ValueError: [red]no[/]",
        "└── a_step waiting  after x, y",
    ]


def test_a_run_is_a_row_that_fits_a_terminal():
    run = a_run("failed")
    header, row = shown(runs_table([run]), width=80).splitlines()
    assert header.split() == ["RUN", "FLOW", "STATUS", "AGO", "DURATION", "STEPS"]
    assert " ".join(row.split()) == f"{run.run_id} a_flow failed 2 h 1 min 1 s 1/2"
