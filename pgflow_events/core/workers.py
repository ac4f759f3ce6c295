"""The calls of the SQL core by which workers know of each other: one function for each."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from psycopg.rows import class_row, scalar_row
from psycopg.types.numeric import Int4, Int8

from pgflow_events.postgres.connection import Connection


@dataclass(frozen=True, slots=True)
class Seat:
    """What a worker holds while it is connected."""

    worker_id: UUID
    seat: int


# How soon the server notices that a machine is gone which could not close its sockets: in half a
# minute, where the system's default is two hours.
KEEPALIVE = """
  set_config('tcp_keepalives_idle', '15', false), set_config('tcp_keepalives_interval', '5', false),
  set_config('tcp_keepalives_count', '3', false), set_config('tcp_user_timeout', '30000', false)
"""


async def workers_channel(connection: Connection) -> str:
    """The channel on which workers hear that another one came or went."""
    cursor = connection.cursor(row_factory=scalar_row)
    await cursor.execute("select pgflow.channel('workers', '')")
    channel: str = await cursor.fetchone() or ""
    return channel


async def take_seat(
    connection: Connection, worker_id: UUID, flow_slugs: Sequence[str], host: str, pid: int
) -> None:
    """Make a worker known to its peers, while the session lives."""
    await connection.execute(
        f"select pgflow.take_seat(%s, %s, %s, %s), {KEEPALIVE}",
        [worker_id, list(flow_slugs), host, Int4(pid)],
    )


async def hold_worker_lock(connection: Connection, worker_id: UUID) -> None:
    """Show that a worker lives, while the session does: the lock is that of pgflow.worker_key().

    Not for the listener and who watches. It is not waited for: a peer may be about to find out
    whether this worker is dead.
    """
    await connection.execute(
        # The function may not be there yet, where the database was never migrated.
        f"""
        select pg_try_advisory_lock_shared(hashtextextended('pgflow.worker.' || %s::uuid, 0)),
        {KEEPALIVE}
        """,
        [worker_id],
    )


async def leave_seat(connection: Connection, worker_id: UUID) -> None:
    """Take leave of the peers, and of the tasks that are not settled."""
    await connection.execute("select pgflow.leave_seat(%s)", [worker_id])


async def next_workers(connection: Connection, worker_id: UUID) -> list[Seat]:
    """The peers of this worker, in the order of the ring: the next one first."""
    cursor = connection.cursor(row_factory=class_row(Seat))
    await cursor.execute(
        "select next_id as worker_id, seat from pgflow.next_worker(%s)", [worker_id]
    )
    return await cursor.fetchall()


async def crowds(connection: Connection, flow_slugs: Sequence[str]) -> dict[str, int]:
    """How many workers have a seat for each of these flows."""
    cursor = await connection.execute(
        """
        select f.slug, count(*) from pgflow.worker_seats s, unnest(s.flow_slugs) as f (slug)
        where f.slug = any(%s::text[]) group by 1
        """,
        [list(flow_slugs)],
    )
    return dict(await cursor.fetchall())


async def await_seat(connection: Connection, seat: int, wait: float) -> tuple[str, int]:
    """Wait for up to `wait` seconds until a seat is free.

    Returns:
        `free` if it was free at once, `freed` if it became free, `taken` if it did not; and a
        number that changes when something is written to the database.
    """
    cursor = await connection.execute(
        "select state, next_xid from pgflow.await_seat(%s, %s)", [Int8(seat), wait]
    )
    ((state, next_xid),) = await cursor.fetchall()
    return state, next_xid


async def bury_worker(connection: Connection, peer: Seat) -> bool:
    """Free the tasks that a peer had claimed, if it is dead. Return whether it was."""
    cursor = await connection.execute(
        "select pgflow.bury_worker(%s, %s)", [peer.worker_id, Int8(peer.seat)]
    )
    return (await cursor.fetchone()) == (True,)
