"""What blobs are read with: keys, and where large ones are kept."""

from datetime import UTC, datetime
from pathlib import Path

import click

from blobstore.keys import KeyRing
from blobstore.objects import ObjectStore
from pgflow_events.errors import SettingsError

keys_option = click.option(
    "--keys",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The keys that seal and open blobs. Default: systemd's credential pgflow-keys.",
)


def in_utc(ctx: click.Context, param: click.Parameter, value: datetime | None) -> datetime | None:
    """A time that was given without a zone."""
    return value and value.replace(tzinfo=UTC)


sealed_only_option = click.option(
    "--sealed-only",
    type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]),
    callback=in_utc,
    metavar="DATE",
    help="Refuse unencrypted values of runs started on or after this day, or this time in UTC.",
)
objects_option = click.option(
    "--objects",
    metavar="URL",
    envvar="PGFLOW_OBJECTS",
    show_envvar=True,
    help="Where large values are kept: s3://, gs:// or az://BUCKET/PREFIX, or file:///FOLDER.",
)


def key_ring(path: Path | None) -> KeyRing | None:
    """The keys of this file, or of the systemd credential if there is one.

    Raises:
        KeyRingError: They cannot be read or used.
    """
    return KeyRing.from_file(path) if path else KeyRing.from_credential()


def object_store(url: str | None) -> ObjectStore | None:
    """The object storage of this URL.

    Raises:
        SettingsError: It cannot be used; the message does not quote it.
    """
    if not url:
        return None
    try:
        return ObjectStore.from_url(url)
    except (ValueError, ImportError) as error:
        raise SettingsError(str(error)) from error
