"""Gives the database what was noted outside of it, to be compared with what is in it."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb

from tests.torture.behaviour import Given
from tests.torture.expected import ending_of
from tests.torture.flows import flow_of
from tests.torture.injecting import Happened
from tests.torture.journal import Attempt


def load(
    connection: psycopg.Connection[Any],
    started: Mapping[UUID, Given],
    attempts: Iterable[Attempt],
    happened: Iterable[Happened],
    slugs: Mapping[UUID, str] | None = None,
) -> None:
    """Load the runs that were started, with the ends they must have; attempts; faults.

    `slugs` are the flows of those whose inputs do not say it.
    """
    with connection.cursor() as cursor:
        with cursor.copy("copy torture.expected from stdin") as copy:
            for run_id, given in started.items():
                due = ending_of((slugs or {}).get(run_id) or flow_of(given).slug, given)
                output = Jsonb(due.output) if due.output else None
                copy.write_row((run_id, due.flow_slug, due.statuses, output, due.failing))
        with cursor.copy("copy torture.attempts from stdin") as copy:
            for each in attempts:
                task = (each.run_id, each.step_slug, each.task_index)
                copy.write_row((*task, each.attempt, each.pid, moment(each.at)))
        with cursor.copy("copy torture.faults from stdin") as copy:
            for fault in happened:
                until = moment(fault.until) if fault.until else None
                copy.write_row((fault.kind, fault.pid, moment(fault.at), until))


def moment(seconds: float) -> datetime:
    """Seconds since 1970 as the database takes them."""
    return datetime.fromtimestamp(seconds, UTC)
