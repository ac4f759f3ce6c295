"""Runs as they are shown on a terminal."""

import io
import time
from dataclasses import replace
from datetime import UTC, datetime
from math import inf
from uuid import uuid4

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.console import Console

from pgflow_events.core.step_summaries import StepSummary
from pgflow_events.core.summaries import RunSummary
from pgflow_events.terminal.console import print_whole
from pgflow_events.terminal.display import least_width, run_tree, runs_table, value
from pgflow_events.texts import SIZES, UNITS, duration, one_line, short_duration, size

NOW = datetime.now(UTC)
SECONDS = {"ms": 0.001, **dict(UNITS)}


def pairs(words: list[str]) -> list[tuple[str, str]]:
    return list(zip(words[::2], words[1::2], strict=True))


def near_power(power: int) -> st.SearchStrategy[int]:
    return st.integers(1000**power - 1000**power // 1000, 1000**power + 1)


def shown(renderable, width: int = 200) -> str:
    output = io.StringIO()
    Console(file=output, width=width, force_terminal=False).print(renderable)
    return output.getvalue()


def a_run(status: str) -> RunSummary:
    ended = None if status == "started" else NOW
    state = "retrying" if status == "started" else status
    return RunSummary(uuid4(), "a_flow", status, state, None, NOW, ended, 7200.0, 61.4, 1, 2)


def a_step(status: str, **facts) -> StepSummary:
    usual = {
        "step_slug": "a_step", "dependencies": [], "attempts": 1, "max_attempts": 3,
        "error": None, "output": None, "worker_id": None, "queued_at": NOW,
        "started_at": NOW, "ended_at": None, "duration": 0.25, "blob": None, "starts_at": None,
        "skip_reason": None, "tasks": None, "error_index": None,
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
    assert one_line("\n a\x1b[2Jb\x9bc\nnext") == "a�[2Jb�c; next"
    assert one_line("x" * 200) == "x" * 99 + "…"
    assert one_line("") == ""


def test_what_is_several_lines_becomes_one_and_each_is_told_apart():
    assert one_line("refused\n\tIs the server running?\n\nAll failed:\n- one") == (
        "refused; Is the server running? All failed: - one"
    )


def test_of_a_value_all_is_shown_and_not_its_first_line_alone():
    assert str(value('"a\u2028b  c"', None)) == '"a�b  c"'
    assert str(value(f'"{"x" * 200}"', None)) == f'"{"x" * 98}…'


def test_what_to_do_about_an_error_is_shown_though_it_stands_at_its_end():
    told = f"ValidationError: 1 error\n{'x' * 200}\n  give `value`"
    tree = run_tree(a_run("failed"), [a_step("failed", error=told)])
    told = shown(tree, 400)
    assert "1 error; xxx" in told
    assert "xxx; give `value`" in told
    tree = run_tree(a_run("failed"), [a_step("failed", error="x" * 8000)])
    assert shown(tree, 2000).count("x") == 999


def test_a_blob_is_told_of_by_its_sizes():
    sizes = {"id": "", "kind": "text", "codec": "zstd", "raw_size": 1_200_000, "forgotten": False}
    assert str(value(None, {**sizes, "stored_size": 180_000})) == "text, 1.2 MB as 180.0 kB"
    assert str(value(None, {**sizes, "stored_size": 1_200_000})) == "text, 1.2 MB"
    gone = {**sizes, "stored_size": 180_000, "forgotten": True}
    assert str(value(None, gone)) == "text, 1.2 MB as 180.0 kB, forgotten"


@pytest.mark.parametrize("json", ["null", "0", "false", '""', "[]"])
def test_an_output_that_is_nothing_is_shown(json):
    tree = shown(run_tree(a_run("completed"), [a_step("completed", output=json)]))
    assert tree.splitlines()[-1] == f"    └── {json}"


def test_the_state_of_each_step_is_told():
    steps = [
        a_step("running", attempts=2),
        a_step("retrying", error="ValueError: [red]no[/]", duration=None),
        a_step("waiting", dependencies=["x", "y"], attempts=0, duration=None),
    ]
    run = a_run("started")
    assert shown(run_tree(run, steps)).splitlines() == [
        f"run {run.run_id} of a_flow: retrying for 1 min 1 s",
        "├── a_step running for 250 ms, attempt 2 of 3",
        "├── a_step retrying, attempt 1 of 3",
        "│   └── ValueError: [red]no[/]",
        "└── a_step (after x, y) waiting",
    ]


def a_map(status: str, total: int | None, counts: dict[str, int], **facts) -> StepSummary:
    names = ("done", "running", "retrying", "waiting", "failed", "lost", "cancelled", "skipped")
    tasks = {"total": total, **{name: counts.get(name, 0) for name in names}}
    return a_step(status, tasks=tasks, attempts=3, **facts)


def test_a_map_is_a_line_whatever_the_number_of_its_elements():
    going_on = {"done": 41_230, "running": 200, "retrying": 50, "waiting": 58_500, "lost": 20}
    gone_wrong = {"done": 5, "failed": 1, "cancelled": 4}
    error = "ValueError: no\n  page"
    steps = [
        a_map("running", 100_000, going_on, dependencies=["links"], error=error, error_index=17),
        a_map("failed", 10, gone_wrong, ended_at=NOW, error=error, error_index=0),
        a_map("completed", 1_000, {"done": 1_000}, ended_at=NOW),
        a_map("completed", 0, {}, ended_at=NOW),
        a_map("waiting", None, {}, dependencies=["links"], duration=None),
    ]
    lines = shown(run_tree(a_run("started"), steps, values=False)).splitlines()[1:]
    assert lines == [
        (
            "├── a_step (for each of links) running for 250 ms: 41,230 of 100,000 done,"
            " 200 running, 50 retrying, 58,500 waiting, 20 lost"
        ),
        "│   └── element 17: ValueError: no; page",
        "├── a_step (for each of the input) failed in 250 ms: 5 of 10 done, 1 failed, 4 cancelled",
        "│   └── element 0: ValueError: no; page",
        "├── a_step (for each of the input) completed in 250 ms: 1,000 done",
        "├── a_step (for each of the input) completed in 250 ms: no elements",
        "└── a_step (for each of links) waiting",
    ]


def test_a_step_that_was_skipped_says_why():
    reasons = ("condition_unmet", "dependency_skipped", "handler_failed", "run_ended", "other")
    steps = [a_step("skipped", skip_reason=reason, duration=None) for reason in reasons]
    steps[2] = replace(steps[2], error="ValueError: no")
    lines = shown(run_tree(a_run("completed"), steps)).splitlines()[1:]
    assert lines == [
        "├── a_step skipped: its condition is not met",
        "├── a_step skipped: a step before it was skipped",
        "├── a_step skipped: no attempt was left",
        "│   └── ValueError: no",
        "├── a_step skipped: the run had ended",
        "└── a_step skipped",
    ]


def test_what_is_delayed_says_when_it_starts(monkeypatch):
    monkeypatch.setenv("TZ", "UTC-1")
    time.tzset()
    christmas = datetime(2026, 12, 24, 17, 0, 0, 999_999, UTC)
    run = replace(a_run("started"), state="delayed", starts_at=christmas)
    step = a_step("delayed", duration=None, attempts=0, starts_at=christmas)
    told = "starts at 2026-12-24 18:00:00+01:00"
    first, second = shown(run_tree(run, [step])).splitlines()
    assert first == f"run {run.run_id} of a_flow: {told} for 1 min 1 s"
    assert second == f"└── a_step {told}"
    assert told in shown(runs_table([run]))
    monkeypatch.undo()
    time.tzset()


@given(st.floats(0, 1e9, allow_nan=False) | st.integers(0, 10**6).map(lambda n: n / 1000))
@example(0.9996)
@example(59.96)
@example(3599.6)
@example(86399.7)
def test_no_unit_of_a_duration_is_full(seconds):
    full = {"ms": 1000, "s": 60, "min": 60, "h": 24}
    words = duration(seconds).split()
    assert all(float(n) < full.get(unit, inf) for n, unit in pairs(words))
    assert short_duration(seconds).split() == words[:2]
    measured = sum(float(n) * SECONDS[unit] for n, unit in pairs(words))
    assert measured == pytest.approx(seconds, rel=0.06, abs=0.0006)


@given(st.integers(0, 10**18) | st.integers(1, 6).flatmap(near_power))
@example(999_950)
def test_no_unit_of_a_size_is_full_and_one_is_no_plural(count):
    number, unit = size(count).split()
    assert float(number) < 1000 or unit == "EB"
    assert (unit == "byte") == (count == 1)
    powers = {"byte": 0, "bytes": 0, **{u: n for n, u in enumerate(SIZES, 1)}}
    assert float(number) * 1000 ** powers[unit] == pytest.approx(count, rel=0.051)


def test_a_negative_duration_is_that_of_another_clock():
    assert duration(-3) == "0 ms"


@given(width=st.integers(20, 120), slug=st.text("abc_", min_size=1, max_size=47))
def test_in_no_window_a_slug_or_id_breaks(width, slug):
    run = replace(a_run("started"), flow_slug=slug)
    header, row, *note = printed(runs_table([run]), width).splitlines()
    assert row.split()[:3] == [str(run.run_id), slug, "retrying"]
    assert bool(note) == (len(header.split()) < 6)
    if note:
        assert note[0].startswith("left out: ")
        assert width < max(map(len, printed(runs_table([run]), 300).splitlines()))
    assert len(row) <= max(width, 36 + max(len(slug), 4) + 10)


def test_in_a_tree_no_slug_breaks():
    first, second = "a" * 100, "b" * 128
    steps = [a_step("completed"), a_step("waiting", step_slug=first)]
    steps.append(a_step("waiting", step_slug=second, dependencies=[first, first]))
    tree = shown(run_tree(a_run("started"), steps), least_width(steps))
    assert tree.count(first) == 3
    assert tree.count(second) == 1


def printed(renderable, width: int) -> str:
    output = io.StringIO()
    print_whole(Console(file=output, width=width, force_terminal=False), renderable)
    return output.getvalue()


def test_a_run_is_a_row_that_fits_a_terminal():
    run = a_run("failed")
    header, row = shown(runs_table([run]), width=80).splitlines()
    assert header.split() == ["RUN", "FLOW", "STATUS", "AGO", "DURATION", "STEPS"]
    assert " ".join(row.split()) == f"{run.run_id} a_flow failed 2 h 1 min 1 s 1/2"
