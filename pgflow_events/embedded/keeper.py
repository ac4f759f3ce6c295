"""Keeps the embedded PostgreSQL running for as long as somebody uses it.

A program of its own, started by its path; it imports no other module of the package, and so is
there in 15 ms. It starts the server, and stops it when it gets the lock that each user holds a
share of: the kernel gives a share back however its process ends.

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
# Without our variables: no secrets, no PGPORT, and no NOTIFY_SOCKET, on which Debian's postgres
# would report to systemd that our service is ready.
ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C"}


def end_with_parent() -> Callable[[], None] | None:
    """Have the kernel stop the child when its parent ends, however it ends."""
    if sys.platform != "linux":
        return None
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    def before_exec() -> None:  # after a fork: nothing here may import or take a lock
        # The interpreter's own handler would swallow what comes before the exec.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        # Where it is ignored, as below some daemons, initdb does not see its programs succeed.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        prctl(PR_SET_PDEATHSIG, int(signal.SIGINT), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return before_exec


def main(users: str, lock: str, timeout: str, account: str, litter: str, *command: str) -> None:
    """Run the server until nobody uses it.

    Args:
        users: The file of which each user holds a shared lock.
        lock: The descriptor that all of the server's processes hold.
        timeout: Seconds in which the server should be stopped, in one of three ways.
        account: The number of the user and of the group that the server runs as, with a colon
            between them; or nothing, to run as we do.
        litter: A folder to remove at the end, or nothing.
        *command: The server.
    """
    if os.fork():
        os._exit(0)  # the process that started us need not wait for our end
    used = os.open(users, os.O_RDONLY)  # first of all: without it nothing would stop the server
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
    """Stop the server once nobody uses it. A later user waits until this process has ended.

    PostgreSQL does not end by SIGINT while it recovers after the crash of one of its processes.
    """
    fcntl.flock(used, fcntl.LOCK_EX)
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        server.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            server.wait(timeout)
            return


if __name__ == "__main__":
    main(*sys.argv[1:])
