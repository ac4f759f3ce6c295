"""Runs in the SQL core: start them, and read how they are."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, TypeAlias
from uuid import UUID

from psycopg.rows import class_row, scalar_row
from psycopg.types.json import Jsonb

from blobstore import Inline, Stored
from pgflow_events.core.tasks import blob_id, inline_json
from pgflow_events.errors import RunExists, UnknownFlow
from pgflow_events.postgres.connection import Connection
from pgflow_events.texts import enumeration

Moment: TypeAlias = float | datetime | None
"""When a run begins: after this number of seconds, at this time, or at once."""

# Arguments are evaluated before the call, so that its triggers find the setting.
START_AND_NOTIFY_NOBODY = """
select from pgflow.start_flows(
  case set_config('pgflow.notify', 'off', true) when 'off' then %s end, {inputs}, {run_ids}{delay}
)
"""
MANY = ("%s::jsonb[]", "%s::uuid[]")
# After a rest, each list that psycopg writes costs 50 us.
ONE = ("array[%s::jsonb]", "array[%s::uuid]")
START_WITH_BLOBS = "select from pgflow.start_flows(%s, %s::jsonb[], %s::uuid[], %s::uuid[]{delay})"

RunStatus = Literal["started", "completed", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class RunRow:
    """A row of `pgflow.runs`."""

    run_id: UUID
    flow_slug: str
    status: RunStatus
    output: str | None
    """The JSON of `{leaf step: its output}`, without what is a blob; None unless completed."""
    output_blobs_refs: dict[str, str] | None
    """The ids of what is a blob, under the same keys."""
    cancel_reason: str | None = None


@dataclass(frozen=True, slots=True)
class OutputRow:
    """What became of a step of a run, and its output."""

    status: str
    skip_reason: str | None
    is_map: bool
    output: str | None
    """Its JSON."""
    output_blob_id: UUID | None


async def start_flows(
    connection: Connection,
    flow_slug: str,
    inputs: Sequence[Inline | Stored],
    run_ids: Sequence[UUID],
    moment: Moment = None,
    *,
    facts: Sequence[dict[str, dict[str, bool]] | None] = (),
) -> None:
    """Start a run for each input. The caller saves blobs among them in the same transaction.

    `facts` says of each input that SQL cannot read what it contains of the patterns of steps.
    """
    delay, given = delay_argument(moment)
    if any(facts):
        delay += ", input_facts => %s::jsonb[]"
        given += [[Jsonb(of_input) if of_input else None for of_input in facts]]
    await connection.execute(
        START_WITH_BLOBS.format(delay=delay).encode(),
        [
            flow_slug,
            [inline_json(value) for value in inputs],
            list(run_ids),
            [blob_id(value) for value in inputs],
            *given,
        ],
    )


def delay_argument(moment: Moment) -> tuple[str, list[object]]:
    """The argument `delay` for start_flows(), as SQL and its values.

    The server's clock says how long it is until a time: it decides too when a task is due.
    """
    if moment is None:
        return "", []
    if not isinstance(moment, datetime):
        return ", delay => %s::float8", [moment]
    left = "extract(epoch from %s::timestamptz - clock_timestamp())"
    return f", delay => greatest({left}, 0)::float8", [moment]


async def start_flows_and_notify(
    connection: Connection,
    flow_slug: str,
    inputs: Sequence[Inline],
    run_ids: Sequence[UUID],
    moment: Moment = None,
) -> None:
    """Start a run for each input, and wake the workers right after it, in one round trip.

    A NOTIFY within the commit would hold a lock of the whole server until the disk has it.
    Workers are woken for a later start too: they learn when it is due.

    Raises:
        psycopg.OperationalError: One commit or both may have failed.
    """
    delay, given = delay_argument(moment)
    values: list[object] = [value.json.decode() for value in inputs]
    is_one = len(inputs) == 1
    (of_inputs, of_ids) = ONE if is_one else MANY
    start = START_AND_NOTIFY_NOBODY.format(inputs=of_inputs, run_ids=of_ids, delay=delay)
    arguments = [*values, *run_ids] if is_one else [values, list(run_ids)]
    async with connection.pipeline():
        await connection.execute(start.encode(), [flow_slug, *arguments, *given])
        connection.end_transaction()
        await connection.execute("select pg_notify(pgflow.channel('tasks', %s), '')", [flow_slug])


async def find_run(connection: Connection, run_id: UUID) -> RunRow | None:
    """The run of this id, if there is one."""
    cursor = connection.cursor(row_factory=class_row(RunRow))
    await cursor.execute(
        "select run_id, flow_slug, status, output::text, output_blobs_refs, cancel_reason"
        " from pgflow.runs where run_id = %s",
        [run_id],
    )
    return await cursor.fetchone()


async def cancel_runs(
    connection: Connection, run_ids: Sequence[UUID], reason: str | None
) -> list[UUID]:
    """Cancel these runs. Return the ids of those that had not ended before."""
    cursor = connection.cursor(row_factory=scalar_row)
    await cursor.execute(
        "select run_id from pgflow.cancel_runs(%s::uuid[], %s)", [list(run_ids), reason]
    )
    return await cursor.fetchall()


async def find_running(connection: Connection, flow_slug: str, older_than: timedelta) -> list[UUID]:
    """The runs of a flow that have not ended, and were started longer ago than this."""
    cursor = connection.cursor(row_factory=scalar_row)
    await cursor.execute(
        "select run_id from pgflow.runs where flow_slug = %s and status = 'started'"
        " and started_at <= clock_timestamp() - %s order by started_at",
        [flow_slug, older_than],
    )
    return await cursor.fetchall()


async def find_among(connection: Connection, run_ids: Sequence[UUID]) -> list[UUID]:
    """Those of these ids that a run has."""
    cursor = connection.cursor(row_factory=scalar_row)
    await cursor.execute("select run_id from pgflow.runs where run_id = any(%s)", [list(run_ids)])
    return await cursor.fetchall()


async def find_ended(connection: Connection, run_ids: Sequence[UUID]) -> tuple[list[UUID], bool]:
    """The runs among these that have ended or are missing, and whether this is a standby."""
    cursor = await connection.execute(
        """
        select array(
          select i.run_id from unnest(%s) as i (run_id)
          where not exists (
            select from pgflow.runs r where r.run_id = i.run_id and r.status = 'started'
          )
        ), pg_is_in_recovery()
        """,
        [list(run_ids)],
    )
    ((ended, in_recovery),) = await cursor.fetchall()
    return ended, in_recovery


async def find_output(connection: Connection, run_id: UUID, step_slug: str) -> OutputRow | None:
    """What became of a step of a run. That of a map is made of the outputs of its tasks."""
    cursor = connection.cursor(row_factory=class_row(OutputRow))
    await cursor.execute(
        """
        select
          c.status, c.skip_reason, s.step_type = 'map' as is_map,
          case when s.step_type = 'map' then c.output else t.output end::text as output,
          case when s.step_type = 'map' then c.output_blob_id else t.output_blob_id end
          as output_blob_id
        from pgflow.step_states c join pgflow.steps s using (flow_slug, step_slug)
        left join pgflow.step_tasks t
        on t.run_id = c.run_id and t.step_slug = c.step_slug and t.task_index = 0
        where c.run_id = %s and c.step_slug = %s
        """,
        [run_id, step_slug],
    )
    return await cursor.fetchone()


async def find_errors(connection: Connection, run_id: UUID) -> dict[str, str | None]:
    """The errors of the steps that failed, in their order. That of a map names the element."""
    cursor = await connection.execute(
        """
        select
          c.step_slug, coalesce(c.error_message, t.error_message),
          case
            when s.step_type = 'map' and c.error_message is not distinct from t.error_message
            then t.task_index
          end
        from pgflow.step_states c join pgflow.steps s using (flow_slug, step_slug)
        left join lateral (
          select t.error_message, t.task_index from pgflow.step_tasks t
          where t.run_id = c.run_id and t.step_slug = c.step_slug and t.status = 'failed'
          order by t.failed_at desc, t.task_index limit 1
        ) t on true
        where c.run_id = %s and c.status = 'failed' order by s.step_index
        """,
        [run_id],
    )
    return {
        slug: error if index is None else f"element {index}: {error}"
        for slug, error, index in await cursor.fetchall()
    }


async def find_maps(connection: Connection, run_id: UUID) -> list[str]:
    """The slugs of the steps of a run that are maps."""
    cursor = connection.cursor(row_factory=scalar_row)
    await cursor.execute(
        """
        select c.step_slug
        from pgflow.step_states c join pgflow.steps s using (flow_slug, step_slug)
        where c.run_id = %s and s.step_type = 'map'
        """,
        [run_id],
    )
    return await cursor.fetchall()


async def find_steps(connection: Connection, run_id: UUID) -> list[str]:
    """The slugs of a run's steps, in their order."""
    cursor = connection.cursor(row_factory=scalar_row)
    await cursor.execute(
        """
        select s.step_slug
        from pgflow.step_states c join pgflow.steps s using (flow_slug, step_slug)
        where c.run_id = %s order by s.step_index
        """,
        [run_id],
    )
    return await cursor.fetchall()


async def find_entry(
    connection: Connection, flow_slug: str
) -> tuple[bool, dict[str, dict[str, Any]]]:
    """Whether a map goes over the input of a flow, and the patterns that steps look for in it.

    Of each step, the pattern under `required`, under `forbidden`, or both.
    """
    cursor = await connection.execute(
        """
        select
          step_type = 'map' and deps_count = 0, step_slug,
          case when deps_count = 0 then required_input_pattern
            else required_input_pattern -> 'run' end,
          case when deps_count = 0 then forbidden_input_pattern
            else forbidden_input_pattern -> 'run' end
        from pgflow.steps where flow_slug = %s
        """,
        [flow_slug],
    )
    found = await cursor.fetchall()
    watchers = {
        slug: {
            word: pattern
            for word, pattern in (("required", required), ("forbidden", forbidden))
            if pattern is not None
        }
        for _, slug, required, forbidden in found
    }
    feeds_map = any(is_root_map for is_root_map, *_ in found)
    return feeds_map, {slug: patterns for slug, patterns in watchers.items() if patterns}


async def find_flows(connection: Connection) -> list[str]:
    """The slugs of the flows that are defined in the database."""
    cursor = connection.cursor(row_factory=scalar_row)
    await cursor.execute("select flow_slug from pgflow.flows order by flow_slug")
    return await cursor.fetchall()


def unknown_flow(slug: str, slugs: Sequence[str]) -> UnknownFlow:
    """The error for a flow that is not among these."""
    there = f"flows here: {enumeration(slugs)}" if slugs else "no flow is defined here yet"
    return UnknownFlow(f'unknown flow "{slug}": no worker has defined it; {there}')


def run_exists(said: str, run_ids: Sequence[UUID]) -> RunExists | None:
    """The error for the id among these that PostgreSQL names; None if it names none of them."""
    run_id = next((run_id for run_id in run_ids if str(run_id) in said), None)
    if run_id is None:
        return None
    if run_ids.count(run_id) > 1:
        return RunExists(f"two of the run_ids are {run_id}: give each run its own", run_id)
    advice = "await it with find(), or start with another id"
    return RunExists(f"a run with the id {run_id} exists already: {advice}", run_id)


async def need_flow(connection: Connection, slug: str | None) -> None:
    """Raise if there is no flow of this name. None is accepted.

    Raises:
        UnknownFlow: There is no such flow.
    """
    if slug is not None and slug not in (slugs := await find_flows(connection)):
        raise unknown_flow(slug, slugs)
