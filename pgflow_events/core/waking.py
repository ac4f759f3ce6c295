"""Wake-ups in the SQL core: the channels of notifications, and who sends and awaits them."""

from collections.abc import Collection, Iterable, Mapping, Sequence

from psycopg import sql
from psycopg.rows import scalar_row

from pgflow_events.postgres.connection import Connection


async def task_channels(connection: Connection, flow_slugs: Sequence[str]) -> list[str]:
    """The channels on which the workers of these flows are woken."""
    cursor = connection.cursor(row_factory=scalar_row)
    await cursor.execute(
        "select pgflow.channel('tasks', slug) from unnest(%s::text[]) slug", [list(flow_slugs)]
    )
    return await cursor.fetchall()


async def ping(connection: Connection, channel: str) -> None:
    """Send a notification. To ask for the queue's usage also frees what nobody reads any more."""
    await connection.execute("select pg_notify(%s, ''), pg_notification_queue_usage()", [channel])


async def notify_owed(
    connection: Connection, owed_tasks: Sequence[str], owed_runs: Sequence[str]
) -> None:
    """Send the notifications that a completing commit left owed."""
    await connection.execute(
        "select pgflow.notify_owed(%s::text[], %s::text[])", [list(owed_tasks), list(owed_runs)]
    )


async def listen_to(connection: Connection, flow_slugs: Collection[str]) -> dict[str, str]:
    """Hear of the ends of runs of these flows, while the session lives; their channels.

    The lock of a flow tells those who end its runs that somebody waits.
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
    """Let go of flows that :func:`listen_to` has told the channels of."""
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
