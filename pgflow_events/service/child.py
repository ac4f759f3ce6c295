"""Child processes that exchange JSON with us over pipes, one message a line."""

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from tempfile import TemporaryFile
from typing import IO, Any

import orjson
import trio

from pgflow_events.errors import PgflowError

ENDS_WITHIN = 10.0  # seconds that a process has to end after we ask it to


@asynccontextmanager
async def start(module: str, message: object) -> AsyncIterator["Child"]:
    """Run a module as a process until the block ends.

    The standard input of the process ends when the block ends, or when we are killed. Then the
    process must end too. A cancellation terminates the process. An error of the block comes out
    unchanged.

    Args:
        module: The module, as ``python -m`` takes it.
        message: The first message to the process.

    Raises:
        PgflowError: The process failed, or ended before we asked it to. The note has its stderr.
    """
    # -P: Python must not import files of the current folder.
    command = [sys.executable, "-P", "-m", module]
    with TemporaryFile() as stderr:
        run = partial(
            trio.run_process,
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            check=False,
            start_new_session=True,  # only we get Ctrl-C, and then we end the process
        )
        try:
            async with trio.open_nursery() as nursery:
                child = Child(module, await nursery.start(run), stderr)
                nursery.start_soon(child.watch)
                await child.send(message)
                yield child
                await child.close()
        except BaseExceptionGroup as group:
            if len(group.exceptions) > 1:
                raise
            raise group.exceptions[0] from group.exceptions[0].__cause__


class Child:
    """A child process. :func:`start` creates it."""

    def __init__(self, module: str, process: trio.Process, stderr: IO[bytes]) -> None:
        assert process.stdio  # noqa: S101 - both are pipes
        self._module = module
        self._process = process
        self._pipes = process.stdio
        self._stderr = stderr
        self._received = b""
        self._closing = False

    async def send(self, message: object) -> None:
        """Send a message."""
        try:
            await self._pipes.send_all(orjson.dumps(message) + b"\n")
        except trio.BrokenResourceError:
            await trio.sleep_forever()  # watch() raises the reason

    async def receive(self) -> Any:
        """The next message."""
        while b"\n" not in self._received:
            if not (some := await self._pipes.receive_some()):
                await trio.sleep_forever()  # watch() raises the reason
            self._received += some
        line, _, self._received = self._received.partition(b"\n")
        return orjson.loads(line)

    async def watch(self) -> None:
        """Raise an error if the process fails, or ends too early."""
        status = await self._process.wait()
        if status or not self._closing:
            self._stderr.seek(0)
            said = self._stderr.read().decode(errors="replace").strip()
            error = PgflowError(
                f"{self._module} ended with status {status}: {said.rpartition(chr(10))[2]}"
            )
            error.add_note(said)
            raise error

    async def end(self) -> None:
        """Ask the process to end. It may still send messages."""
        self._closing = True
        await self._pipes.send_eof()

    async def close(self) -> None:
        """Ask the process to end, and kill it if it does not."""
        await self.end()
        with trio.move_on_after(ENDS_WITHIN):
            await self._process.wait()
            return
        self._process.kill()


def receive() -> Any:
    """Receive the next message, in the process."""
    return orjson.loads(sys.stdin.readline())


def send(message: object) -> None:
    """Send a message, in the process."""
    sys.stdout.buffer.write(orjson.dumps(message) + b"\n")
    sys.stdout.buffer.flush()
