"""Finds out what an id names: runs and blobs have ids of the same form."""

from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from psycopg.rows import class_row

from pgflow_events.errors import PgflowError, UnknownRun
from pgflow_events.postgres.connection import Connection
from pgflow_events.texts import MOST_NAMES


@dataclass(frozen=True, slots=True)
class Named:
    """The run or blob that has an id."""

    kind: Literal["run", "blob"]
    run_id: UUID | None
    """Of a blob, the run that it belongs to."""
    step_slug: str | None
    """Of a blob, its step; `run` for the input."""
    blobs: list[str]
    """Of a run, the first of its blobs, each as `step id`: the outputs of maps, not of their
    tasks."""


# One more than a message names.
NAMED = f"""
select 'run' as kind, r.run_id, null as step_slug, array(
  select b.step_slug || ' ' || b.id from (
    select 'run' as step_slug, r.input_blob_id as id
    union all
    select c.step_slug, c.output_blob_id from pgflow.step_states c where c.run_id = r.run_id
    union all
    select t.step_slug, t.output_blob_id
    from pgflow.step_states c
    join pgflow.steps s using (flow_slug, step_slug)
    join pgflow.step_tasks t on t.run_id = c.run_id and t.step_slug = c.step_slug
    where c.run_id = r.run_id and s.step_type = 'single'
  ) b where b.id is not null order by b.id limit {MOST_NAMES + 1}
) as blobs
from pgflow.runs r where r.run_id = %(id)s
union all
select 'blob', b.run_id, b.step_slug, '{{}}' from pgflow.output_blobs b where b.id = %(id)s
"""  # noqa: S608 - put together from constants


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
        more = " and more" if len(found.blobs) > MOST_NAMES else ""
        named = ", ".join(found.blobs[:MOST_NAMES])
        text += f": that is a run, whose blobs are {named}{more}"
    elif found and found.kind == "run":
        text += ": that is a run without blobs; `blob cat RUN STEP` prints small outputs too"
    return PgflowError(text)
