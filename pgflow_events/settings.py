"""What can be set, and where the database is."""

import os
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Self

from blobstore import BlobStore, Keys
from pgflow_events.errors import SettingsError

LIBPQ_VARIABLES = ("PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE", "PGSERVICE")
MIB = 1024 * 1024
VALUE_CAP = 2048 * MIB
OBJECT_THRESHOLD = 16 * MIB
NO_TIME, LONGEST = timedelta(0), timedelta(days=36_500)

COUNTED = (
    "slots",
    "connections",
    "call_timeout",
    "check_interval",
    "poll_interval",
    "grace",
    "stop_timeout",
    "input_budget",
    "object_threshold",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of a worker. A client takes those that it shares with workers.

    Raises:
        SettingsError: A number is out of its range.
    """

    slots: int = 50
    """How many tasks run at once."""
    connections: int = 4
    """How many connections it opens at most, besides the one that listens and the one that watches
    a peer."""
    listen_dsn: str | None = field(default=None, repr=False)
    """Where to LISTEN if not at the worker's DSN: a pooler in between swallows notifications."""
    call_timeout: float = 30.0
    """Seconds the database has to answer a call, before the connection is given up."""
    check_interval: float = 60.0
    """Seconds between two proofs that notifications still arrive, and two rounds of housekeeping:
    to forget, to prune, to make room for the blobs of the next days."""
    poll_interval: float = 1.0
    """Seconds between two claims while notifications do not arrive."""
    grace: float = 20.0
    """Seconds that peers have to return after we have connected, before one that we have not seen
    alive is taken for dead. After an outage they return within 15 seconds of each other."""
    stop_timeout: float = 25.0
    """Seconds that handlers have to finish after SIGTERM, before they are cancelled and their tasks
    given back. Kubernetes kills after 30 seconds, systemd after 90: some are left to give back."""
    value_cap: int = VALUE_CAP
    """Bytes the largest value may have that is held in memory; streams have no cap."""
    input_budget: int = 256 * MIB
    """Bytes of blobs that the running handlers may have loaded together. One that loads more runs
    while no other does that loads any."""
    cache_budget: int = 64 * MIB
    """Bytes of values kept in memory for the steps that come next."""
    keys: Keys | None = None
    """What seals blobs. With it, every value a handler returns becomes a sealed blob."""
    sealed_only: datetime | None = None
    """From when on no run has values in clear, by the time in its id: one that is found in its
    blobs or rows is refused. A time with its zone; None if values in clear are taken."""
    error_texts: bool | None = None
    """Whether what handlers raise is stored with its text, which may quote a value; None if so
    unless there are keys. Without, its type is stored, and where it was raised."""
    objects: BlobStore | None = None
    """Keeps large values in place of the database."""
    object_threshold: int = OBJECT_THRESHOLD
    """Bytes from which on a value goes there; a stream does once it is longer than 4 MiB."""
    keep_runs: timedelta | None = None
    """For how long runs that ended are kept, with all that belongs to them; None for ever."""

    def __post_init__(self) -> None:
        check_sealed_only(self.sealed_only, self.keys)
        for name in (*COUNTED, "value_cap", "cache_budget"):
            if not isinstance(getattr(self, name), int | float):
                raise SettingsError(f"{name} must be a number, not {getattr(self, name)!r}")
        for name in COUNTED:
            if not getattr(self, name) > 0:
                raise SettingsError(f"{name} must be more than 0, not {getattr(self, name)!r}")
        for name in ("value_cap", "cache_budget"):
            if getattr(self, name) < 0:
                raise SettingsError(f"{name} must be at least 0, not {getattr(self, name)!r}")
        if self.keep_runs is not None and not is_age(self.keep_runs):
            raise SettingsError(
                "keep_runs is a timedelta of more than 0 and less than a century, not"
                f" {self.keep_runs}"
            )

    @property
    def stores_error_texts(self) -> bool:
        """Whether what handlers raise is stored with its text."""
        return self.keys is None if self.error_texts is None else self.error_texts

    @classmethod
    def of(cls, settings: Self | None) -> Self:
        """These settings, or the defaults."""
        return settings or cls()


def check_sealed_only(since: datetime | None, keys: Keys | None) -> None:
    """See that values in clear can be refused from this time on.

    Raises:
        SettingsError: It has no zone, or there are no keys.
    """
    if since is None:
        return
    if since.tzinfo is None:
        raise SettingsError("sealed_only takes a time with its zone, such as datetime.UTC")
    if keys is None:
        raise SettingsError("sealed_only takes keys: without them no value could be read")


def is_age(value: object) -> bool:
    """Whether this is a time for which something can be kept."""
    return isinstance(value, timedelta) and NO_TIME < value < LONGEST


def dsn_from_environment() -> str | None:
    """The DSN that the environment names, or None if it names none.

    ``PGFLOW_DSN`` comes first, then systemd's credential ``pgflow-dsn``. Where only libpq's own
    variables say where the server is, the empty DSN lets libpq read them.
    """
    if dsn := os.environ.get("PGFLOW_DSN"):
        return dsn
    if (dsn := credential("pgflow-dsn")) is not None:
        return dsn
    return "" if any(os.environ.get(name) for name in LIBPQ_VARIABLES) else None


def credential(name: str) -> str | None:
    """What systemd's ``LoadCredential=`` gives under this name, or None if it gives nothing.

    Raises:
        SettingsError: It gives something that cannot be read.
    """
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    if not directory:
        return None
    try:
        return Path(directory, name).read_text().strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        # Not None: another database than the one that is meant would be used.
        raise SettingsError(
            f"the credential {name} cannot be read: {type(error).__name__}"
        ) from None
