"""What people are told of runs and queues, on each server; nothing of it stays."""

from collections.abc import AsyncIterator
from uuid import UUID

import psycopg
import pytest
from psycopg.types.json import Jsonb

from pgflow_events.core import step_summaries, summaries
from pgflow_events.core.flows import define_flow
from pgflow_events.flow.flow import Flow
from pgflow_events.postgres.connection import Connection

chain = Flow("chain", max_attempts=2, base_delay=0)


@chain.step(chain.input)
def first(run: object) -> int:
    return 1


@chain.step(first, max_attempts=1)
def second(one: int) -> int:
    return one


@chain.step(first, second)
def third(one: int, two: int) -> int:
    return one + two


@pytest.fixture
async def connection(any_database: str) -> AsyncIterator[Connection]:
    async with (
        await Connection.connect(any_database) as connected,
        connected.transaction(force_rollback=True),
    ):
        await define_flow(connected, chain.definition())
        await define_flow(connected, Flow("empty").definition())
        yield connected


async def start(connection: Connection, slug: str = "chain") -> UUID:
    cursor = await connection.execute("select run_id from pgflow.start_flow(%s, '{}')", [slug])
    ((run_id,),) = await cursor.fetchall()
    return run_id


async def claim(connection: Connection) -> None:
    await connection.execute("select pgflow.poll_for_tasks('chain', 0, 100, 0)")


async def complete(connection: Connection, run_id: UUID, slug: str, output: object) -> None:
    await claim(connection)
    await connection.execute(
        "select pgflow.complete_task(%s, %s, 0, %s)", [run_id, slug, Jsonb(output)]
    )


async def fail(connection: Connection, run_id: UUID, slug: str) -> None:
    await claim(connection)
    await connection.execute("select pgflow.fail_task(%s, %s, 0, 'no luck')", [run_id, slug])


async def states(connection: Connection, run_id: UUID) -> list[str]:
    return [step.status for step in await step_summaries.summarize_steps(connection, run_id)]


async def test_runs_are_listed_newest_first_by_flow_and_status(connection):
    a, b = await start(connection), await start(connection)
    c = await start(connection, "empty")

    async def listed(**chosen: object) -> list[UUID]:
        return [run.run_id for run in await summaries.summarize_runs(connection, **chosen)]

    assert await listed() == [c, b, a]
    assert await listed(limit=1) == [c]
    assert await listed(flow_slug="chain") == [b, a]
    assert await listed(flow_slug="chain", status="completed") == []
    assert await listed(status="completed") == [c]
    assert await listed(run_id=a) == [a]


async def test_a_run_counts_its_steps_and_its_seconds(connection):
    run_id = await start(connection)
    await complete(connection, run_id, "first", 1)
    (run,) = await summaries.summarize_runs(connection, run_id=run_id)
    assert (run.status, run.steps_done, run.steps_total) == ("started", 1, 3)
    assert run.ended_at is None
    assert 0 < run.duration == pytest.approx(run.age, abs=0.1)
    await fail(connection, run_id, "second")
    (run,) = await summaries.summarize_runs(connection, run_id=run_id)
    assert run.status == "failed"
    assert run.duration == pytest.approx((run.ended_at - run.started_at).total_seconds())


async def test_a_run_that_waits_is_told_from_one_that_runs(connection):
    async def listed() -> dict[str, list[UUID]]:
        return {
            state: [run.run_id for run in found]
            for state in ("queued", "running", "retrying", "started", "failed")
            if (found := await summaries.summarize_runs(connection, status=state))
        }

    run_id = await start(connection)
    assert await listed() == {"queued": [run_id], "started": [run_id]}
    await claim(connection)
    assert await listed() == {"running": [run_id], "started": [run_id]}
    await fail(connection, run_id, "first")
    assert await listed() == {"retrying": [run_id], "started": [run_id]}
    (run,) = await summaries.summarize_runs(connection)
    assert (run.status, run.state) == ("started", "retrying")
    await complete(connection, run_id, "first", 1)
    await fail(connection, run_id, "second")
    assert await listed() == {"failed": [run_id]}


async def test_a_step_goes_through_its_states(connection):
    run_id = await start(connection)
    assert await states(connection, run_id) == ["queued", "waiting", "waiting"]
    await claim(connection)
    assert await states(connection, run_id) == ["running", "waiting", "waiting"]
    await fail(connection, run_id, "first")
    assert await states(connection, run_id) == ["retrying", "waiting", "waiting"]
    await complete(connection, run_id, "first", 1)
    assert await states(connection, run_id) == ["completed", "queued", "waiting"]
    await fail(connection, run_id, "second")
    assert await states(connection, run_id) == ["completed", "failed", "skipped"]


async def test_a_step_tells_of_its_attempts_output_and_dependencies(connection):
    run_id = await start(connection)
    await complete(connection, run_id, "first", "x" * 10_000)
    await fail(connection, run_id, "second")
    one, two, three = await step_summaries.summarize_steps(connection, run_id)
    assert (one.attempts, one.max_attempts, one.output) == (1, 2, None)
    assert one.blob.items() >= {"kind": "json", "codec": "none", "raw_size": 10_002}.items()
    assert one.duration == pytest.approx((one.ended_at - one.started_at).total_seconds())
    assert (two.attempts, two.max_attempts, two.error, two.blob) == (1, 1, "no luck", None)
    assert (three.dependencies, three.duration) == (["first", "second"], None)


async def test_an_input_is_told_as_a_value_or_as_a_blob(connection):
    assert await step_summaries.find_input(connection, await start(connection)) == ("{}", None)


async def test_queues_are_counted_with_what_is_visible(connection):
    await start(connection)
    await claim(connection)
    await start(connection)
    await start(connection)
    full, empty = await summaries.queue_depths(connection)
    assert (full.flow_slug, full.messages, full.visible) == ("chain", 3, 2)
    assert 0 < full.waited < 60
    assert empty == summaries.QueueDepth("empty", 0, 0, None)


async def test_the_failed_runs_of_a_day_are_counted_by_flow(connection):
    assert await summaries.failed_runs(connection) == {}
    for hours in (0, 23, 25):
        await connection.execute(
            "update pgflow.runs set status = 'failed',"
            " failed_at = clock_timestamp() - make_interval(hours => %s) where run_id = %s",
            [hours, await start(connection)],
        )
    assert await summaries.failed_runs(connection) == {"chain": 2}


async def test_the_oldest_transaction_that_vacuum_heeds_is_found(any_database):
    with (
        psycopg.connect(any_database, application_name="idler") as idle,
        psycopg.connect(any_database, application_name="holder") as other,
    ):
        idle.execute("select 1")  # holds nothing back once it is answered
        async with await Connection.connect(any_database) as connection:
            assert await summaries.oldest_transaction(connection) is None
            other.execute("select pg_current_xact_id()")
            found = await summaries.oldest_transaction(connection)
    assert (found.application_name, found.state) == ("holder", "idle in transaction")
    assert 0 < found.age < 60


async def test_a_role_of_the_server_sees_all_sessions(connection):
    assert await summaries.sees_all_sessions(connection)
    assert await summaries.notification_queue_usage(connection) < 1
    await connection.execute("create role nosy")
    await connection.execute("set local role nosy")
    assert not await summaries.sees_all_sessions(connection)
