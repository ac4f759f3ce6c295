"""Runs as they are shown on a terminal.

What comes from users (slugs, outputs, errors) is put in as text, never as rich's markup, and
without control characters: a terminal would obey them.
"""

from collections.abc import Sequence
from typing import Any

import orjson
from rich.console import RenderableType
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from pgflow_events.summaries import BlobSummary, RunSummary, StepSummary
from pgflow_events.texts import duration, one_line

STYLES = {
    "completed": "green",
    "started": "cyan",
    "running": "cyan",
    "retrying": "yellow",
    "failed": "red",
    "cancelled": "dim",
    "skipped": "dim",
}


def runs_table(runs: Sequence[RunSummary]) -> Table:
    """A table of runs, a row for each."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for name in ("RUN", "FLOW", "STATUS", "AGO", "DURATION", "STEPS"):
        table.add_column(name, no_wrap=name != "FLOW", overflow="fold")
    for run in runs:
        table.add_row(
            str(run.run_id),
            Text(run.flow_slug),
            status(run.status),
            " ".join(duration(run.age).split()[:2]),
            duration(run.duration),
            f"{run.steps_done}/{run.steps_total}",
        )
    return table


def run_tree(run: RunSummary, steps: Sequence[StepSummary], *, values: bool = True) -> Tree:
    """A run with its steps, each after its dependencies, and what became of them."""
    tree = Tree(
        Text.assemble(
            f"run {run.run_id} of {run.flow_slug}: ",
            status(run.status),
            f" {'for' if run.ended_at is None else 'in'} {duration(run.duration)}",
        )
    )
    for step in steps:
        branch = tree.add(step_line(step))
        for detail in step_details(step, values=values):
            branch.add(detail)
    return tree


def step_line(step: StepSummary) -> Text:
    """A step's state in a line."""
    line = Text.assemble((step.step_slug, "bold"), " ", status(step.status))
    if step.duration is not None:
        line.append(f" {'for' if step.status == 'running' else 'in'} {duration(step.duration)}")
    if step.attempts > 1 or step.status == "retrying":
        line.append(f", attempt {step.attempts} of {step.max_attempts}")
    if step.dependencies:
        line.append(f"  after {', '.join(step.dependencies)}", "dim")
    return line


def step_details(step: StepSummary, *, values: bool) -> list[RenderableType]:
    """The output of a step, of a blob what it is, or its last error."""
    if step.status == "completed":
        return [value(step.output, step.blob)] if values or step.blob else []
    return [Text(one_line(step.error), "red")] if step.error else []


def value(inline: Any, blob: BlobSummary | None) -> Text:
    """A value as JSON, shortened; of a blob only what it is."""
    if blob is None:
        return Text(one_line(orjson.dumps(inline).decode()))
    raw, stored = decimal(blob["raw_size"]), decimal(blob["stored_size"])
    size = raw if raw == stored else f"{raw} as {stored}"
    return Text(f"{blob['kind']}, {size}{', forgotten' if blob['forgotten'] else ''}")


def status(name: str) -> Text:
    """A status in its colour."""
    return Text(name, STYLES.get(name, ""))
