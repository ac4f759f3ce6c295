"""Runs as they are shown on a terminal.

What comes from users (slugs, outputs, errors) is put in as text, never as rich's markup, and
without control characters: a terminal would obey them.
"""

from collections.abc import Sequence

from rich.console import RenderableType
from rich.text import Text
from rich.tree import Tree

from pgflow_events.core.summaries import BlobSummary, RunSummary, StepSummary
from pgflow_events.terminal.tables import Column, WholeTable
from pgflow_events.texts import duration, one_line, printable, short_duration, shortened, size

LONGEST_ERROR = 1000  # characters: what to do stands at the end
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
    """A table of runs, a row for each."""
    return WholeTable(RUN_COLUMNS, [run_row(run) for run in runs])


def run_row(run: RunSummary) -> tuple[str | Text, ...]:
    """What the table says of a run."""
    return (
        str(run.run_id),
        Text(run.flow_slug),
        status(run.state),
        short_duration(run.age),
        duration(run.duration),
        f"{run.steps_done}/{run.steps_total}",
    )


def run_tree(run: RunSummary, steps: Sequence[StepSummary], *, values: bool = True) -> Tree:
    """A run with its steps, each after its dependencies, and what became of them."""
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
    """The columns that this tree takes if no slug is to break."""
    return len("├── (after ),") + max((len(step.step_slug) for step in steps), default=0)


def step_line(step: StepSummary) -> Text:
    """A step's state in a line."""
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
    """The output of a step, of a blob what it is, or its last error."""
    if step.status == "completed":
        return [value(step.output, step.blob)] if values or step.blob else []
    return [Text(one_line(step.error, LONGEST_ERROR), "red")] if step.error else []


def value(inline: str | None, blob: BlobSummary | None) -> Text:
    """A value as JSON, shortened; of a blob only what it is."""
    if blob is None:
        return Text(shortened(inline or "null"))
    raw, stored = size(blob["raw_size"]), size(blob["stored_size"])
    sizes = raw if raw == stored else f"{raw} as {stored}"
    forgotten = ", forgotten" if blob["forgotten"] else ""
    return Text(printable(f"{blob['kind']}, {sizes}{forgotten}"))


def status(name: str) -> Text:
    """A status in its colour."""
    return Text(name, STYLES.get(name, ""))
