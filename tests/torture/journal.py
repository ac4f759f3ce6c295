"""Where each attempt is noted that a handler began: a file, which no crash of a server undoes.

A write to it is the kernel's as soon as it returns, so that it outlasts the process, too.
"""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt that began."""

    run_id: UUID
    step_slug: str
    task_index: int
    attempt: int
    pid: int
    at: float
    """Seconds since 1970."""


class Journal:
    """The journal of one process."""

    def __init__(self, folder: Path) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        self._file = os.open(folder / f"attempts-{os.getpid()}", flags, 0o600)

    def note(self, run_id: UUID, step_slug: str, attempt: int, index: int = 0) -> None:
        """Note that an attempt begins."""
        line = f"{run_id} {step_slug} {index} {attempt} {os.getpid()} {time.time():.6f}\n"
        os.write(self._file, line.encode())


def read(folder: Path) -> Iterator[Attempt]:
    """What all processes have noted."""
    for file in folder.glob("attempts-*"):
        for line in file.read_text().splitlines():
            run_id, step, index, attempt, pid, at = line.split()
            yield Attempt(UUID(run_id), step, int(index), int(attempt), int(pid), float(at))
