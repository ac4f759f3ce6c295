"""Finds the values of a run: its input, and the outputs of its steps and tasks."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson
from psycopg.rows import class_row

from blobstore import Blob, Blobs, NotSealed, Place
from blobstore.postgres.rows import OF_TASKS
from pgflow_events.core.identify import refuse_run
from pgflow_events.core.summaries import summarize_runs
from pgflow_events.errors import PgflowError
from pgflow_events.flow.inline import has_only_nulls
from pgflow_events.postgres.connection import Connection
from pgflow_events.texts import printable


@dataclass(frozen=True, slots=True)
class Value:
    """A value of a run, as it is stored in its row."""

    step_slug: str
    """`run` for the input."""
    task_index: int
    blob_id: UUID | None
    kind: str
    """`text` or `json`. Says nothing about a blob."""
    content: str | None
    """The text or the JSON. None if the value is a blob."""
    last_index: int | None
    """Of a task of a map, the index of its last task."""


# The input of a run, and the output of each of its tasks.
VALUES = """
select
  v.step_slug, v.task_index, v.blob_id,
  case jsonb_typeof(v.value) when 'string' then 'text' else 'json' end as kind,
  case jsonb_typeof(v.value) when 'string' then v.value #>> '{}' else v.value::text end as content,
  v.last_index
from (
  select
    'run' as step_slug, 0 as task_index, -1 as step_index, r.input_blob_id as blob_id,
    case when r.input_blob_id is null then r.input end as value, null::integer as last_index
  from pgflow.runs r where r.run_id = %(run_id)s
  union all
  select
    t.step_slug, t.task_index, s.step_index, t.output_blob_id, t.output,
    case when s.step_type = 'map' then c.initial_tasks - 1 end
  from pgflow.step_tasks t
  join pgflow.steps s on s.flow_slug = t.flow_slug and s.step_slug = t.step_slug
  join pgflow.step_states c on c.run_id = t.run_id and c.step_slug = t.step_slug
  where t.run_id = %(run_id)s and t.status = 'completed'
) v
order by v.step_index, v.task_index
"""


# The output of one step: of a map, that of all its tasks.
VALUE = """
select
  v.step_slug, v.task_index, v.blob_id,
  case jsonb_typeof(v.value) when 'string' then 'text' else 'json' end as kind,
  case jsonb_typeof(v.value) when 'string' then v.value #>> '{}' else v.value::text end as content,
  null::integer as last_index
from (
  select
    'run' as step_slug, 0 as task_index, r.input_blob_id as blob_id,
    case when r.input_blob_id is null then r.input end as value
  from pgflow.runs r where r.run_id = %(run_id)s and %(step)s = 'run'
  union all
  select
    c.step_slug, case when s.step_type = 'map' then -1 else 0 end,
    coalesce(t.output_blob_id, c.output_blob_id), coalesce(t.output, c.output)
  from pgflow.step_states c
  join pgflow.steps s using (flow_slug, step_slug)
  left join pgflow.step_tasks t
    on s.step_type = 'single' and t.run_id = c.run_id and t.step_slug = c.step_slug
    and t.task_index = 0
  where c.run_id = %(run_id)s and c.step_slug = %(step)s and c.status = 'completed'
) v
"""

WITH_OUTPUTS = """
select c.step_slug
from pgflow.step_states c join pgflow.steps s using (flow_slug, step_slug)
where c.run_id = %s and c.status = 'completed' order by s.step_index
"""


async def find_values(connection: Connection, run_id: UUID) -> list[Value]:
    """The input of a run, and the outputs of its tasks. Each step follows its dependencies."""
    cursor = connection.cursor(row_factory=class_row(Value))
    await cursor.execute(VALUES, {"run_id": run_id})
    return await cursor.fetchall()


async def handle_of(blobs: Blobs, run_id: UUID, value: Value) -> Blob[Any]:
    """The handle of a value, whether it is a blob or not."""
    if value.blob_id is None:
        content = value.content or ""
        try:
            blobs.admit_inline(run_id)
        except NotSealed:
            if not (value.task_index == OF_TASKS and has_only_nulls(orjson.loads(content))):
                raise
        return Blob.of(run_id, content if value.kind == "text" else orjson.Fragment(content))
    place = Place(run_id, value.step_slug, value.task_index)
    return (await blobs.load([], [value.blob_id])).handle(value.blob_id, place)


async def blob_of(blobs: Blobs, blob_id: UUID) -> Blob[Any]:
    """The handle of a blob."""
    return (await blobs.load([], handles=[blob_id])).handle(blob_id)


async def value_of(connection: Connection, blobs: Blobs, run_id: UUID, step_slug: str) -> Blob[Any]:
    """The output of a step, whether it is a blob or not. For `run`, the input of the run.

    Raises:
        UnknownRun: No run has this id.
        PgflowError: The run has no output of this step.
    """
    cursor = connection.cursor(row_factory=class_row(Value))
    await cursor.execute(VALUE, {"run_id": run_id, "step": step_slug})
    if value := await cursor.fetchone():
        return await handle_of(blobs, run_id, value)
    if not await summarize_runs(connection, run_id=run_id):
        raise await refuse_run(connection, run_id)
    completed = await (await connection.execute(WITH_OUTPUTS, [run_id])).fetchall()
    raise PgflowError(
        f"run {run_id} has no output of a step {printable(step_slug)!r}; it has outputs of"
        f" {', '.join(['run', *(slug for (slug,) in completed)])}"
    )
