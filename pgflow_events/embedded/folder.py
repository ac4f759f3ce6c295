"""The folder of an embedded PostgreSQL: its files, its locks and its socket."""

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from pgflow_events.errors import EmbeddedError

if sys.platform != "win32":
    import fcntl
    import pwd

HALF_MADE = ".initdb-"
SOCKET = ".s.PGSQL.5432"
SOCKET_PATH_LIMIT = 107 if sys.platform == "linux" else 103
ENTRIES = ("pid", "data", "started", "port", "sockets", "addresses", "memory", "state")


class ServerFolder:
    """The folder of an embedded server.

    `data` is the cluster, and mostly has the socket. `server.log` is the server's log, and
    `server.log.1` what it, or the server before it, wrote earlier.

    There are two locks. The kernel releases a lock when the process that holds it ends.

    - All processes of the server hold the lock of the folder itself, and so does a process that
      starts a server.
    - Each process that uses the server holds a shared lock of the file `users`.
    """

    def __init__(self, path: Path) -> None:
        if "\n" in str(path):
            raise EmbeddedError(f"{str(path)!r} has a line break: choose another folder")
        self.path = path
        self.data = path / "data"
        self.log = path / "server.log"
        self.users = path / "users"

    def open_users(self) -> int:
        """Open the file that the users lock, and return its descriptor."""
        return os.open(self.users, os.O_RDONLY | os.O_CREAT, 0o600)

    def has_users(self, descriptor: int) -> bool:
        """Whether the file `users` is still the one with this descriptor."""
        with suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(descriptor), self.users.stat())
        return False

    def open_lock(self) -> int:
        """Open the folder and return a descriptor above 2, so that no program writes to it."""
        with opened(os.open(self.path, os.O_RDONLY)) as found:  # 0 to 2 if these are closed
            return fcntl.fcntl(found, fcntl.F_DUPFD_CLOEXEC, 3)

    def is_free(self) -> bool:
        """Whether the last process of the server has ended."""
        with opened(self.open_lock()) as lock:
            return takes(lock, "whole")

    def await_end(self) -> None:
        """Wait until the server has ended, unless another process uses it."""
        deadline = time.monotonic() + 5
        while not self.is_free():
            with opened(self.open_users()) as users:
                if takes(users, "whole"):
                    if time.monotonic() > deadline:
                        return  # no keeper is left that would lock it
                elif takes(users, "share"):
                    return
            time.sleep(0.005)

    def clear_remains(self) -> None:
        """Remove what a killed server or a killed initdb left."""
        for half_made in self.path.glob(f"{HALF_MADE}*"):
            shutil.rmtree(half_made)
        for name in ("postmaster.pid", SOCKET, f"{SOCKET}.lock"):
            (self.data / name).unlink(missing_ok=True)

    def in_use(self) -> str:
        """The beginning of an error: which process uses the folder."""
        return f"{self.path} is in use by pid {self.pid_file().get('pid', 'unknown')}"

    def way_to_end(self) -> str:
        """How to end a server that cannot be reached, such as one that has lost its socket."""
        pid = self.pid_file().get("pid")
        return f": try again later, or after `kill -INT {pid}`" if pid else ""

    def pid_file(self) -> dict[str, str]:
        """The entries of postmaster.pid. Empty if that file is missing, or came with a copy."""
        with suppress(FileNotFoundError):
            lines = os.fsdecode((self.data / "postmaster.pid").read_bytes()).split("\n")
            entries = dict(zip(ENTRIES, lines, strict=False))
            entries["state"] = entries.get("state", "").strip()
            data, sockets = entries.get("data", ""), entries.get("sockets", "")
            if sockets == data:  # the socket moved with the folder, when that was moved or copied
                return entries | {"sockets": str(self.data)}
            return entries if self._is_data(data) else {}
        return {}

    def _is_data(self, path: str) -> bool:
        with suppress(OSError, ValueError):
            return self.data.samefile(path)
        return False

    def end_of_log(self) -> str:
        """The last lines that the server wrote."""
        with suppress(FileNotFoundError):
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])
        return "(no log)"

    def new_log(self) -> int:
        """Start an empty log and return its descriptor. The log before it is kept."""
        with suppress(FileNotFoundError):
            self.log.replace(self.path / "server.log.1")
        # The log quotes statements, and other users may pass through root's folder.
        return os.open(self.log, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC, 0o600)

    def socket_place(self, account: "pwd.struct_passwd") -> Path:
        """Where a socket can be: `data`, or a folder in which to make one for the socket."""
        if _fits(self.data):
            return self.data
        runtime = os.environ.get("XDG_RUNTIME_DIR", "") if os.geteuid() else ""
        for parent in (runtime, tempfile.gettempdir(), "/tmp"):  # noqa: S108 - mode 0700 in it
            place = Path(parent)
            if (
                os.access(parent, os.W_OK)
                and _fits(place / "pgflow-12345678")
                and (os.geteuid() or not closed_parent(place / "socket", account))
            ):
                return place
        raise EmbeddedError(f"no folder for the socket of {self.path}: set TMPDIR to a short path")


@contextmanager
def opened(descriptor: int) -> Iterator[int]:
    """Close a descriptor after the block."""
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def takes(descriptor: int, part: Literal["whole", "share"]) -> bool:
    """Lock an open file, or return False if others hold it. Changes a lock that we have."""
    with suppress(BlockingIOError):
        kind = fcntl.LOCK_EX if part == "whole" else fcntl.LOCK_SH
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        return True
    return False


def _fits(folder: Path) -> bool:
    """Whether a DSN can name a socket in this folder."""
    path = os.fsencode(folder / SOCKET)
    # In libpq a comma ends the host, and psycopg gives libpq everything in UTF-8.
    return (
        len(path) <= SOCKET_PATH_LIMIT
        and b"," not in path
        and path == str(folder / SOCKET).encode(errors="replace")
    )


def closed_parent(path: Path, account: "pwd.struct_passwd") -> Path | None:
    """The first folder on the way to `path` that this account may not enter, by its mode."""
    for parent in reversed(path.parents):
        found = parent.stat()
        mine = found.st_mode & 0o001
        if found.st_uid == account.pw_uid:
            mine = found.st_mode & 0o100
        elif found.st_gid == account.pw_gid:
            mine = found.st_mode & 0o010
        if not mine:
            return parent
    return None


def default_folder(version: int) -> Path:
    """The folder of the server if the caller names none."""
    if chosen := os.environ.get("PGFLOW_PG_FOLDER"):
        return Path(chosen)
    given = os.environ.get("XDG_DATA_HOME", "")
    if not os.geteuid():
        base = Path("/var/lib")  # root's home is closed to the account the server runs as
    elif sys.platform == "darwin":
        base = Path.home() / "Library/Application Support"
    else:
        base = Path(given) if given.startswith("/") else Path.home() / ".local/share"
    return base / "pgflow_events" / f"postgres-{version}"
