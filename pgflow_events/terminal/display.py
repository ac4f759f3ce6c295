"""Shows runs on a terminal.

Slugs, outputs and errors come from users. They are shown as text, never as rich's markup, and
without control characters.
"""

from collections.abc import Sequence

from rich.console import RenderableType
from rich.text import Text
from rich.tree import Tree

from pgflow_events.core.summaries import BlobSummary, RunSummary, StepSummary
from pgflow_events.terminal.tables import Column, WholeTable
from pgflow_events.texts import duration, one_line, printable, short_duration, shortened, size

LONGEST_ERROR = 1000  # characters: long enough for the advice at the end of an error
STYLES = {
    "completed": "green",
    "running": "cyan",
    "retrying": "yellow",
    "failed": "red",
    "cancelled": "dim",
    "skipped": "dim",
}


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
        status(run.state),
        short_duration(run.age),
        duration(run.duration),
        f"{run.steps_done}/{run.steps_total}",
    )


def run_tree(run: RunSummary, steps: Sequence[StepSummary], *, values: bool = True) -> Tree:
    """A run with its steps and their results. Each step follows its dependencies."""
    tree = Tree(
        Text.assemble(
            f"run {run.run_id} of {run.flow_slug}: ",
            status(run.state),
            f" {'for' if run.ended_at is None else 'in'} {duration(run.duration)}",
        )
    )
    for step in steps:
        branch = tree.add(step_line(step))
        for detail in step_details(step, values=values):
            branch.add(detail)
    return tree


def least_width(steps: Sequence[StepSummary]) -> int:
    """The width that the tree needs so that no slug breaks."""
    return len("├── (after ),") + max((len(step.step_slug) for step in steps), default=0)


def step_line(step: StepSummary) -> Text:
    """The state of a step, in one line."""
    line = Text(step.step_slug, "bold", end="")
    if step.dependencies:
        line.append(f" (after {', '.join(step.dependencies)})", "dim")
    line.append(" ").append(status(step.status))
    if step.duration is not None:
        line.append(f" {'for' if step.status == 'running' else 'in'} {duration(step.duration)}")
    if step.attempts > 1 or step.status == "retrying":
        line.append(f", attempt {step.attempts} of {step.max_attempts}")
    return line


def step_details(step: StepSummary, *, values: bool) -> list[RenderableType]:
    """The output of a step or its last error. A blob is described, not shown."""
    if step.status == "completed":
        return [value(step.output, step.blob)] if values or step.blob else []
    return [Text(one_line(step.error, LONGEST_ERROR), "red")] if step.error else []


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
