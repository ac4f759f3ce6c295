"""`pgflow-events blob`, a group of commands."""

import click

from pgflow_events.cli import Commands

SUMMARIES = {
    "stat": "Show what is stored, by flow and step.",
    "cat": "Write a value to the standard output.",
    "export": "Write the values of a run into files.",
    "check": "Find blobs that are lost, left over or damaged.",
    "train": "Train a compression dictionary for the outputs of a step.",
    "key": "Print a new key for a key file.",
    "rotate": "Move blobs to the first key of the key file.",
    "sweep": "Delete objects that no blob needs from the object storage.",
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
    """Show, export, check and maintain stored values."""
