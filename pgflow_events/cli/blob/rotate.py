"""`pgflow-events blob rotate`."""

from functools import partial
from pathlib import Path

import click
import trio

from blobstore.keys import KeyRing
from pgflow_events.cli.command import Command, Failure, json_option, print_json, say
from pgflow_events.cli.database import database, dsn_option
from pgflow_events.cli.stores import key_ring, keys_option
from pgflow_events.errors import SettingsError
from pgflow_events.postgres.connection import Connection
from pgflow_events.texts import counted, printable
from pgflow_events.upkeep.rotation import BATCH, Rotated
from pgflow_events.upkeep.rotation import rotate as rotate_blobs


@click.command(cls=Command, examples=("pgflow-events blob rotate --keys keys",))
@keys_option
@click.option(
    "--batch",
    type=click.IntRange(min=1),
    default=BATCH,
    show_default=True,
    help="The number of blobs that each commit looks at.",
)
@dsn_option
@json_option
def rotate(*, keys: Path | None, batch: int, dsn: str | None, as_json: bool) -> None:
    """Move blobs to the first key of the key file.

    Each blob has a key of its own. This command encrypts these keys again, with the first key of
    the file. It leaves the contents as they are. Workers may run meanwhile. You can interrupt it,
    and call it again to go on.

    The exit code is 1 if some blobs still need another key. Keep a key until no blob needs it.
    """
    ring = key_ring(keys)
    if ring is None:
        raise SettingsError("no keys: give --keys a file with the new key first, then the old ones")
    rotated = Rotated()
    with database(dsn) as found:
        trio.run(partial(rotate_now, found, ring, rotated, batch))
    if as_json:
        print_json(
            {"key": ring.active, "rotated": rotated.blobs, "left": rotated.left,
             "damaged": rotated.damaged}
        )  # fmt: skip
    else:
        say(f"{counted(rotated.blobs, 'blob')} moved to key {ring.active}")
    if rotated.left:
        raise Failure(left(rotated))


async def rotate_now(dsn: str, ring: KeyRing, rotated: Rotated, batch: int) -> None:
    """Rotate the blobs of a database."""
    async with await Connection.connect(dsn) as connection:
        try:
            await rotate_blobs(connection, ring, rotated, batch=batch)
        except BaseException:  # Ctrl-C is not an Exception
            say(f"{counted(rotated.blobs, 'blob')} moved so far: call it again to go on", err=True)
            raise


def left(rotated: Rotated) -> str:
    """The blobs that still need another key, in one line."""
    by_key = ", ".join(f"{count:,} with {printable(key)}" for key, count in rotated.left.items())
    if rotated.damaged:
        return (
            f"blobs are left: {by_key}; {len(rotated.damaged):,} of them are damaged, the first is"
            f" {rotated.damaged[0]}: see `pgflow-events blob check --deep`"
        )
    return (
        f"blobs are left: {by_key}: add the key to the file if it lacks it, restart workers that"
        " still encrypt with it, and call this again"
    )
