"""`pgflow-events blob`, with commands of its own."""

import click

from pgflow_events.cli import Commands

SUMMARIES = {
    "stat": "Show what is stored, by flow and step.",
    "cat": "Write a value to the standard output.",
    "export": "Write the values of a run into files.",
    "check": "Prove that no blob is lost, left over or damaged.",
    "train": "Train a dictionary for the outputs of a step.",
    "key": "Make a key for a key file.",
    "rotate": "Move blobs to the newest key.",
    "sweep": "Remove from the object storage what no blob needs.",
}


@click.command(
    "blob",
    cls=Commands,
    place="pgflow_events.cli.blob.{}",
    summaries=SUMMARIES,
    examples=(
        "pgflow-events blob stat --flow analyze_website",
        "pgflow-events blob cat 0199f3a4-8c07-7d1e-b3a5-91d0c4e2f7a8 | less",
    ),
)
def blob() -> None:
    """Look at stored values, and look after them."""
