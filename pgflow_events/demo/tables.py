"""The demo's own SQL."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from psycopg.rows import dict_row, scalar_row

from pgflow_events.errors import PgflowError
from pgflow_events.postgres.connection import Connection

LOCK = "select pg_try_advisory_lock(hashtextextended('pgflow_demo', 0))"

# A killed demo may have left unfinished runs, and a demo of an older release other flows.
CLEAR = """
delete from pgflow.runs where flow_slug = any(%(slugs)s);
delete from pgflow.deps where flow_slug = any(%(slugs)s);
delete from pgflow.steps where flow_slug = any(%(slugs)s);
select pgmq.drop_queue(flow_slug), pgflow.drop_queue_functions(flow_slug)
from pgflow.flows where flow_slug = any(%(slugs)s);
delete from pgflow.flows where flow_slug = any(%(slugs)s);
create schema if not exists pgflow_demo;
drop table if exists pgflow_demo.pages;
create table pgflow_demo.pages (
  url text primary key,
  title text not null,
  bytes bigint not null,
  sha256 text not null,
  links integer not null,
  words integer not null,
  saved_at timestamptz not null default clock_timestamp()
)
"""

SAVE_PAGE = """
insert into pgflow_demo.pages (url, title, bytes, sha256, links, words)
values (%(url)s, %(title)s, %(bytes)s, %(sha256)s, %(links)s, %(words)s)
on conflict (url) do update set
  title = excluded.title, bytes = excluded.bytes, sha256 = excluded.sha256,
  links = excluded.links, words = excluded.words, saved_at = clock_timestamp()
"""

FIGURES = """
with outputs as (
  select
    t.status, b.raw_size, t.output,
    case when t.output_blob_id is null then pg_column_size(t.output)
    else b.stored_size end as stored,
    (
      select count(*) from pgflow.deps d
      where d.flow_slug = t.flow_slug and d.dep_slug = t.step_slug
    ) as dependents,
    (t.flow_slug, t.step_slug) in (
      ('pgflow_scrape', 'website'), ('pgflow_bundle', 'pages')
    ) as is_html
  from pgflow.step_tasks t left join pgflow.output_blobs b on b.id = t.output_blob_id
  where t.flow_slug = any(%(slugs)s)
)
select
  (
    select count(*) from pgflow.runs where flow_slug = any(%(slugs)s) and status = 'completed'
  ) as runs,
  count(*) filter (where status = 'completed') as tasks,
  count(raw_size) as blobs,
  sum(coalesce(raw_size, octet_length(output::text)))::bigint as output_bytes,
  sum(stored)::bigint as stored_bytes,
  sum(coalesce(raw_size, octet_length(output #>> '{}')) * dependents)
    filter (where is_html)::bigint as html_passed_bytes
from outputs
"""

SESSIONS = """
select pid, greatest(query_start, state_change) as active_at from pg_stat_activity
where application_name = %s and datname = current_database()
"""


async def lock(connection: Connection) -> None:
    """Keep other demos away as long as the session lives.

    Raises:
        PgflowError: Another demo is running on this database.
    """
    cursor = connection.cursor(row_factory=scalar_row)
    await cursor.execute(LOCK)
    if not await cursor.fetchone():
        raise PgflowError("another demo is running on this database: wait until it ends")


async def clear(connection: Connection, slugs: Sequence[str]) -> None:
    """Remove what earlier demos left, and create the demo's table."""
    async with connection.transaction():
        for statement in CLEAR.split(";"):
            await connection.execute(statement.encode(), {"slugs": list(slugs)})


async def save_page(connection: Connection, page: Mapping[str, Any]) -> None:
    """Write the row of a page. A task may run twice, so the row may be overwritten."""
    await connection.execute(SAVE_PAGE, page)


async def saved_pages(connection: Connection) -> dict[str, tuple[int, str]]:
    """The size and SHA-256 of each page in the demo's table, by URL."""
    cursor = await connection.execute("select url, bytes, sha256 from pgflow_demo.pages")
    return {url: (size, digest) for url, size, digest in await cursor.fetchall()}


async def figures(connection: Connection, slugs: Sequence[str]) -> dict[str, int]:
    """The numbers of runs and tasks, and the sizes of outputs. ``…_bytes`` are in bytes."""
    cursor = connection.cursor(row_factory=dict_row)
    await cursor.execute(FIGURES, {"slugs": list(slugs)})
    (row,) = await cursor.fetchall()
    return row


async def sessions(connection: Connection, application_name: str) -> dict[int, datetime | None]:
    """When each session of this name last began or ended a query, by process id.

    The time is None if the server does not keep it (``track_activities = off``).
    """
    cursor = await connection.execute(SESSIONS, [application_name])
    return dict(await cursor.fetchall())
