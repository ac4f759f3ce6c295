"""`pgflow-events blob train`."""

from functools import partial

import click
import trio

from blobstore.values.dictionaries import DEFAULT_SIZE, MAX_SIZE, MIN_SIZE
from pgflow_events.cli.blob.reading import open_blobs
from pgflow_events.cli.command import Command, Failure, json_option, print_json, say
from pgflow_events.cli.database import database, dsn_option
from pgflow_events.cli.quantities import size_text
from pgflow_events.texts import counted
from pgflow_events.upkeep.training import Trained, train_step


@click.command(
    cls=Command,
    examples=(
        "pgflow-events blob train analyze_website website",
        "pgflow-events blob train analyze_website website --dry-run --json",
    ),
)
@click.argument("flow")
@click.argument("step")
@click.option(
    "--samples",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="The largest number of blobs to read, and of outputs in rows. The newest come first.",
)
@click.option(
    "--size",
    type=click.IntRange(MIN_SIZE, MAX_SIZE),
    default=DEFAULT_SIZE,
    show_default=True,
    help="The largest size of the dictionary, in bytes.",
)
@click.option("--dry-run", is_flag=True, help="Say what the dictionary gains, and store nothing.")
@dsn_option
@json_option
def train(
    *, flow: str, step: str, samples: int, size: int, dry_run: bool, dsn: str | None, as_json: bool
) -> None:
    """Train a compression dictionary for the outputs of a step.

    A dictionary stores once what the outputs of a step have in common. It makes small outputs,
    such as pages of one site, several times smaller.

    The command trains on three of four stored outputs, and measures the gain on the others. Running
    workers use the dictionary within some minutes. Outputs that are already stored do not change.

    A dictionary holds pieces of outputs unencrypted. So a flow with encrypted blobs is refused.
    """
    train_it = partial(train_now, flow=flow, step=step, samples=samples, size=size, dry_run=dry_run)
    try:
        with database(dsn) as found:
            trained = trio.run(train_it, found)
    except ValueError as error:
        raise Failure(str(error)) from error
    if as_json:
        print_json(trained)
    else:
        say("\n".join(lines(trained, f'"{step}" of flow "{flow}"')))


async def train_now(
    dsn: str, *, flow: str, step: str, samples: int, size: int, dry_run: bool
) -> Trained:
    """Train a dictionary on the outputs in the database."""
    async with open_blobs(dsn) as (connection, blobs):
        return await train_step(
            connection, blobs, flow, step, count=samples, size=size, dry_run=dry_run
        )


def lines(trained: Trained, step: str) -> list[str]:
    """The result, and a better threshold if there is one."""
    number = trained.dictionary_id
    name = "dictionary (not stored)" if number is None else f"dictionary {number}"
    ratios = f"{trained.plain_ratio:.1f} without it, {trained.dictionary_ratio:.1f} with it"
    trained_on = f"{counted(trained.size, 'byte')}, trained on {counted(trained.samples, 'output')}"
    told = [
        f"{name} for step {step}: {trained_on}",
        f"ratio of {counted(trained.held_out, 'other')}: {ratios}",
    ]
    if trained.better_threshold is not None:
        told.append(
            f"outputs up to {size_text(trained.threshold)} are not blobs and cannot use it:"
            f" blob_threshold={trained.better_threshold} on the step would save"
            f" {trained.saved:.0%} of all bytes"
        )
    return told
