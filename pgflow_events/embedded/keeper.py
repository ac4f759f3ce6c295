"""Keeps the embedded PostgreSQL running as long as any process uses it.

This is a program of its own, started by its path. It imports no other module of the package, so
it starts in 15 ms. It starts the server. Each user of the server shares a lock, which the kernel
releases when that process ends. When the keeper gets this lock for itself, it stops the server.

    python -I -S keeper.py USERS LOCK TIMEOUT ACCOUNT LITTER postgres -D ...
"""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

if sys.platform != "win32":
    import fcntl

PR_SET_PDEATHSIG = 1
LOG = 2  # the descriptor that the server writes its log to, as we do
LOG_LIMIT = 16 * 1024 * 1024  # bytes
LOOK = 60.0  # seconds between two looks at the size of the log
# The server gets none of our variables: no secrets, no PGPORT, and no NOTIFY_SOCKET, on which
# Debian's postgres would report to systemd that our service is ready.
ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C"}


def end_with_parent() -> Callable[[], None] | None:
    """Return what a child calls first, so that the kernel stops it when its parent ends."""
    if sys.platform != "linux":
        return None
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    def before_exec() -> None:  # after a fork: nothing here may import or take a lock
        # The interpreter's own handler would swallow a SIGINT that comes before the exec.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        # If it is ignored, as under some daemons, initdb does not see its programs succeed.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        prctl(PR_SET_PDEATHSIG, int(signal.SIGINT), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return before_exec


def main(users: str, lock: str, timeout: str, account: str, litter: str, *command: str) -> None:
    """Run the server until the last of its users has ended.

    Args:
        users: The file of which each user holds a shared lock.
        lock: The descriptor of the folder's lock, which all processes of the server inherit.
        timeout: Seconds in which to stop the server. Each of the three signals gets a third.
        account: The ids of the user and of the group that the server runs as, with a colon
            between them. Empty: the server runs as we do.
        litter: A folder to remove at the end. Empty: none.
        *command: The server's program and its arguments.
    """
    if os.fork():
        os._exit(0)  # the process that started us need not wait for our end
    used = os.open(users, os.O_RDONLY)  # first: without it, nothing would stop the server
    user, group = map(int, account.split(":")) if account else (None, None)
    server = subprocess.Popen(  # noqa: S603 - no shell, and a program we chose
        command,
        cwd="/",
        env=ENVIRONMENT,
        pass_fds=(int(lock),),
        start_new_session=True,
        user=user,
        group=group,
        extra_groups=None if user is None else [],
        preexec_fn=end_with_parent(),  # noqa: PLW1509 - there is one thread so far
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: server.send_signal(signal.SIGINT))
    threading.Thread(
        target=stop_when_unused, args=(server, used, float(timeout) / 3), daemon=True
    ).start()
    before = f"{users.rpartition('/')[0]}/server.log.1"
    threading.Thread(target=bound_log, args=(before,), daemon=True).start()
    server.wait()
    if litter:
        shutil.rmtree(litter, ignore_errors=True)


def bound_log(before: str) -> None:
    """Empty the log, after copying it to `before`, whenever it has grown beyond its limit.

    The server keeps the file open and appends to it, so the file cannot be exchanged.
    """
    while True:
        time.sleep(LOOK)
        if os.fstat(LOG).st_size > LOG_LIMIT:
            with suppress(OSError):  # a full disk, or the folder has been moved
                copy_log(before)
            os.ftruncate(LOG, 0)


def copy_log(to: str) -> None:
    """Copy the log, so that only we can read it."""
    with os.fdopen(os.open(to, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as copy:
        copied = 0
        while piece := os.pread(LOG, 1 << 20, copied):
            copied += copy.write(piece)


def stop_when_unused(server: "subprocess.Popen[bytes]", used: int, timeout: float) -> None:
    """Stop the server once its last user has ended. New users wait until this process has ended.

    SIGINT does not end PostgreSQL while it recovers from a crash of one of its processes.
    """
    fcntl.flock(used, fcntl.LOCK_EX)
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        server.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            server.wait(timeout)
            return


if __name__ == "__main__":
    main(*sys.argv[1:])
