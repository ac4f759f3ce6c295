"""Runs of days gone by, with blobs, and calls to look at what is left of them."""

import os
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
from psycopg import AsyncConnection

from blobstore.abc import Caller
from blobstore.values.codec import compress
from pgflow_events.postgres.connection import Connection
from pgflow_events.upkeep import checker

NOW = datetime.now(UTC)
TODAY = NOW.date()

ADD_DAY = """
select pgflow.add_partition(
  parent, %(day)s, pgflow.first_id(%(day)s::timestamp at time zone 'UTC'),
  pgflow.first_id((%(day)s + 1)::timestamp at time zone 'UTC')
)
from unnest(array['output_blobs', 'blob_chunks']) as parent
"""

# Runs of one step whose output is a blob, every third one in a chunk.
FILL = """
with run as materialized (
  select
    encode(
      overlay(
        uuid_send(gen_random_uuid()) placing
        substring(int8send((extract(epoch from t.at) * 1000)::bigint) from 3) from 1 for 6
      ), 'hex'
    )::uuid as id, t.at, t.n
  from (
    select n, %(start)s::timestamptz + n * %(length)s::interval / %(count)s as at
    from generate_series(0, %(count)s - 1) n
  ) t
),
blob as materialized (
  select r.id as run_id, pgflow.new_blob_id(r.id) as id, r.n %% 3 = 0 as chunked from run r
),
runs as (
  insert into pgflow.runs (run_id, flow_slug, status, input, has_blobs, started_at, completed_at)
  select id, 'past', 'completed', '{}', true, at, at from run
),
states as (
  insert into pgflow.step_states (flow_slug, run_id, step_slug, status)
  select 'past', id, 'page', 'completed' from run
),
messages as (
  insert into pgmq.a_past (msg_id, read_ct, enqueued_at, archived_at, vt, message)
  select
    nextval('pgmq.q_past_msg_id_seq'), 1, at, at, at,
    jsonb_build_object('flow_slug', 'past', 'run_id', id, 'step_slug', 'page', 'task_index', 0)
  from run
),
blobs as (
  insert into pgflow.output_blobs (
    id, run_id, step_slug, kind, codec, content, chunk_size, raw_size, stored_size, sha256
  )
  select
    id, run_id, 'page', 'bytes', case when chunked then 'zstd' else 'none' end,
    case when not chunked then %(content)s end, case when chunked then length(%(content)s) end,
    length(%(content)s), case when chunked then length(%(chunk)s) + 20 else length(%(content)s) end,
    sha256(%(content)s)
  from blob
),
chunks as (
  insert into pgflow.blob_chunks (blob_id, seq, content)
  select id, 0, %(chunk)s || uuid_send(id) || int4send(0) from blob where chunked
)
insert into pgflow.step_tasks (flow_slug, run_id, step_slug, status, output_blob_id, message_id)
select 'past', run_id, 'page', 'completed', id, 1 from blob
"""


def past(days: int) -> date:
    """So many days ago."""
    return TODAY - timedelta(days=days)


def add_days(database: str, *days: int) -> None:
    """Make partitions for days gone by."""
    with psycopg.connect(database, autocommit=True) as connection:
        for ago in days:
            connection.execute(ADD_DAY, {"day": past(ago)})


def fill(database: str, days: int, count: int, size: int = 3000) -> None:
    """Make runs of a day that ended long ago; the content of blobs is incompressible."""
    content = os.urandom(size)
    start = datetime.combine(past(days), datetime.min.time(), UTC)
    with psycopg.connect(database, autocommit=True) as connection:
        if not connection.execute("select from pgflow.flows where flow_slug = 'past'").fetchone():
            connection.execute("select pgflow.create_flow('past')")
            connection.execute("select pgflow.add_step('past', 'page')")
        connection.execute(
            FILL,
            {
                "start": start,
                "length": timedelta(hours=23),
                "count": count,
                "content": content,
                "chunk": compress([content], len(content)),
            },
        )


def id_at(moment: datetime) -> UUID:
    """An id of version 7 made at this moment."""
    milliseconds = int(moment.timestamp() * 1000)
    rest = int.from_bytes(os.urandom(10)) & ~(0xF << 76) | 7 << 76
    return UUID(int=milliseconds << 80 | rest & ~(3 << 62) | 2 << 62)


def caller(database: str) -> Caller:
    """Makes each call on a connection of its own."""

    async def make(call: Any) -> Any:
        async with await Connection.connect(database) as connection:
            return await call(connection)

    return make


async def faults(database: str) -> list[str]:
    """What is wrong with the rows and contents of blobs."""
    async with await Connection.connect(database) as connection:
        checked = await checker.check(connection)

        async def make(call: Any) -> Any:
            return await call(connection)

        await checker.check_contents(make, checked)
    assert not checked.not_checked
    return [f"{fault.blob_id}: {fault.fault}" for fault in checked.faults]


async def scalar(connection: AsyncConnection[Any], query: str, *parameters: object) -> Any:
    """The only value of an answer."""
    cursor = await connection.execute(query.encode(), parameters)
    ((value,),) = await cursor.fetchall()
    return value
