"""Wake-ups in the SQL core: find their channels, send notifications, and listen to them."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from psycopg import sql
from psycopg.rows import class_row

from pgflow_events.postgres.connection import Connection


@dataclass(frozen=True, slots=True)
class Source:
    """Where the tasks of a flow come from."""

    slug: str
    channel: str
    """On which the workers of the flow are woken."""
    stop_channel: str
    """On which the workers are told that tasks are theirs no more."""
    function: str
    """Claims from the queue of the flow; quoted, as in SQL."""


async def task_channels(connection: Connection, flow_slugs: Sequence[str]) -> list[Source]:
    """Where the tasks of these flows come from."""
    cursor = connection.cursor(row_factory=class_row(Source))
    await cursor.execute(
        """
        select
          slug, pgflow.channel('tasks', slug) as channel,
          pgflow.channel('stopped', slug) as stop_channel,
          format('pgflow_queues.%%I', 'claim_' || pgmq.format_table_name(slug, 'q')) as function
        from unnest(%s::text[]) as f (slug)
        """,
        [list(flow_slugs)],
    )
    return await cursor.fetchall()


async def ping(connection: Connection, channel: str) -> None:
    """Send a notification. Asking for the queue's usage also frees pages that all have read."""
    await connection.execute("select pg_notify(%s, ''), pg_notification_queue_usage()", [channel])


async def notify_owed(
    connection: Connection, owed_tasks: Sequence[str], owed_runs: Sequence[str]
) -> None:
    """Send the notifications that a completing commit left owed."""
    await connection.execute(
        "select pgflow.notify_owed(%s::text[], %s::text[])", [list(owed_tasks), list(owed_runs)]
    )


async def listen_to(connection: Connection, flow_slugs: Collection[str]) -> dict[str, str]:
    """Listen for the ends of runs of these flows. Return the channel of each flow.

    The session also holds a shared lock of each flow. It shows workers that end runs of the flow
    that a client waits.
    """
    if not flow_slugs:
        return {}
    cursor = await connection.execute(
        """
        select
          slug, pgflow.channel('runs', slug), pg_advisory_lock_shared(pgflow.waiting_key(slug))
        from unnest(%s::text[]) as f (slug)
        """,
        [list(flow_slugs)],
    )
    channels = {slug: channel for slug, channel, _ in await cursor.fetchall()}
    await connection.execute(_for_each("LISTEN {}", channels.values()))
    return channels


async def listen_no_more(connection: Connection, channels: Mapping[str, str]) -> None:
    """Stop listening to these flows, whose channels :func:`listen_to` has returned."""
    if not channels:
        return
    await connection.execute(_for_each("UNLISTEN {}", channels.values()))
    await connection.execute(
        "select pg_advisory_unlock_shared(pgflow.waiting_key(slug))"
        " from unnest(%s::text[]) as f (slug)",
        [list(channels)],
    )


def _for_each(statement: str, names: Iterable[str]) -> sql.Composed:
    """One round trip with a statement for each name."""
    return sql.SQL("; ").join(sql.SQL(statement).format(sql.Identifier(name)) for name in names)
