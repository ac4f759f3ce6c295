"""`pgflow-events blob cat`."""

import os
import sys
from codecs import getincrementaldecoder
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from datetime import datetime
from functools import partial
from io import IncrementalNewlineDecoder
from pathlib import Path
from typing import Any
from uuid import UUID

import click
import trio

from blobstore import BlobMissing
from pgflow_events.cli.blob.reading import open_blobs
from pgflow_events.cli.command import Command, Failure, an_id, say
from pgflow_events.cli.database import database, dsn_option
from pgflow_events.cli.stores import (
    key_ring,
    keys_option,
    object_store,
    objects_option,
    sealed_only_option,
)
from pgflow_events.core.identify import refuse_blob
from pgflow_events.texts import printable
from pgflow_events.upkeep.exports import save, value_pieces
from pgflow_events.upkeep.values import blob_of, value_of

AS_IT_IS = "for the bytes as they are, use `| less`, --output or --force"


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
    help="Write to a new file instead of the standard output.",
)
@click.option("--force", is_flag=True, help="Write all bytes as they are, even to a terminal.")
@keys_option
@sealed_only_option
@objects_option
@dsn_option
def cat(
    *,
    some_id: UUID,
    step: str | None,
    output: Path | None,
    force: bool,
    keys: Path | None,
    sealed_only: datetime | None,
    objects: str | None,
    dsn: str | None,
) -> None:
    """Write a value to the standard output.

    ID is the id of a blob, as `show --json` names it. With STEP, ID is the id of a run, and the
    command writes the output of that step, whether it is a blob or not. The step `run` stands for
    the input of the run.

    Text is written as UTF-8, JSON as JSON, and bytes as they are. A list that is stored by its
    elements is written as JSON, or refused if elements are bytes. For a terminal, the command
    replaces control characters, and refuses a value that is not text.

    The command reads a large value piece by piece. It finds damage at the end of the value; then
    the exit code is 1.
    """
    options: dict[str, Any] = {
        "keys": key_ring(keys),
        "objects": object_store(objects),
        "sealed_only": sealed_only,
    }
    write = partial(save, path=output) if output else partial(print_bytes, force=force)
    try:
        with database(dsn) as found:
            trio.run(partial(copy, step=step, **options), found, some_id, write)
    except BrokenPipeError:
        # The reader has left. At exit, Python flushes what is still in the buffer.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        raise Failure(f"{error.filename or 'standard output'}: {error.strerror}") from error


async def copy(
    dsn: str,
    some_id: UUID,
    write: Callable[[AsyncGenerator[bytes, None]], Awaitable[None]],
    *,
    step: str | None,
    **options: Any,
) -> None:
    """Read a value, and pass its pieces to `write`."""
    async with open_blobs(dsn, **options) as (connection, blobs):
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
    if sys.stdout is None:  # as after `>&-`; type checkers believe it never is
        raise Failure("the standard output is closed: name a file with --output")
    if sys.stdout.isatty() and not force:
        await print_text(pieces)
        return
    # Not in a thread: Ctrl-C could not end the thread while a pager has stopped reading.
    async for piece in pieces:
        rest = memoryview(piece)
        while rest:  # with PYTHONUNBUFFERED, write() may take only a part
            rest = rest[sys.stdout.buffer.write(rest) :]
    sys.stdout.buffer.flush()


async def print_text(pieces: AsyncGenerator[bytes, None]) -> None:
    """Write a text to a terminal, without control characters.

    Raises:
        Failure: The value is not text.
    """
    # Keeps a part of a character or of a line end until the next piece.
    decoder = IncrementalNewlineDecoder(getincrementaldecoder("utf-8")(), translate=False)
    changed = False
    try:
        async for piece in pieces:
            changed |= print_plainly(decoder.decode(piece))
        changed |= print_plainly(decoder.decode(b"", final=True))
    except UnicodeDecodeError as error:
        raise Failure(f"the value is not text ({error.reason}): {AS_IT_IS}") from error
    if changed:
        say(f"control characters and the like were replaced: {AS_IT_IS}", err=True)


def print_plainly(text: str) -> bool:
    """Write a part of a text. Return whether something in it was replaced."""
    if "\0" in text:
        raise Failure(f"the value is not text (it has U+0000): {AS_IT_IS}")
    lines = text.replace("\r\n", "\n")
    plain = printable(lines, keep="\n\t")
    sys.stdout.write(plain)
    sys.stdout.flush()
    return plain != lines
