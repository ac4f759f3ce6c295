"""What `prune` must not miss, and what it must not take."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from uuid import UUID

import pytest

from pgflow_events import Flow
from pgflow_events.postgres.connection import Connection
from pgflow_events.upkeep import retention

from ...conftest import EmbeddedServer, new_database
from ...parts.past import NOW, caller, id_at, scalar


@pytest.fixture
def database(any_server: EmbeddedServer, any_template: str) -> Iterator[str]:
    """A database of the test's own on each server."""
    with new_database(any_server.dsn, any_template) as made:
        yield made


def two_steps() -> Flow:
    flow = Flow("flow")

    @flow.step()
    async def first():
        return 1

    @flow.step(first)
    async def second(number):
        return number

    return flow


async def now(database: str) -> datetime:
    return await retention.cutoff(caller(database), timedelta(0))


@pytest.mark.parametrize(
    "run_id",
    [
        *(id_at(NOW + timedelta(hours=hours)) for hours in (1, 12, 23, 25, 24 * 365)),
        UUID(int=2**128 - 1),
    ],
)
async def test_a_run_whose_own_id_is_of_a_time_to_come_is_deleted_too(
    client, work, database, run_id
):
    flow = two_steps()
    await work(flow)
    run = await client.start(flow, None, run_id=run_id)
    await run.wait()
    moment = await now(database)
    said = await retention.prunable(caller(database), moment)
    assert (said.runs, said.messages) == (1, 2)
    assert await retention.prune(caller(database), moment) == said


ARCHIVED = "select count(*) from pgmq.a_flow where message ->> 'run_id' = %s"
GOES_ON = "update pgflow.runs set status = 'started', completed_at = null where run_id = %s"
ENDED_LATE = "update pgflow.runs set completed_at = clock_timestamp() + '1 h' where run_id = %s"


@pytest.mark.parametrize("kept_for", [GOES_ON, ENDED_LATE], ids=["goes on", "ended late"])
async def test_archived_messages_of_a_run_that_is_kept_are_kept(client, work, database, kept_for):
    flow = two_steps()
    await work(flow)
    kept, deleted = await client.start_many(flow, [None, None])
    for run in (kept, deleted):
        await run.wait()
    moment = await now(database)
    async with await Connection.connect(database) as connection:
        await connection.execute(kept_for, [kept.id])
        said = await retention.prunable(caller(database), moment)
        assert (said.runs, said.messages) == (1, 2)
        assert await retention.prune(caller(database), moment) == said
        for run, messages in ((kept, 2), (deleted, 0)):
            assert await scalar(connection, ARCHIVED, str(run.id)) == messages
