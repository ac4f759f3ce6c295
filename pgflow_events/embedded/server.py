"""A private PostgreSQL, for machines that have none.

All processes that use a server are equal. A process that finds no server in the folder starts a
keeper: a program that runs the server until the last of its users has ended, however it ended.
"""

import logging
import math
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from subprocess import CalledProcessError
from typing import Literal, Self

import psycopg
from psycopg.abc import ConnDict
from psycopg.conninfo import make_conninfo
from psycopg.pq import Ping

from pgflow_events.embedded.cluster import Cluster
from pgflow_events.embedded.entering import SyncOnly
from pgflow_events.embedded.environment import own_parameters
from pgflow_events.embedded.folder import ServerFolder, default_folder, opened, takes
from pgflow_events.embedded.programs import Programs, find_binaries, user_of
from pgflow_events.errors import EmbeddedError

log = logging.getLogger("pgflow_events.embedded")


# PGTZ, PGDATESTYLE, PGGEQO or PGSERVICE, which libpq heeds whatever a DSN says.
BLAMED_ON_US = re.compile(
    "invalid value for parameter|parameter .* requires a|definition of service|service file"
)
FAULTS = (OSError, RuntimeError, CalledProcessError, psycopg.Error)

_entered: list["EmbeddedServer"] = []
"""Those that this process uses."""


class EmbeddedServer(SyncOnly):
    """A private PostgreSQL that runs while the context is entered.

    It listens on a Unix socket only. It accepts only the operating system's user that started
    it, as a superuser of the same name.

    Any number of contexts, in any processes of the user, share the server of a folder. The first
    context starts it. It is shut down cleanly after the last context was left, or after the
    process of that context has ended, even by SIGKILL. If the server itself is ended, a
    connection of this package starts it again. A forked child needs a context of its own.

    Blocks for about 50 ms on entering, a second the first time, and 20 ms on leaving:
    enter before `trio.run()`, or in a thread.

    Args:
        folder: Where the server lives, made if missing. Default: `PGFLOW_PG_FOLDER`; without it,
            `pgflow_events/postgres-<major>` in the user's data folder, for root in `/var/lib`.
        binaries: The folder of `postgres` and `initdb`. Default: :func:`find_binaries`.
        settings: Server settings, such as `{"max_connections": "200"}`. Unused while a
            server is running in the folder.
        timeout: Seconds to wait until a server has started, and until one has stopped. Creating
            the data may take longer.
        patience: The old name of `timeout`.

    Attributes:
        folder: Where the server lives.
        version: PostgreSQL's major version, such as 18.
        pid: The process id of the postmaster.
        attached: Whether the server was running already.
    """

    how_to = "with EmbeddedServer() as server: trio.run(...)"

    folder: Path
    version: int
    pid: int
    attached: bool

    _place: ServerFolder
    _sockets: str

    def __init__(
        self,
        folder: Path | str | None = None,
        *,
        binaries: Path | None = None,
        settings: Mapping[str, str] = {},
        timeout: float = 30.0,
        patience: float | None = None,
    ) -> None:
        if sys.platform == "win32":
            raise EmbeddedError("the embedded PostgreSQL runs on Linux and macOS only")
        self._given_folder = folder
        self._given_binaries = binaries
        self._settings = settings
        self._timeout = timeout if patience is None else patience
        self._share: int | None = None
        self._is_left = False
        self._refusal = ""
        self._places: set[str] = set()
        self._one_at_a_time = threading.Lock()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def conninfo(self) -> str:
        """The same as :attr:`dsn`."""
        return self.dsn

    @property
    def dsn(self) -> str:
        """The connection string, as libpq writes it, of the database `pgflow`.

        It sets every parameter that libpq would otherwise take from its environment variables or
        from `~/.pgpass`.
        """
        own: ConnDict = {
            "host": self._sockets,
            "port": 5432,
            "user": user_of(os.geteuid()).pw_name,
            "dbname": "pgflow",
            # In /tmp, another user could put a server in the place of one that has ended.
            "requirepeer": self._programs.account.pw_name,
        }
        return make_conninfo("", **(own_parameters() | own))

    @property
    def place(self) -> ConnDict:
        """Where the socket is now: a temporary folder changes with each start."""
        return {"host": self._sockets}

    def start(self) -> None:
        """Start the server, or attach to the one that runs in the folder.

        Raises:
            EmbeddedError: It cannot be started.
        """
        with self._one_at_a_time:
            self._is_left = False
            try:
                self._prepare()
                self._serve()
            except BaseException as error:
                self._leave("fast")
                if isinstance(error, FAULTS):
                    raise EmbeddedError(f"cannot start PostgreSQL: {error}") from error
                raise

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop the server, unless another context uses it. A start that is under way gives up.

        Args:
            mode: `fast` ends the sessions and writes everything to the disk; `immediate` leaves
                recovery to the next start. After a third of the timeout, the keeper takes the
                next harder way.
        """
        self._is_left = True
        with self._one_at_a_time:
            self._leave(mode)

    def start_again(self) -> bool:
        """Start the server if it has gone, unless this context was left.

        Returns:
            Whether it is there.

        Raises:
            psycopg.OperationalError: It cannot be started.
        """
        with self._one_at_a_time:
            if self._share is None:
                return False
            if self._cluster.ping() != Ping.OK:
                log.warning("the embedded PostgreSQL in %s has ended: starting it", self.folder)
                try:
                    self._serve()
                except (EmbeddedError, *FAULTS) as error:
                    said = str(error).partition("\n")[0].rstrip(":")
                    text = f"{said}: see {self._place.log}"
                    raise psycopg.OperationalError(text) from error
            return True

    def _prepare(self) -> None:
        self._programs = Programs(self._given_binaries or find_binaries())
        self.version = self._programs.version
        # PostgreSQL takes ".." for the text before it, even after a link.
        self.folder = Path(self._given_folder or default_folder(self.version)).resolve()
        self._place = ServerFolder(self.folder)
        self._cluster = Cluster(self._place, self._programs)
        self._cluster.prepare()

    def _serve(self) -> None:
        share = self._join()
        self._wait_until(lambda: takes(share, "share"))  # a server is being stopped
        with opened(self._place.open_lock()) as lock:
            self._wait_until(lambda: self._attaches() or takes(lock, "whole"))
            if not self.attached:
                self._cluster.clear_remains()
                if not self._place.data.exists():
                    self._cluster.create(lock)
                self._cluster.launch(lock, self._settings, self._timeout)
        if not self.attached:
            self._wait_until(self._has_started)
        self._places.add(self._sockets)

    def _join(self) -> int:
        """What we hold our share of: the file that is there, not one that was deleted."""
        if self._share is None:
            self._share = self._place.open_users()
            _entered.append(self)
        elif not self._place.has_users(self._share):
            with opened(self._place.open_users()) as users:
                os.dup2(users, self._share, inheritable=False)
        return self._share

    def _attaches(self) -> bool:
        self.attached = self._is_ready()
        return self.attached

    def _has_started(self) -> bool:
        if self._is_ready():
            return True
        if self._place.is_free():
            closed, said = self._cluster.what_is_closed(), self._place.end_of_log()
            raise EmbeddedError(f"{closed}PostgreSQL did not start:\n{said}")
        return False

    def _is_ready(self) -> bool:
        entries = self._place.pid_file()
        if entries.get("state") != "ready":
            return False
        self.pid, self._sockets = int(entries["pid"]), entries["sockets"]
        return self._connects()

    def _connects(self) -> bool:
        timeout = math.ceil(self._timeout)
        try:
            psycopg.connect(self.dsn, connect_timeout=timeout).close()
        except psycopg.OperationalError as error:
            self._refusal = str(error)
            if BLAMED_ON_US.search(self._refusal):
                raise
        else:
            return True
        admin = make_conninfo(self.dsn, dbname="postgres", connect_timeout=timeout)
        with suppress(psycopg.Error), psycopg.connect(admin, autocommit=True) as connection:
            connection.execute("create database pgflow")
        return False  # whoever asks comes again

    def _leave(self, mode: Literal["fast", "immediate"]) -> None:
        if self._share is None:
            return
        share, self._share = self._share, None
        _entered.remove(self)
        with opened(share):
            is_last = takes(share, "whole")
            if is_last and mode == "immediate":
                with suppress(KeyError, ProcessLookupError):
                    os.kill(int(self._place.pid_file()["pid"]), signal.SIGQUIT)
            is_used = not is_last and takes(share, "share")
        if not is_used:
            with suppress(FileNotFoundError):
                self._place.await_end()

    def _wait_until(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + self._timeout
        while not done():  # asked again and again: only a file shows that the server is ready
            if self._is_left:
                raise EmbeddedError(
                    f"the server in {self.folder} was stopped while it was starting"
                )
            if not self._place.data.exists():  # another makes it, on a disk that may be slow
                deadline = time.monotonic() + self._timeout
            if time.monotonic() > deadline:
                raise EmbeddedError(
                    f"{self._place.in_use()}, a server that is not ready after {self._timeout} s"
                    f"{self._place.way_to_end()}. {self._refusal}\n{self._place.end_of_log()}"
                )
            time.sleep(0.005)

    def _let_go(self) -> None:
        """Close the share in a forked child: it belongs to the parent."""
        self._one_at_a_time = threading.Lock()
        if self._share is not None:
            os.close(self._share)
            self._share = None


def known(host: object) -> EmbeddedServer | None:
    """The server, used by this process, of which a DSN has named this host."""
    return next((server for server in [*_entered] if host in server._places), None)  # noqa: SLF001 - of this module


def _after_fork() -> None:
    while _entered:
        _entered.pop()._let_go()  # noqa: SLF001 - of this module


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
