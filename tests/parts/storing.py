"""Stores outputs as a worker does: claimed, encoded, saved and completed in one commit."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from uuid import UUID, uuid4

from psycopg import AsyncConnection

from blobstore import Blobs, Owner, Stored
from pgflow_events.core import runs as run_queries
from pgflow_events.core import tasks as queries
from pgflow_events.core.tasks import Outcome
from pgflow_events.core.waking import task_channels
from pgflow_events.postgres.connection import Connection

T = TypeVar("T")


def blobs_on(connection: Connection, **options: Any) -> Blobs:
    """What encodes and reads values through this connection alone."""

    async def make(call: Callable[[AsyncConnection[Any]], Awaitable[T]], /) -> T:
        return await call(connection)

    return Blobs(make, cache_budget=0, **options)


async def start(connection: Connection, blobs: Blobs, slug: str, value: object) -> UUID:
    """A run with this input."""
    run_id = uuid4()
    kept = await blobs.encode(value, Owner(run_id), connection=connection)
    if isinstance(kept, Stored):
        await blobs.save_inputs(connection, [kept])
    await run_queries.start_flows(connection, slug, [kept], [run_id])
    return run_id


async def complete(
    connection: Connection, blobs: Blobs, slug: str, value: object, **options: Any
) -> UUID | None:
    """Complete the next task of a flow with this output; the id of its blob."""
    (source,) = await task_channels(connection, [slug])
    claim = await queries.claim_tasks(connection, source.function, 1, uuid4(), 1 << 60)
    (task,) = claim.tasks
    owner = Owner(task.run_id, task.step_slug, task.task_index, task.attempt, slug)
    output = await blobs.encode(value, owner, **options)
    if isinstance(output, Stored):
        await blobs.save(connection, [output])
    await queries.complete_tasks(
        connection, [Outcome(task, output)], [], qty=0, worker_id=uuid4(), max_bytes=0
    )
    return output.id if isinstance(output, Stored) else None


async def store(
    connection: Connection, blobs: Blobs, slug: str, value: object, **options: Any
) -> UUID | None:
    """Start a run of a flow of one step, and complete it with this output; the id of its blob."""
    await start(connection, blobs_on(connection), slug, {})
    return await complete(connection, blobs, slug, value, **options)
