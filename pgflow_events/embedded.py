"""A private PostgreSQL, for machines that have none.

A server is a folder: ``data`` (the cluster and its socket), ``server.log`` and the log
before. Who takes the folder's lock starts a server in it, and hands the lock down to the
server's processes, so that it is free again when the last of them is gone, however they
ended. Who finds the lock taken uses the server that runs there.
"""

import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal, Self

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.pq import PGconn, Ping

from pgflow_events.errors import EmbeddedError
from pgflow_events.misuse import SyncOnly
from pgflow_events.programs import Programs, find_binaries, make_folder, user_of

if sys.platform != "win32":
    import fcntl

INITDB_OPTIONS = "--auth-local=peer --auth-host=reject -E UTF8 --locale=C --no-instructions"
HALF_MADE = ".initdb-"
SOCKET = ".s.PGSQL.5432"
SOCKET_PATH_LIMIT = 107 if sys.platform == "linux" else 103


class EmbeddedServer(SyncOnly):
    """A PostgreSQL of one's own, running while the context is entered.

    It listens on a Unix socket only, and lets in only the operating system's user who
    started it, as a superuser of the same name. When this process ends in whatever way,
    SIGKILL included, the server shuts down cleanly (on Linux; on macOS a process killed by
    SIGTERM or SIGKILL leaves it running, and the next context attaches to it).

    Where a server runs in the same folder already, the context attaches to it and leaves
    it running. It goes away with its owner, and the connections break.

    Blocks for about 25 ms on entering, a second the first time, and 20 ms on leaving:
    enter before ``trio.run()``.

    Args:
        folder: Where the server lives, made if missing. Default:
            ``pgflow_events/postgres-<major>`` in the user's data folder, for root in
            ``/var/lib``.
        binaries: The folder of ``postgres`` and ``initdb``. Default: :func:`find_binaries`.
        settings: Server settings, such as ``{"max_connections": "200"}``. Unused when
            attached.
        patience: Seconds to wait for the start, and for each way of stopping.

    Attributes:
        folder: Where the server lives.
        version: PostgreSQL's major version, such as 18.
        pid: The process id of the postmaster.
        attached: Whether the server belongs to another process.
    """

    how_to = "with EmbeddedServer() as server: trio.run(...)"

    folder: Path
    version: int
    pid: int
    attached: bool

    def __init__(
        self,
        folder: Path | None = None,
        *,
        binaries: Path | None = None,
        settings: Mapping[str, str] = {},
        patience: float = 30.0,
    ) -> None:
        if sys.platform == "win32":
            raise EmbeddedError("the embedded PostgreSQL runs on Linux and macOS only")
        self._given_folder = folder
        self._given_binaries = binaries
        self._settings = settings
        self._patience = patience
        self._process: subprocess.Popen[str] | None = None
        self._short_folder: Path | None = None
        self._refusal = ""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def conninfo(self) -> str:
        """The connection string, as libpq writes it, of the database ``pgflow``."""
        user = user_of(os.geteuid()).pw_name
        return make_conninfo(host=self._sockets, port=5432, user=user, dbname="pgflow")

    def start(self) -> None:
        """Start the server, or attach to the one that runs in the folder.

        Raises:
            EmbeddedError: It cannot be started, or not from this thread.
        """
        # The kernel ends the server when the *thread* that started it ends.
        if threading.current_thread() is not threading.main_thread():
            raise EmbeddedError("start the embedded PostgreSQL from the main thread")
        try:
            self._prepare()
            self._start(time.monotonic() + self._patience)
        except BaseException as error:
            self.stop("immediate")
            if isinstance(error, OSError | psycopg.Error):
                raise EmbeddedError(f"cannot start PostgreSQL: {error}") from error
            raise

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop the server, unless it belongs to another process.

        Args:
            mode: ``fast`` ends the sessions and writes everything down; ``immediate`` leaves
                the next start to recover. Past the patience, the next harder way is taken.
        """
        process, self._process = self._process, None
        ways = [signal.SIGINT, signal.SIGQUIT, signal.SIGKILL][mode == "immediate" :]
        while process and process.poll() is None:
            process.send_signal(ways.pop(0))
            with suppress(subprocess.TimeoutExpired):
                process.wait(self._patience if ways else None)
        if self._short_folder:
            shutil.rmtree(self._short_folder, ignore_errors=True)

    def _prepare(self) -> None:
        self._programs = Programs(self._given_binaries or find_binaries())
        self.version = self._programs.version
        self.folder = (self._given_folder or _default_folder(self.version)).absolute()
        self._data = self.folder / "data"
        make_folder(self.folder)
        if self._data.exists():
            self._adopt_data()

    def _adopt_data(self) -> None:
        self._programs.account = user_of(self._data.stat().st_uid)
        made_by = int((self._data / "PG_VERSION").read_text())
        if made_by != self.version:
            raise EmbeddedError(
                f"{self._data} was made by PostgreSQL {made_by}, "
                f"but {self._programs.binaries} is PostgreSQL {self.version}"
            )

    def _start(self, deadline: float) -> None:
        lock = os.open(self.folder, os.O_RDONLY)
        try:
            self._wait_until(lambda: self._attaches() or self._takes(lock), deadline)
            if not self.attached:
                self._clear_remains()
                if not self._data.exists():
                    self._initdb(lock)
                self._launch(lock)
                self._wait_until(self._is_ready, deadline)
        finally:
            os.close(lock)

    def _attaches(self) -> bool:
        entries = self._pid_file()
        if entries.get("state") == "ready":
            self.pid, self._sockets = int(entries["pid"]), entries["sockets"]
            self.attached = self._connects()
            return self.attached
        return False

    def _takes(self, lock: int) -> bool:
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.attached = False
            return True
        return False

    def _clear_remains(self) -> None:
        # The lock is ours: what is here was left by a killed server, even where its pid is a
        # zombie's or another program's by now, for which PostgreSQL would refuse to start.
        if self._is_alive():
            raise EmbeddedError(f"{self._in_use()}, a server that was started by hand")
        for half_made in self.folder.glob(f"{HALF_MADE}*"):
            shutil.rmtree(half_made)
        for name in ("postmaster.pid", SOCKET, f"{SOCKET}.lock"):
            (self._data / name).unlink(missing_ok=True)

    def _is_alive(self) -> bool:
        entries = self._pid_file()
        address = make_conninfo(
            host=entries.get("sockets"), port=entries.get("port"), connect_timeout=2
        )
        return bool(entries) and PGconn.ping(address.encode()) in (Ping.OK, Ping.REJECT)

    def _initdb(self, lock: int) -> None:
        new = self._new_folder(HALF_MADE, self.folder)
        try:
            user = user_of(os.geteuid()).pw_name
            self._programs.run(
                "initdb", f"-D{new}", f"-U{user}", *INITDB_OPTIONS.split(), lock=lock
            )
            new.rename(self._data)
            os.fsync(lock)  # lest a power cut bring back the name that is cleared away
        finally:
            shutil.rmtree(new, ignore_errors=True)

    def _launch(self, lock: int) -> None:
        self._sockets = str(self._socket_folder())
        settings = {
            **self._settings,
            "port": "5432",
            "listen_addresses": "",
            "unix_socket_directories": '"' + self._sockets.replace('"', '""') + '"',
        }
        options = [f"-c{name}={value}" for name, value in settings.items()]
        log = self.folder / "server.log"
        if log.exists():
            log.replace(self.folder / "server.log.1")
        log.touch(0o600)  # it quotes statements, and root's folder may be passed through
        with log.open("w") as output:
            self._process = self._programs.spawn(
                "postgres", f"-D{self._data}", *options, stdout=output, lock=lock
            )
        self.pid = self._process.pid

    def _socket_folder(self) -> Path:
        path = os.fsencode(self._data / SOCKET)
        if len(path) <= SOCKET_PATH_LIMIT and b"," not in path:  # libpq takes it for two hosts
            return self._data
        runtime = os.environ.get("XDG_RUNTIME_DIR", "") if os.geteuid() else ""
        parent = runtime if os.access(runtime, os.W_OK) else tempfile.gettempdir()
        self._short_folder = self._new_folder("pgflow-", Path(parent))
        return self._short_folder

    def _is_ready(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            raise EmbeddedError(f"PostgreSQL did not start:\n{self._end_of_log()}")
        entries = self._pid_file()
        if (entries.get("pid"), entries.get("state")) != (str(self.pid), "ready"):
            return False
        return self._connects()

    def _connects(self) -> bool:
        timeout = math.ceil(self._patience)
        try:
            psycopg.connect(self.conninfo, connect_timeout=timeout).close()
        except psycopg.OperationalError as error:
            self._refusal = str(error)
        else:
            return True
        admin = make_conninfo(self.conninfo, dbname="postgres", connect_timeout=timeout)
        with suppress(psycopg.Error), psycopg.connect(admin, autocommit=True) as connection:
            connection.execute("create database pgflow")
        return False  # whoever asks comes again

    def _pid_file(self) -> dict[str, str]:
        names = ("pid", "data", "started", "port", "sockets", "addresses", "memory", "state")
        with suppress(FileNotFoundError):
            lines = (self._data / "postmaster.pid").read_text().splitlines()
            return {name: line.strip() for name, line in zip(names, lines, strict=False)}
        return {}

    def _wait_until(self, done: Callable[[], bool], deadline: float) -> None:
        while not done():  # asked again and again: a file is all that tells of the readiness
            if time.monotonic() > deadline:
                raise EmbeddedError(
                    f"{self._in_use()}, a server that is not ready after {self._patience} s. "
                    f"{self._refusal}\n{self._end_of_log()}"
                )
            time.sleep(0.005)

    def _in_use(self) -> str:
        return f"{self.folder} is in use by pid {self._pid_file().get('pid', 'unknown')}"

    def _end_of_log(self) -> str:
        with suppress(FileNotFoundError):
            text = (self.folder / "server.log").read_text(errors="replace")
            return "\n".join(text.splitlines()[-20:])
        return "(no log)"

    def _new_folder(self, prefix: str, parent: Path) -> Path:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        if not os.geteuid():
            os.chown(folder, self._programs.account.pw_uid, self._programs.account.pw_gid)
        return folder


def _default_folder(version: int) -> Path:
    if not os.geteuid():
        base = Path("/var/lib")  # root's home is closed to the account the server runs as
    elif sys.platform == "darwin":
        base = Path.home() / "Library/Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share")
    return base / "pgflow_events" / f"postgres-{version}"
