"""The benchmarks' own SQL."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import scalar_row

from pgflow_events.postgres.connection import Connection

LOCK = "select pg_try_advisory_lock(hashtextextended('pgflow_bench', 0))"

FLOWS = r"select flow_slug from pgflow.flows where lower(flow_slug) like 'bench\_%' order by 1"

# The schema with its comment marks the flows named bench_ as made by a benchmark. It is created
# before the first of these flows, and dropped after the last one.
PREPARE = """
create schema pgflow_bench;
comment on schema pgflow_bench is 'made by pgflow-events bench';
create table pgflow_bench.commits (id bigint generated always as identity primary key);
create table pgflow_bench.jobs (
  id bigint generated always as identity primary key,
  status text not null default 'queued',
  input jsonb not null,
  output jsonb,
  queued_at timestamptz not null default clock_timestamp(),
  started_at timestamptz,
  completed_at timestamptz
) with (fillfactor = 70);
create index jobs_queued on pgflow_bench.jobs (id) where status = 'queued';
create table pgflow_bench.zstd (id uuid primary key, content bytea);
alter table pgflow_bench.zstd alter content set storage external;
create table pgflow_bench.jsonb (id uuid primary key, content jsonb);
"""

OURS = """
select obj_description(to_regnamespace('pgflow_bench'), 'pg_namespace')
  is not distinct from 'made by pgflow-events bench'
"""

DELETE_RUNS = """
with next as (
  select run_id from pgflow.runs where run_id > %(after)s and flow_slug = any(%(slugs)s)
  order by run_id limit 20000
),
gone as (delete from pgflow.runs r using next n where r.run_id = n.run_id)
select run_id from next order by run_id desc limit 1
"""
CLEAR_FLOWS = """
delete from pgflow.blob_dictionaries where flow_slug = any(%(slugs)s);
delete from pgflow.deps where flow_slug = any(%(slugs)s);
delete from pgflow.steps where flow_slug = any(%(slugs)s);
select pgmq.drop_queue(flow_slug), pgflow.drop_queue_functions(flow_slug)
from pgflow.flows where flow_slug = any(%(slugs)s);
delete from pgflow.flows where flow_slug = any(%(slugs)s)
"""
FLOWS_AT_ONCE = 20  # each takes locks on a dozen tables and indexes
CLEAR_SCHEMA = "drop schema pgflow_bench cascade"

SETTINGS = """
select current_setting('server_version') as postgres, current_setting('fsync') as fsync,
  current_setting('synchronous_commit') as synchronous_commit
"""

ADD_COMMIT = "insert into pgflow_bench.commits default values"

START_RUN = "select from pgflow.start_flow(%s, to_jsonb(%s::int))"
ADD_JOB = """
with job as (insert into pgflow_bench.jobs (input) values (to_jsonb(%s::int)))
select pg_notify(%s, '')
"""
ADD_JOBS = """
insert into pgflow_bench.jobs (input) select to_jsonb(n) from generate_series(1, %s) n
"""

# One round: complete the last batch, and claim the next one.
WORK_JOBS = """
with done as (
  update pgflow_bench.jobs
  set status = 'completed', output = input, completed_at = clock_timestamp()
  where id = any(%s)
)
update pgflow_bench.jobs j
set status = 'started', started_at = clock_timestamp()
where j.id = any(array(
  select q.id from pgflow_bench.jobs q where q.status = 'queued'
  order by q.id limit %s for update skip locked
))
returning j.id, j.input
"""
JOBS_TIME = """
select extract(epoch from max(completed_at) - min(started_at))::float8 from pgflow_bench.jobs
"""
CLEAR_JOBS = "truncate pgflow_bench.jobs"

GOING_ON = """
select exists (select from pgflow.runs where run_id = any(%s) and status = 'started')
"""
RUNS_TIME = """
select extract(epoch from max(t.completed_at) - min(t.started_at))::float8
from pgflow.step_tasks t where t.run_id = any(%s)
"""
CLEAR_RUNS = "delete from pgflow.runs where run_id = any(%s)"

STORED_BLOBS = """
select sum(b.stored_size)::float8 / count(distinct r.run_id)
from pgflow.runs r join pgflow.output_blobs b using (run_id) where r.flow_slug = %s
"""
STORED_ZSTD = "select avg(pg_column_size(content))::float8 from pgflow_bench.zstd"
STORED_JSONB = "select avg(pg_column_size(content))::float8 from pgflow_bench.jsonb"
WAL = "select (pg_current_wal_lsn() - '0/0'::pg_lsn)::float8"

CLEAR_PAGES = "truncate pgflow_bench.zstd, pgflow_bench.jsonb"

WRITE_ZSTD = "insert into pgflow_bench.zstd values (%s, %b)"
READ_ZSTD = "select content from pgflow_bench.zstd where id = %s"
WRITE_JSONB = "insert into pgflow_bench.jsonb values (%s, %s)"
READ_JSONB = "select content::text from pgflow_bench.jsonb where id = %s"

HAS_STATEMENTS = "select to_regclass('pg_stat_statements') is not null"
STATEMENTS = """
select coalesce(sum(calls), 0)::bigint from pg_stat_statements
where dbid = (select oid from pg_database where datname = current_database())
  and userid = (select oid from pg_roles where rolname = current_user)
  and query not like '%pg_stat_statements%'
"""

Plain = psycopg.Connection[Any]


def scalar(connection: Plain, query: str, *parameters: object) -> Any:
    """The single value that a query returns."""
    cursor = connection.cursor(row_factory=scalar_row)
    return cursor.execute(query.encode(), parameters or None).fetchone()


def lock(connection: Plain) -> bool:
    """Keep other benchmarks away as long as the session lives. False if one is running."""
    return bool(scalar(connection, LOCK))


def flows(connection: Plain) -> list[str]:
    """The flows whose slugs begin with bench_."""
    return [slug for (slug,) in connection.execute(FLOWS)]


def prepare(connection: Plain) -> None:
    """Create the schema of benchmarks."""
    connection.execute(PREPARE)


def clear(connection: Plain) -> None:
    """Remove everything that benchmarks created. Without their schema, remove nothing."""
    if not scalar(connection, OURS):
        return
    parameters = {"slugs": flows(connection), "after": UUID(int=0)}
    while last := connection.execute(DELETE_RUNS, parameters).fetchall():
        parameters["after"] = last[0][0]
    while some := flows(connection)[:FLOWS_AT_ONCE]:
        with connection.transaction():
            for statement in CLEAR_FLOWS.split(";"):
                connection.execute(statement.encode(), {"slugs": some})
    connection.execute(CLEAR_SCHEMA)


def settings(connection: Plain) -> dict[str, str]:
    """The server's version, and its settings for commits."""
    postgres, fsync, synchronous_commit = connection.execute(SETTINGS).fetchall()[0]
    return {
        "postgres": postgres.split()[0],
        "fsync": fsync,
        "synchronous_commit": synchronous_commit,
    }


def statements(connection: Plain) -> int | None:
    """The number of statements of this role so far; None without pg_stat_statements."""
    return scalar(connection, STATEMENTS) if scalar(connection, HAS_STATEMENTS) else None


async def run(connection: Connection, query: str, *parameters: object) -> None:
    """Execute a statement that returns no rows."""
    await connection.execute(query.encode(), parameters or None)


async def find(connection: Connection, query: str, *parameters: object) -> Any:
    """The single value that a query returns."""
    cursor = connection.cursor(row_factory=scalar_row)
    await cursor.execute(query.encode(), parameters or None)
    return await cursor.fetchone()


async def work_jobs(connection: Connection, done: Sequence[int], qty: int) -> list[tuple[int, Any]]:
    """Complete jobs and claim others, in one commit. Return ids and inputs of the claimed jobs."""
    cursor = await connection.execute(WORK_JOBS, [list(done), qty], prepare=True, binary=True)
    return await cursor.fetchall()
