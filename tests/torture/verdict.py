"""What is to be said of a torture once all has ended."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
import trio
from rich.table import Table

from pgflow_events.postgres.connection import Connection
from tests.torture import journal, noted, report
from tests.torture.commands import others
from tests.torture.flows import PLAIN
from tests.torture.leavers import prove_processes
from tests.torture.ordeal import Ordeal
from tests.torture.proof import Violation, prove, prove_blobs, prove_log, violation


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was done, and what must not be."""

    table: Table
    violations: Sequence[Violation]


def judge(ordeal: Ordeal) -> Verdict:
    """Compare all that was noted with all that is there."""
    with psycopg.connect(ordeal.dsn, autocommit=True) as connection:
        own = ordeal.load.started
        foreign, wrong = others(connection, ordeal.folder, list(own))
        happened = ordeal.injector.happened
        noted.load(
            connection,
            own | foreign,
            journal.read(ordeal.folder),
            happened,
            plain_runs(connection),
        )
        violations = [
            *prove(connection),
            *prove_log(ordeal.server.folder / "log", happened),
            *prove_processes(ordeal.folder, ordeal.crew.left),
            *violation("a process that was killed told of what is not so", wrong),
        ]
        done, took = report.done(connection), report.times(connection)
        took["from the end of a run until its client knew"] = report.lags(
            connection, ordeal.load.told
        )
    violations += trio.run(blob_faults, ordeal.dsn)
    violations += complaints(ordeal)
    took["from a client's start to its result"] = ordeal.load.latencies
    counts = done | {
        **ordeal.injector.counts,
        **report.told(ordeal.folder / "workers.log"),
        "starts whose answer was lost, that had happened": ordeal.load.repeated,
    }
    drained = "never" if ordeal.drained is None else f"in {ordeal.drained:.1f} s"
    title = f"seed {ordeal.seed}, {ordeal.seconds:g} s; all ended {drained} after the last fault"
    return Verdict(report.table(title, counts, took), violations)


def plain_runs(connection: psycopg.Connection[Any]) -> dict[UUID, str]:
    """The runs whose flow does not follow from their inputs."""
    found = connection.execute("select run_id from pgflow.runs where flow_slug = %s", [PLAIN])
    return dict.fromkeys((run_id for (run_id,) in found), PLAIN)


async def blob_faults(dsn: str) -> list[Violation]:
    """What is wrong with blobs."""
    async with await Connection.connect(dsn) as connection:
        return await prove_blobs(connection)


def complaints(ordeal: Ordeal) -> list[Violation]:
    """What went wrong in the sight of clients and processes."""
    waiting = ["in vain"] * ordeal.load.waiting
    return [
        *violation("a client got a wrong answer", ordeal.load.wrong),
        *violation("a client waits for a run that ended", waiting),
        *violation("a worker ended that was not told to", ordeal.crew.unexpected),
        *violation("workers did not end when they were told to", [] if ordeal.left else [1]),
    ]
