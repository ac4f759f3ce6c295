"""Runs the command line as people do: at a terminal."""

import io
import os
import pty
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from ..parts.forking import Forked, Forker
from .conftest import COMMAND


class Shown(NamedTuple):
    """What a command showed, and its exit code."""

    code: int
    output: str
    errors: str


def at_terminal(
    arguments: Sequence[str], environment: Mapping[str, str], forker: Forker | None = None
) -> Shown:
    """Run a command whose output is a terminal, and whose errors go to another one."""
    (ours, output), (ours_too, errors) = pty.openpty(), pty.openpty()
    files = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": errors}
    if forker:
        process = Forked(arguments, forker=forker, env=environment, **files)
    else:
        process = subprocess.Popen([*COMMAND, *arguments], env=environment, text=True, **files)
    os.close(output)
    os.close(errors)
    with ThreadPoolExecutor(2) as threads:
        shown, told = threads.map(read, (ours, ours_too))
    return Shown(process.wait(30), shown, told)


def read(terminal: int) -> str:
    """All that is written to it, until nobody has it open any more."""
    written = b""
    with io.FileIO(terminal) as file:
        try:
            while some := file.read(4096):
                written += some
        except OSError:  # how Linux says that nobody writes any more
            pass
    return written.decode(errors="surrogateescape").replace("\r\n", "\n")
