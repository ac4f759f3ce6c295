"""The options that name keys and the object storage."""

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
    help="The key file that encrypts and decrypts blobs. Default: systemd's credential"
    " pgflow-keys.",
)


def in_utc(ctx: click.Context, param: click.Parameter, value: datetime | None) -> datetime | None:
    """Take a time without a zone as UTC."""
    return value and value.replace(tzinfo=UTC)


sealed_only_option = click.option(
    "--sealed-only",
    type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]),
    callback=in_utc,
    metavar="DATE",
    help="Refuse unencrypted values of runs that started at this day or time (UTC) or later.",
)
objects_option = click.option(
    "--objects",
    metavar="URL",
    envvar="PGFLOW_OBJECTS",
    show_envvar=True,
    help="The object storage for large values: s3://, gs:// or az://BUCKET/PREFIX, or"
    " file:///FOLDER.",
)


def key_ring(path: Path | None) -> KeyRing | None:
    """Read the key ring from this file, or otherwise from the systemd credential.

    Raises:
        KeyRingError: The keys cannot be read or used.
    """
    return KeyRing.from_file(path) if path else KeyRing.from_credential()


def object_store(url: str | None) -> ObjectStore | None:
    """Open the object storage at this URL.

    Raises:
        SettingsError: The URL cannot be used. The message does not quote it.
    """
    if not url:
        return None
    try:
        return ObjectStore.from_url(url)
    except (ValueError, ImportError) as error:
        raise SettingsError(str(error)) from error
