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

from blobstore import BlobStore, Keys
from pgflow_events.cli.blob_reading import open_blobs
from pgflow_events.cli.command import Command, Failure
from pgflow_events.cli.database import database, dsn_option
from pgflow_events.cli.stores import key_ring, keys_option, object_store, objects_option
from pgflow_events.exports import save, value_pieces

# All control characters, of ASCII and of ISO 6429 in UTF-8, but tab, line feed and return.
OBEYED = re.compile(rb"[\0-\x08\x0b\x0c\x0e-\x1f\x7f]|\xc2[\x80-\x9f]")


@click.command(
    cls=Command,
    examples=(
        "pgflow-events blob cat 0199f3a4-7f5e-7cc1-8a52-3f0c2d1b9e6a | less",
        "pgflow-events blob cat 0199f3a4-7f5e-7cc1-8a52-3f0c2d1b9e6a --output page.html",
    ),
)
@click.argument("blob_id", type=click.UUID, metavar="ID")
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
    blob_id: UUID,
    output: Path | None,
    force: bool,
    keys: Path | None,
    objects: str | None,
    dsn: str | None,
) -> None:
    """Write a value to the standard output.

    Its bytes as they are: text as UTF-8, JSON as JSON. A list that is kept by its elements is
    written as JSON, unless some of them are bytes. `show --json` names the ID.

    A large value is never in memory as a whole. Whether it is what was stored is known at its
    end only: if it is not, the exit code is 1.
    """
    ring, store = key_ring(keys), object_store(objects)
    write = partial(save, path=output) if output else partial(print_bytes, force=force)
    try:
        with database(dsn) as found:
            trio.run(copy, found, blob_id, write, ring, store)
    except BrokenPipeError:
        # Who reads has seen enough; what is left in the buffer has to go somewhere at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        raise Failure(f"{error.filename or 'standard output'}: {error.strerror}") from error


async def copy(
    dsn: str,
    blob_id: UUID,
    write: Callable[[AsyncGenerator[bytes, None]], Awaitable[None]],
    keys: Keys | None,
    objects: BlobStore | None,
) -> None:
    """Copy the bytes of a value to where they are wanted."""
    async with (
        open_blobs(dsn, keys, objects) as (_, blobs),
        aclosing(value_pieces(blobs, blob_id)) as pieces,
    ):
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
