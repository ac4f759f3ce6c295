"""`pgflow-events blob key`."""

import click

from blobstore.keys import KeyRing
from pgflow_events.cli.command import Command, say


@click.command(cls=Command, examples=("pgflow-events blob key 2026-05 >> keys",))
@click.argument("key_id", metavar="ID")
def key(key_id: str) -> None:
    """Print a new key for a key file.

    Prints one line for the file: the ID, a colon, and 32 random bytes as base64. A date is a good
    ID. The command stores nothing. If you lose this line, you lose all values encrypted with it.
    """
    say(KeyRing.new_line(key_id))
