"""Commands and programs in processes that are forked from one which has imported what they need.

To import it takes most of what a short command costs. All else is as in a process of its own: its
files, environment and folder, its signals and its end.

    python -m tests.parts.forking DESCRIPTOR
"""

import atexit
import ctypes
import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).parents[2]
LONGEST = 1 << 20  # bytes of a request


class Forker:
    """The process that forks, and is asked to by a socket."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-m", "tests.parts.forking", str(theirs.fileno())]
            self._process = subprocess.Popen(command, cwd=ROOT, pass_fds=[theirs.fileno()])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self._process.wait()

    def start(self, files: Sequence[int], **request: Any) -> tuple[int, socket.socket]:
        """The id of a new process, and a socket on which its status will arrive."""
        status, theirs = socket.socketpair()
        with theirs:
            sent = json.dumps(request).encode()
            socket.send_fds(self._socket, [sent], [*files, theirs.fileno()])
        if not (pid := int.from_bytes(status.recv(4), "big")):
            raise ChildProcessError
        return pid, status


class Forked(subprocess.Popen[str]):
    """A process that was forked.

    Args:
        arguments: Of the command line.
        forker: What it is forked from.
        program: A file of Python to run in the place of the command line.
        options: As of any other process.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        forker: Forker,
        program: Path | None = None,
        **options: Any,
    ) -> None:
        self._forker, self._program = forker, program
        super().__init__(arguments, text=True, **options)

    def _execute_child(  # noqa: PLR0917 - as Popen calls it
        self, args, executable, preexec_fn, close_fds, pass_fds, cwd, env, startupinfo,
        creationflags, shell, p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite, *_
    ) -> None:  # fmt: skip
        given = p2cread, c2pwrite, errwrite
        files = [own if file == -1 else file for own, file in enumerate(given)]
        self.pid, self._status = self._forker.start(
            files,
            arguments=args,
            program=str(self._program or ""),
            folder=str(cwd or Path.cwd()),
            environment=env or dict(os.environ),
        )
        self._child_created = True
        self._close_pipe_fds(p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        if wait_flags & os.WNOHANG and not select.select([self._status], [], [], 0)[0]:
            return 0, 0
        with self._status:
            return self.pid, int.from_bytes(self._status.recv(4), "big")

    def _internal_poll(self, *_: object, **__: object) -> int | None:
        if self.returncode is None and self._waitpid_lock.acquire(blocking=False):
            with suppress(OSError):
                pid, status = self._try_wait(os.WNOHANG)
                if pid:
                    self._handle_exitstatus(status)
            self._waitpid_lock.release()
        return self.returncode


class Children:
    """The processes that were forked, and to whom their ends are told."""

    def __init__(self) -> None:
        self._told: dict[int, socket.socket] = {}
        signal.signal(signal.SIGCHLD, self._tell_of_ends)

    def fork(self, told: socket.socket) -> int:
        """Fork, and tell of the child's beginning."""
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
        if child := os.fork():
            self._told[child] = told
            told.send(child.to_bytes(4, "big"))
        else:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
        return child

    def close(self) -> None:
        """Leave, in a child, the others to the parent."""
        for told in self._told.values():
            told.close()

    def _tell_of_ends(self, *_: object) -> None:
        while self._told:
            child, status = os.waitpid(-1, os.WNOHANG)
            if not child:
                break
            with self._told.pop(child) as told, suppress(BrokenPipeError):
                told.send(status.to_bytes(4, "big"))


def serve(requests: socket.socket) -> dict[str, Any]:
    """Fork for each request; return in the child alone."""
    children = Children()
    while True:
        sent, files, _, _ = socket.recv_fds(requests, LONGEST, 4)
        if not sent:
            os._exit(0)
        *standard, status = files
        told = socket.socket(fileno=status)
        if not children.fork(told):
            break
        for file in standard:
            os.close(file)
    requests.close()
    told.close()
    children.close()
    for own, file in enumerate(standard):
        os.dup2(file, own)
        os.close(file)
    request: dict[str, Any] = json.loads(sent)
    return request


def keep_imported() -> None:
    """Let the interpreter's end pass over what was imported before the fork.

    To take that apart copies its pages and takes 20 ms, which is most of a short command.
    """
    for module in sys.modules.values():
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(module))
    for name in IMPORTED & sys.modules.keys():
        del sys.modules[name]


def run(program: str, arguments: list[str], folder: str, environment: dict[str, str]) -> None:
    """Do what a process does that was started with these."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [program or "pgflow-events", *arguments]
    sys.stdin, sys.stdout = open(0), open(1, "w")  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace")  # noqa: SIM115
    if program:
        runpy.run_path(program, run_name="__main__")
    else:
        cli.main()


if __name__ == "__main__":
    atexit.register(keep_imported)  # first, and so it is called last
    from pgflow_events import cli
    from pgflow_events.cli import blob, doctor, prune, runs, show, start, worker  # noqa: F401

    IMPORTED = {*sys.modules} - {"sys", "builtins", "__main__"}
    gc.freeze()
    run(**serve(socket.socket(fileno=int(sys.argv[1]))))
