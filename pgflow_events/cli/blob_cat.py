"""`pgflow-events blob cat`."""

import os
import re
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from functools import partial
from pathlib import Path
from uuid import UUID

import click
import trio

from blobstore import BlobMissing, BlobStore, Keys
from pgflow_events.cli.blob_reading import open_blobs
from pgflow_events.cli.command import Command, Failure, an_id
from pgflow_events.cli.database import database, dsn_option
from pgflow_events.cli.stores import key_ring, keys_option, object_store, objects_option
from pgflow_events.exports import blob_of, save, value_of, value_pieces
from pgflow_events.identify import refuse_blob

# All control characters, of ASCII and of ISO 6429 in UTF-8, but tab, line feed and return.
OBEYED = re.compile(rb"[\0-\x08\x0b\x0c\x0e-\x1f\x7f]|\xc2[\x80-\x9f]")


@click.command(
    cls=Command,
    examples=(
        "pgflow-events blob cat 0199f3a4-8c07-7d1e-b3a5-91d0c4e2f7a8 | less",
        "pgflow-events blob cat 0199f3a4-7f5e-7cc1-8a52-3f0c2d1b9e6a website --output page.html",
    ),
)
@click.argument("some_id", type=an_id, metavar="ID")
@click.argument("step", required=False, metavar="[STEP]")
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write a new file instead of the standard output.",
)
@click.option("--force", is_flag=True, help="Write to a terminal even what it would obey.")
@keys_option
@objects_option
@dsn_option
def cat(
    *,
    some_id: UUID,
    step: str | None,
    output: Path | None,
    force: bool,
    keys: Path | None,
    objects: str | None,
    dsn: str | None,
) -> None:
    """Write a value to the standard output.

    ID is that of a blob, as `show --json` names it. With STEP it is that of a run, whose output of
    this step is written, small or large; the input is that of the step run.

    Its bytes as they are: text as UTF-8, JSON as JSON. A list that is kept by its elements is
    written as JSON, unless some of them are bytes.

    A large value is never in memory as a whole. Whether it is what was stored is known at its
    end only: if it is not, the exit code is 1.
    """
    ring, store = key_ring(keys), object_store(objects)
    write = partial(save, path=output) if output else partial(print_bytes, force=force)
    try:
        with database(dsn) as found:
            trio.run(partial(copy, step=step), found, some_id, write, ring, store)
    except BrokenPipeError:
        # Who reads has seen enough; what is left in the buffer has to go somewhere at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        raise Failure(f"{error.filename or 'standard output'}: {error.strerror}") from error


async def copy(
    dsn: str,
    some_id: UUID,
    write: Callable[[AsyncGenerator[bytes, None]], Awaitable[None]],
    keys: Keys | None,
    objects: BlobStore | None,
    *,
    step: str | None,
) -> None:
    """Copy the bytes of a value to where they are wanted."""
    async with open_blobs(dsn, keys, objects) as (connection, blobs):
        if step is not None:
            value = await value_of(connection, blobs, some_id, step)
        else:
            try:
                value = await blob_of(blobs, some_id)
            except BlobMissing as error:
                raise await refuse_blob(connection, some_id) from error
        async with aclosing(value_pieces(blobs, value)) as pieces:
            await write(pieces)


async def print_bytes(pieces: AsyncGenerator[bytes, None], *, force: bool) -> None:
    """Write to the standard output."""
    careful = sys.stdout.isatty() and not force
    # Not in a thread, which Ctrl-C could not end while a pager reads no further.
    async for piece in pieces:
        if careful and OBEYED.search(piece):
            raise Failure("a terminal would obey what is in it: use `| less`, or --force")
        rest = memoryview(piece)
        while rest:  # with PYTHONUNBUFFERED it may take a part only
            rest = rest[sys.stdout.buffer.write(rest) :]
    sys.stdout.buffer.flush()
