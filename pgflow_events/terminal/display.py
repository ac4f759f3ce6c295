"""Shows runs on a terminal.

Slugs, outputs and errors come from users. They are shown as text, never as rich's markup, and
without control characters.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import cast

from rich.console import RenderableType
from rich.text import Text
from rich.tree import Tree

from pgflow_events.core.step_summaries import BlobSummary, StepSummary, TaskCounts
from pgflow_events.core.summaries import RunSummary
from pgflow_events.terminal.tables import Column, WholeTable
from pgflow_events.texts import duration, one_line, printable, short_duration, shortened, size

LONGEST_ERROR = 1000  # characters: long enough for the advice at the end of an error
STYLES = {
    "completed": "green",
    "running": "cyan",
    "delayed": "cyan",
    "retrying": "yellow",
    "failed": "red",
    "cancelled": "dim",
    "skipped": "dim",
}
# Why a step was skipped, after the word `skipped`.
REASONS = {
    "condition_unmet": "its condition is not met",
    "dependency_skipped": "a step before it was skipped",
    "handler_failed": "no attempt was left",
    "run_ended": "the run had ended",
}
COUNTED = ("running", "retrying", "waiting", "failed", "lost", "cancelled", "skipped")

RUN_COLUMNS = (
    Column("RUN"),
    Column("FLOW"),
    Column("STATUS"),
    Column("AGO", spare=1),
    Column("DURATION", spare=2),
    Column("STEPS", spare=3),
)


def runs_table(runs: Sequence[RunSummary]) -> WholeTable:
    """A table with a row for each run."""
    return WholeTable(RUN_COLUMNS, [run_row(run) for run in runs])


def run_row(run: RunSummary) -> tuple[str | Text, ...]:
    """The row of a run."""
    return (
        str(run.run_id),
        Text(run.flow_slug),
        run_state(run),
        short_duration(run.age),
        duration(run.duration),
        f"{run.steps_done}/{run.steps_total}",
    )


def run_tree(run: RunSummary, steps: Sequence[StepSummary], *, values: bool = True) -> Tree:
    """A run with its steps and their results. Each step follows its dependencies."""
    tree = Tree(
        Text.assemble(
            f"run {run.run_id} of {run.flow_slug}: ",
            run_state(run),
            f" {'for' if run.ended_at is None else 'in'} {duration(run.duration)}",
            why_cancelled(run),
        )
    )
    for step in steps:
        branch = tree.add(step_line(step))
        for detail in step_details(step, values=values):
            branch.add(detail)
    return tree


def run_state(run: RunSummary) -> Text:
    """The state of a run, or when it starts."""
    return starts(run.starts_at) if run.starts_at else status(run.state)


def why_cancelled(run: RunSummary) -> str:
    """The reason that was given when the run was cancelled, if one was."""
    return f": {one_line(run.cancel_reason, LONGEST_ERROR)}" if run.cancel_reason else ""


def starts(at: datetime) -> Text:
    """When a delayed run or step starts, in the time zone of this machine."""
    return Text(f"starts at {at.astimezone().isoformat(' ', 'seconds')}", STYLES["delayed"])


def least_width(steps: Sequence[StepSummary]) -> int:
    """The width that the tree needs so that no slug breaks."""
    return len("├── (for each of ),") + max((len(step.step_slug) for step in steps), default=0)


def step_line(step: StepSummary) -> Text:
    """The state of a step, in one line. Of a map, the numbers of its tasks."""
    line = Text(step.step_slug, "bold", end="")
    line.append(origin(step), "dim")
    line.append(" ").append(starts(step.starts_at) if step.starts_at else status(step.status))
    if step.duration is not None and step.starts_at is None:
        line.append(f" {'in' if step.ended_at else 'for'} {duration(step.duration)}")
    if reason := REASONS.get(step.skip_reason or ""):
        line.append(f": {reason}")
    if step.tasks:
        line.append(numbers(step.tasks))
    elif step.attempts > 1 or step.status == "retrying":
        line.append(f", attempt {step.attempts} of {step.max_attempts}")
    return line


def origin(step: StepSummary) -> str:
    """What a step comes after, or goes over."""
    if step.tasks:
        return f" (for each of {', '.join(step.dependencies) or 'the input'})"
    return f" (after {', '.join(step.dependencies)})" if step.dependencies else ""


def numbers(tasks: TaskCounts) -> str:
    """How many tasks of a map are in which state; nothing if its list is not known."""
    if tasks["total"] is None:
        return ""
    if not tasks["total"]:
        return ": no elements"
    done, counts = f"{tasks['done']:,}", cast("Mapping[str, int]", tasks)
    of_all = "" if tasks["done"] == tasks["total"] else f" of {tasks['total']:,}"
    said = [f"{done}{of_all} done", *(f"{counts[n]:,} {n}" for n in COUNTED if counts[n])]
    return f": {', '.join(said)}"


def step_details(step: StepSummary, *, values: bool) -> list[RenderableType]:
    """The output of a step or its last error. A blob is described, not shown."""
    details: list[RenderableType] = []
    if step.status == "completed" and (values or step.blob):
        details.append(value(step.output, step.blob))
    if step.error and (step.tasks or step.status != "completed"):
        details.append(Text(one_line(error(step), LONGEST_ERROR), "red"))
    return details


def error(step: StepSummary) -> str:
    """The last error of a step. Of a map, with the index of the element."""
    element = "" if step.error_index is None else f"element {step.error_index}: "
    return f"{element}{step.error}"


def value(inline: str | None, blob: BlobSummary | None) -> Text:
    """A value as shortened JSON, or the kind and sizes of a blob."""
    if blob is None:
        return Text(shortened(inline or "null"))
    raw, stored = size(blob["raw_size"]), size(blob["stored_size"])
    sizes = raw if raw == stored else f"{raw} as {stored}"
    forgotten = ", forgotten" if blob["forgotten"] else ""
    return Text(printable(f"{blob['kind']}, {sizes}{forgotten}"))


def status(name: str) -> Text:
    """A status in its colour."""
    return Text(name, STYLES.get(name, ""))
