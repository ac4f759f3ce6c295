"""Proves that workers which were told to leave did so in order, and that no command broke."""

from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from signal import SIGTERM

from tests.torture.proof import Violation, violation

TRACEBACK = "Traceback (most recent call last)"
# Why a worker may end with 1: the server was gone or locked, or the worker was stopped itself.
HANDLERS, CHAINED = "pgflow_events.tasks: ", "exception:"
EXCUSES = ("tasks could not be given back", "something does not end")


def prove_processes(folder: Path, left: Mapping[int, int | None]) -> Iterator[Violation]:
    """What is wrong with the exit codes and the logs."""
    log = read(folder / "workers.log")
    excused = any(excuse in log for excuse in EXCUSES)
    wrong = [
        f"process {pid} ended with {code}"
        for pid, code in left.items()
        if code
        and not (code == 1 and excused)
        # Until it has begun, the signal ends it.
        and not (code == -SIGTERM and not (folder / f"attempts-{pid}").exists())
    ]
    yield from violation("a worker that was told to leave did not do so in order", wrong)
    for file in ("workers.log", "commands.log"):
        yield from violation(f"a traceback in {file}", list(tracebacks(read(folder / file))))


def read(log: Path) -> str:
    """A log, if there is one."""
    return log.read_text(errors="replace") if log.exists() else ""


def tracebacks(log: str) -> Iterator[str]:
    """What was raised, but for the errors of handlers, which are meant."""
    parts = log.split(TRACEBACK)
    is_meant = False
    for before, part in pairwise(parts):
        last = next((line for line in reversed(before.splitlines()) if line.strip()), "")
        is_meant = HANDLERS in last or (is_meant and last.endswith(CHAINED))
        if not is_meant:
            raised = next((line for line in part.splitlines()[1:] if line[:1].strip()), "")
            yield f"{last[:200]}: {raised}"
