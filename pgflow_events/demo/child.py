"""The processes of the demo, and how they talk: JSON, a line a message, over their pipes."""

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

PATIENCE = 10.0  # seconds a process has to end after it was asked to


@asynccontextmanager
async def start(module: str, message: object) -> AsyncIterator["Child"]:
    """Run a module as a process until the block ends.

    Its standard input ends when the block does, or when we are killed; then it is to end too.
    If cancelled, the process is terminated. What is raised in the block comes out as it is.

    Args:
        module: What ``python -m`` runs.
        message: The first message to it.

    Raises:
        PgflowError: It ended before it was asked to, or failed; with what it wrote to stderr.
    """
    # -P: no file in the folder the user happens to be in may pass for a module.
    command = [sys.executable, "-P", "-m", module]
    with TemporaryFile() as stderr:
        run = partial(
            trio.run_process,
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            check=False,
            start_new_session=True,  # Ctrl-C is for us, who end the process
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
    """A process of the demo; :func:`start` makes it."""

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
            await trio.sleep_forever()  # watch() tells what happened

    async def receive(self) -> Any:
        """The next message."""
        while b"\n" not in self._received:
            if not (some := await self._pipes.receive_some()):
                await trio.sleep_forever()  # watch() tells what happened
            self._received += some
        line, _, self._received = self._received.partition(b"\n")
        return orjson.loads(line)

    async def watch(self) -> None:
        """Raise if the process ends before it should, or fails."""
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
        """Ask the process to end; it may still send messages."""
        self._closing = True
        await self._pipes.send_eof()

    async def close(self) -> None:
        """Ask the process to end, and see that it does."""
        await self.end()
        with trio.move_on_after(PATIENCE):
            await self._process.wait()
            return
        self._process.kill()


def receive() -> Any:
    """In the process: the next message."""
    return orjson.loads(sys.stdin.readline())


def send(message: object) -> None:
    """In the process: send a message."""
    sys.stdout.buffer.write(orjson.dumps(message) + b"\n")
    sys.stdout.buffer.flush()
