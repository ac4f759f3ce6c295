"""The settings of workers and clients, and the DSN from the environment."""

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
    """The settings of a worker. A client uses those that it shares with workers.

    Raises:
        SettingsError: A value has the wrong type or is out of range.
    """

    slots: int = 50
    """The largest number of tasks that run at once."""
    connections: int = 4
    """The largest number of connections, besides the one that listens and the one that watches a
    peer."""
    listen_dsn: str | None = field(default=None, repr=False)
    """Where to LISTEN: the server itself, if the DSN leads to a pooler. Poolers lose
    notifications."""
    call_timeout: float = 30.0
    """Seconds to wait for the database to answer a call. After that, the connection is closed."""
    check_interval: float = 60.0
    """Seconds between two self-checks, which prove that notifications arrive, and between two
    rounds of housekeeping, which delete old outputs and runs and create partitions for coming
    days."""
    poll_interval: float = 1.0
    """Seconds between two claims while notifications do not arrive."""
    grace: float = 20.0
    """Seconds that a worker waits for its peers after it has connected. After that, it takes a peer
    that it has not seen for dead. After an outage, peers return within 15 seconds of each other."""
    stop_timeout: float = 25.0
    """Seconds that handlers have to finish after a SIGTERM signal. After that, the worker cancels
    them and gives their tasks back. The default leaves time for that: Kubernetes kills after 30
    seconds, systemd after 90."""
    value_cap: int = VALUE_CAP
    """The size, in bytes, of the largest value in memory. Streams may be larger."""
    input_budget: int = 256 * MIB
    """The largest total size, in bytes, of the blobs that running handlers have loaded. A task with
    larger blobs runs while no other task has blobs loaded."""
    cache_budget: int = 64 * MIB
    """The largest total size, in bytes, of the values that stay in memory for the next steps."""
    keys: Keys | None = None
    """The keys that encrypt blobs. With keys, every value becomes an encrypted blob."""
    sealed_only: datetime | None = None
    """Refuse unencrypted values of runs whose ids have this time or a later one. The time needs a
    zone. With None, unencrypted values are accepted."""
    error_texts: bool | None = None
    """Whether the text of handlers' errors is stored. The text may quote a value. If it is not
    stored, the type of the error is, and where it was raised. None means: only without keys."""
    objects: BlobStore | None = None
    """The object storage for large values, which then do not go into the database."""
    object_threshold: int = OBJECT_THRESHOLD
    """Values of this many bytes or more go to the object storage. A stream goes there if it is
    longer than 4 MiB."""
    keep_runs: timedelta | None = None
    """How long runs are kept after their end, with their tasks, blobs and messages. None means for
    ever."""

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
                "keep_runs must be a timedelta of more than 0 and less than a century, not"
                f" {self.keep_runs}"
            )

    @property
    def stores_error_texts(self) -> bool:
        """Whether the text of handlers' errors is stored."""
        return self.keys is None if self.error_texts is None else self.error_texts

    @classmethod
    def of(cls, settings: Self | None) -> Self:
        """These settings, or the defaults."""
        return settings or cls()


def check_sealed_only(since: datetime | None, keys: Keys | None) -> None:
    """Check the setting `sealed_only`.

    Raises:
        SettingsError: The time has no zone, or there are no keys.
    """
    if since is None:
        return
    if since.tzinfo is None:
        raise SettingsError("sealed_only has no time zone: give one, such as datetime.UTC")
    if keys is None:
        raise SettingsError("sealed_only needs keys: without keys, no value can be read")


def is_age(value: object) -> bool:
    """Whether this is a length of time in the allowed range."""
    return isinstance(value, timedelta) and NO_TIME < value < LONGEST


def dsn_from_environment() -> str | None:
    """The DSN that the environment names, or None if it names none.

    ``PGFLOW_DSN`` comes first, then systemd's credential ``pgflow-dsn``. If only libpq's own
    variables name the server, the result is the empty DSN, with which libpq reads them.
    """
    if dsn := os.environ.get("PGFLOW_DSN"):
        return dsn
    if (dsn := credential("pgflow-dsn")) is not None:
        return dsn
    return "" if any(os.environ.get(name) for name in LIBPQ_VARIABLES) else None


def credential(name: str) -> str | None:
    """The credential that systemd's ``LoadCredential=`` passes under this name, or None.

    Raises:
        SettingsError: The credential cannot be read.
    """
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    if not directory:
        return None
    try:
        return Path(directory, name).read_text().strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        # Not None: the worker would use another database than the operator wants.
        raise SettingsError(
            f"the credential {name} cannot be read: {type(error).__name__}"
        ) from None
