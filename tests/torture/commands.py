"""Processes besides the workers of this package: commands, a client, and a worker in plain SQL.

Each is there to be killed at any moment, so it notes what it is about to do before it does it.
"""

import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import asynccontextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import trio
from psycopg.types.json import Jsonb

from pgflow_events import RunFailed, connect
from pgflow_events.cli import main
from pgflow_events.postgres.pool import Pool
from tests.torture.behaviour import RECORD, Given
from tests.torture.expected import values
from tests.torture.flows import PLAIN, flow_of, mortal
from tests.torture.journal import Journal

FOLDER, ENOUGH = "TORTURE_FOLDER", "enough"
LOST = (psycopg.OperationalError, psycopg.InterfaceError, psycopg.InternalError)
# The numbers of their runs, which others do not have: squares of them are still exact.
FIRST, MOST = 1_000_000, 10_000
PAUSE = 0.2  # seconds between two runs that one of these starts


def log_to(folder: Path, file: str) -> None:
    """Let stderr be a file that all processes write to."""
    log = os.open(folder / file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(log, sys.stderr.fileno())


def command(folder: Path, file: str, *arguments: str) -> None:
    """What a process does: a command, as from a shell."""
    os.environ[FOLDER] = str(folder)
    log_to(folder, file)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    sys.argv = ["pgflow-events", *arguments]
    main()


@asynccontextmanager
async def resources() -> Any:
    """For :attr:`Context.resources` of workers that are commands."""
    async with Pool(os.environ["PGFLOW_DSN"], max_size=2) as pool:
        yield {"journal": Journal(Path(os.environ[FOLDER])), "pool": pool}


class Starts:
    """Notes which inputs a process starts runs with, and which it knows to have started."""

    def __init__(self, folder: Path, kind: str, seed: int, number: int) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        self._file = os.open(folder / f"starts-{kind}-{os.getpid()}", flags, 0o600)
        self._seed = seed
        self._enough = folder / ENOUGH
        self._numbers = count(FIRST + MOST * number)

    @property
    def are_enough(self) -> bool:
        """Whether no more shall be started: all is to come to its end."""
        return self._enough.exists()

    def next(self) -> Given:
        """The next input; no other process has its number."""
        given = Given(seed=self._seed, n=next(self._numbers))
        os.write(self._file, f"about {given['n']}\n".encode())
        return given

    def started(self, given: Given) -> None:
        """Note that its run is there."""
        os.write(self._file, f"started {given['n']}\n".encode())

    def wrong(self, what: str) -> None:
        """Note what must not be."""
        os.write(self._file, f"wrong {what}\n".encode())


def call(dsn: str, folder: Path, seed: int, number: int) -> None:
    """What a process does: start runs as a client, and wait for each."""
    log_to(folder, "commands.log")
    starts = Starts(folder, "client", seed, number)

    async def one() -> None:
        async with connect(dsn) as client:
            while not starts.are_enough:
                given = starts.next()
                run = await client.start(flow_of(given), given)
                starts.started(given)
                try:
                    output = await run.result()
                except RunFailed:
                    output = None
                if output != values(given) and not (output is None and flow_of(given) is mortal):
                    starts.wrong(f"run {run.id} of {given}: {output!r:.200}")
                await trio.sleep(PAUSE)

    async def again() -> None:
        while True:
            with suppress(*LOST, trio.TooSlowError):
                await one()
            await trio.sleep(PAUSE)

    trio.run(again)


def work_in_sql(dsn: str, folder: Path, seed: int, number: int) -> None:
    """What a process does: start runs of a flow in SQL, and do its tasks."""
    log_to(folder, "commands.log")
    journal, starts = Journal(folder), Starts(folder, "sql", seed, number)
    while True:
        with suppress(*LOST), psycopg.connect(dsn, autocommit=True) as connection:
            while True:
                if not starts.are_enough:
                    given = starts.next()
                    connection.execute("select pgflow.start_flow(%s, %s)", [PLAIN, Jsonb(given)])
                    starts.started(given)
                do_tasks(connection, journal)
        time.sleep(PAUSE)


def do_tasks(connection: psycopg.Connection[Any], journal: Journal) -> None:
    """Do what is there; every fifth first attempt fails."""
    poll = """
        select run_id, step_slug, task_index, attempts_count, input
        from pgflow.poll_for_tasks(%s, 2, 5, 1)
    """
    for run_id, step, index, attempt, given in connection.execute(poll, [PLAIN]).fetchall():
        journal.note(run_id, step, attempt)
        connection.execute(RECORD, [run_id, step, index, attempt])
        n = given["run"]["n"]
        task = [run_id, step, index]
        if attempt == 1 and n % 5 == 0:
            connection.execute("select pgflow.fail_task(%s, %s, %s, 'meant')", task)
        else:
            output = n + 1 if step == "add" else given["add"] * 2
            complete = "select pgflow.complete_task(%s, %s, %s, %s)"
            connection.execute(complete, [*task, Jsonb(output)])


def read_starts(folder: Path) -> Iterator[tuple[str, str]]:
    """What all these processes have noted, as words: ``about``, ``started`` or ``wrong``."""
    for file in folder.glob("starts-*"):
        for line in file.read_text().splitlines():
            word, _, what = line.partition(" ")
            yield word, what


RUNS = "select run_id, input from pgflow.runs where run_id <> all(%s)"


def others(
    connection: psycopg.Connection[Any], folder: Path, known: list[UUID]
) -> tuple[dict[UUID, Given], list[str]]:
    """The runs that these processes have started, and what is wrong with them."""
    noted: dict[str, list[str]] = {"about": [], "started": [], "wrong": []}
    for word, what in read_starts(folder):
        noted[word].append(what)
    about = set(noted["about"])
    found = {
        run_id: Given(seed=given["seed"], n=given["n"])
        for run_id, given in connection.execute(RUNS, [known])
        if given and str(given["n"]) in about
    }
    numbers = Counter(str(given["n"]) for given in found.values())
    missing = [f"the run of {n} is not there" for n in noted["started"] if n not in numbers]
    twice = [f"{n} has two runs" for n, runs in numbers.items() if runs > 1]
    return found, noted["wrong"] + missing + twice
