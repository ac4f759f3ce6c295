"""Finds out what an id names: runs and blobs have ids of the same form."""

from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from psycopg.rows import class_row

from pgflow_events.errors import PgflowError, UnknownRun
from pgflow_events.postgres.connection import Connection


@dataclass(frozen=True, slots=True)
class Named:
    """The run or blob that has an id."""

    kind: Literal["run", "blob"]
    run_id: UUID | None
    """Of a blob, the run that it belongs to."""
    step_slug: str | None
    """Of a blob, its step; `run` for the input."""
    blobs: list[str]
    """Of a run, its blobs, each as `step id`."""


NAMED = """
select 'run' as kind, r.run_id, null as step_slug, array(
  select b.step_slug || ' ' || b.id from (
    select 'run' as step_slug, r.input_blob_id as id
    union all
    select t.step_slug, t.output_blob_id from pgflow.step_tasks t where t.run_id = r.run_id
  ) b where b.id is not null order by b.id
) as blobs
from pgflow.runs r where r.run_id = %(id)s
union all
select 'blob', b.run_id, b.step_slug, '{}' from pgflow.output_blobs b where b.id = %(id)s
"""


async def identify(connection: Connection, some_id: UUID) -> Named | None:
    """The run or blob of this id, or None."""
    cursor = connection.cursor(row_factory=class_row(Named))
    await cursor.execute(NAMED, {"id": some_id})
    return await cursor.fetchone()


async def refuse_run(connection: Connection, some_id: UUID) -> UnknownRun:
    """The error for an id that no run has."""
    text = f"there is no run {some_id}"
    found = await identify(connection, some_id)
    if found and found.kind == "blob":
        text += f": that is a blob, of step {found.step_slug} of run {found.run_id}"
    return UnknownRun(text)


async def refuse_blob(connection: Connection, some_id: UUID) -> PgflowError:
    """The error for an id that no blob has."""
    text = f"there is no blob {some_id}"
    found = await identify(connection, some_id)
    if found and found.blobs:
        text += f": that is a run, whose blobs are {', '.join(found.blobs)}"
    elif found and found.kind == "run":
        text += ": that is a run without blobs; `blob cat RUN STEP` prints small outputs too"
    return PgflowError(text)
