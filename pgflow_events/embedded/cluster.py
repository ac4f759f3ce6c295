"""The data of an embedded PostgreSQL: initdb makes it, and a keeper runs a server on it."""

import os
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from psycopg.conninfo import make_conninfo
from psycopg.pq import PGconn, Ping

from pgflow_events.embedded.environment import own_parameters
from pgflow_events.embedded.folder import HALF_MADE, ServerFolder, closed_parent, opened
from pgflow_events.embedded.programs import ANOTHER, Programs, make_folder, user_of
from pgflow_events.errors import EmbeddedError

INITDB_OPTIONS = "--auth-local=peer --auth-host=reject -E UTF8 --locale=C --no-instructions"


class Cluster:
    """The data of one server.

    Args:
        folder: The folder that holds the data.
        programs: PostgreSQL's programs that make the data and serve it.
    """

    def __init__(self, folder: ServerFolder, programs: Programs) -> None:
        self._folder = folder
        self._programs = programs

    def prepare(self) -> None:
        """Make the folder, or check that it can be used."""
        try:
            make_folder(self._folder.path)
            os.close(self._folder.open_users())
        except OSError as error:
            raise EmbeddedError(f"cannot start PostgreSQL: {error}: {ANOTHER}") from error
        if self._folder.data.exists():
            self._adopt()

    def _adopt(self) -> None:
        """Let the programs run as the owner of the data, after comparing the versions."""
        data, programs = self._folder.data, self._programs
        owner = data.stat().st_uid
        if os.geteuid() not in (0, owner):
            raise EmbeddedError(f"{data} belongs to another user: {ANOTHER}")
        programs.account = user_of(owner)
        if (made_by := self._made_by()) != str(programs.version):
            raise EmbeddedError(
                f"{data} was made by PostgreSQL {made_by}, but {programs.binaries} is PostgreSQL"
                f" {programs.version}: name the programs of PostgreSQL {made_by} by PGFLOW_PG_BIN,"
                f" or {ANOTHER}"
            )

    def _made_by(self) -> str:
        """The major version of the PostgreSQL that made the data, such as 18 or 9.6."""
        with suppress(OSError, UnicodeDecodeError):
            if version := (self._folder.data / "PG_VERSION").read_text().strip():
                return version
        raise EmbeddedError(f"{self._folder.data} holds no data of PostgreSQL: {ANOTHER}")

    def ping(self) -> Ping:
        """Ask the server whose address is in the data whether it answers."""
        entries = self._folder.pid_file()
        where = {"host": entries.get("sockets", "/nowhere"), "port": entries.get("port", 5432)}
        where["dbname"] = "postgres"  # a missing database would be reported in the log
        address = make_conninfo("", **(own_parameters() | where | {"connect_timeout": 2}))
        return Ping(PGconn.ping(address.encode()))

    def clear_remains(self) -> None:
        """Remove what a killed server left. The caller has the folder's lock.

        The pid in an old file may belong to a zombie or another program by now. PostgreSQL would
        refuse to start because of it.
        """
        if self.ping() in (Ping.OK, Ping.REJECT):
            raise EmbeddedError(f"{self._folder.in_use()}, a server that was started by hand")
        self._folder.clear_remains()

    def create(self, lock: int) -> None:
        """Make the data with initdb, which holds the folder's lock too."""
        new = self._new_folder(HALF_MADE, self._folder.path)
        try:
            user = user_of(os.geteuid()).pw_name
            options = [f"-D{new}", f"-U{user}", *INITDB_OPTIONS.split()]
            self._programs.run("initdb", *options, lock=lock)
            new.rename(self._folder.data)
            os.fsync(lock)  # or a power cut could bring back the old name, which is removed
        except EmbeddedError as error:
            raise EmbeddedError(f"{self.what_is_closed()}{error}") from None
        finally:
            shutil.rmtree(new, ignore_errors=True)

    def what_is_closed(self) -> str:
        """The beginning of an error, if a folder is closed to the account; otherwise nothing."""
        account = self._programs.account
        if os.geteuid() or not (closed := closed_parent(self._folder.data, account)):
            return ""
        return (
            f"PostgreSQL does not run as root, and the user {account.pw_name}, as which it runs"
            f" here, may not enter {closed}: choose a folder that others can reach, or"
            f" `chmod o+x {closed}`.\n"
        )

    def launch(self, lock: int, settings: Mapping[str, str], timeout: float) -> None:
        """Start a keeper. Its server holds the folder's lock too."""
        folder, litter = self._folder.socket_place(self._programs.account), ""
        if folder != self._folder.data:
            folder = self._new_folder("pgflow-", folder)
            litter = str(folder)
        ours = {
            "port": "5432",
            "listen_addresses": "",
            "unix_socket_directories": '"' + str(folder).replace('"', '""') + '"',
        }
        options = [f"-c{name}={value}" for name, value in {**settings, **ours}.items()]
        with opened(self._folder.new_log()) as log:
            self._programs.keep(
                "postgres",
                f"-D{self._folder.data}",
                *options,
                users=self._folder.users,
                lock=lock,
                log=log,
                timeout=timeout,
                litter=litter,
            )

    def _new_folder(self, prefix: str, parent: Path) -> Path:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        if not os.geteuid():
            os.chown(folder, self._programs.account.pw_uid, self._programs.account.pw_gid)
        return folder
