"""Queues that are lost or another application's, as workers, the doctor and migrations see them."""

import re

import psycopg
import pytest
import trio

from pgflow_events import Flow, Worker
from pgflow_events.cli.doctor.losses import queue_losses, schema_losses
from pgflow_events.core.summaries import queue_depths
from pgflow_events.postgres.connection import Connection
from pgflow_events.schema.migrations import migrate

from ...parts.observing import execute, logged, rows, until

LOST = 'the queue of flow "lost" is lost: its tasks wait until `pgflow-events migrate` makes it'
LEFT = "select msg_id, read_ct, message from pgmq.q_emails"


def flow_of(slug):
    flow = Flow(slug, input=int, max_attempts=2)

    @flow.step(flow.input)
    async def double(n: int) -> int:
        return 2 * n

    @flow.step(double)
    async def again(n: int) -> int:
        return 2 * n

    return flow


async def doctor(database):
    async with await Connection.connect(database) as connection:
        return await queue_losses(connection)


async def mend(database):
    async with await Connection.connect(database) as connection:
        await migrate(connection)


# Workers


async def is_idle(database):
    """Whether no claim is under way: one that has begun to look into a queue needs it."""
    return not await rows(
        database,
        "select from pg_stat_activity where datname = current_database() and state = 'active'"
        " and pid <> pg_backend_pid()",
    )


async def test_a_worker_whose_flow_has_lost_its_queue_says_so_and_works_for_its_other_flows(
    database, work, client, caplog
):
    lost, whole = flow_of("lost"), flow_of("whole")
    await work(lost, whole)
    await until(lambda: is_idle(database))
    await execute(database, "select pgmq.drop_queue('lost')")
    waiting = await client.start(lost, 1)
    assert await (await client.start(whole, 1)).result() == {"again": 4}
    await logged(caplog, LOST)
    assert await waiting.status() == "started"
    await mend(database)
    with trio.fail_after(10):
        assert await waiting.result() == {"again": 4}


async def test_a_worker_may_start_while_the_queue_of_a_flow_is_lost(database, work, client, caplog):
    lost, whole = flow_of("lost"), flow_of("whole")
    await work(lost, whole)
    waiting = await client.start(lost, 1)
    await waiting.result()
    await execute(database, "select pgmq.drop_queue('lost')")
    await work(lost, whole)
    assert await (await client.start(whole, 1)).result() == {"again": 4}
    await logged(caplog, LOST)


@pytest.mark.parametrize("loss", ["drop_queue('lost')", "purge_queue('lost')", "delete('lost', 1)"])
async def test_what_a_handler_returns_while_its_message_is_lost_counts(
    database, work, client, loss
):
    flow = Flow("lost", input=int, max_attempts=1)
    running, lost = trio.Event(), trio.Event()

    @flow.step(flow.input)
    async def wait(n: int) -> int:
        running.set()
        await lost.wait()
        return n

    @flow.step(wait)
    async def after(n: int) -> int:
        return n + 1

    await work(flow)
    run = await client.start(flow, 1)
    await running.wait()
    await execute(database, f"select pgmq.{loss}")
    lost.set()
    await until(lambda: rows(database, "select from pgflow.step_tasks where status = 'completed'"))
    await mend(database)
    with trio.fail_after(10):
        assert await run.result() == {"after": 2}


async def test_a_worker_refuses_the_queue_of_another_application_and_touches_nothing(
    database, work
):
    await execute(database, "select pgmq.create('emails')", "select pgmq.send('emails', '{}')")
    with pytest.raises(psycopg.errors.DuplicateTable, match="another slug"):
        await work(flow_of("emails"))
    assert await rows(database, LEFT) == [(1, 0, {})]


async def test_a_worker_leaves_messages_alone_that_no_flow_sent(database, work, client):
    flow = flow_of("emails")
    await work(flow)
    await execute(database, "select pgmq.send('emails', '{}') from generate_series(1, 120)")
    query = "select * from pgmq.q_emails order by msg_id"
    before = await rows(database, query)
    for n in range(5):
        assert await (await client.start(flow, n)).result() == {"again": 4 * n}
    await execute(database, "notify whatever")
    assert await rows(database, query) == before
    (depth,) = await depths(database)
    assert (depth.messages, depth.waited) == (0, None)
    ((status, found),) = await doctor(database)
    assert status == "warning"
    assert found.startswith("emails: the queue has 120 messages that no flow sent and")


async def depths(database):
    async with await Connection.connect(database) as connection:
        return await queue_depths(connection)


# What the doctor finds, and what mends it

LOSSES = {
    "the queue": (
        "select pgmq.drop_queue('f')",
        "f: pgmq.q_f and pgmq.a_f of its queue are lost, with the messages of 2 tasks: run",
    ),
    "a table": (
        "drop table pgmq.q_f",
        "f: pgmq.q_f of its queue is lost, with the messages of 2 tasks: run",
    ),
    "the archive": (
        "drop table pgmq.a_f",
        "f: pgmq.a_f of its queue is lost: run",
    ),
    "messages": (
        "select pgmq.purge_queue('f')",
        "f: the messages of 2 tasks are lost, so no worker can find them: run",
    ),
    "a message": (
        "select pgmq.archive('f', 2)",
        "f: the messages of 1 task are lost, so no worker can find them: run",
    ),
    "functions": (
        "drop function pgflow_queues.advance_q_f, pgflow_queues.look_q_f",
        "f: its queue has lost pgflow_queues.advance_q_f, pgflow_queues.look_q_f: run",
    ),
    "all functions": (
        "drop schema pgflow_queues cascade",
        "f: its queue has lost pgflow_queues.start_q_f, pgflow_queues.advance_q_f, pgflow_queues.",
    ),
    "numbers": (
        "alter table pgmq.q_f alter msg_id restart",
        "f: the ids of its messages began again: run",
    ),
}


@pytest.fixture
async def two_tasks(database):
    """A flow with two tasks, and one that was done."""
    await execute(
        database,
        "select pgflow.create_flow('f'), pgflow.add_step('f', 'a')",
        "select pgflow.create_flow('g'), pgflow.add_step('g', 'a')",
        "select pgflow.start_flow('f', '0')",
        "select pgflow.complete_task(run_id, 'a', 0, '1') from pgflow.poll_for_tasks('f', 1, 1, 0)",
        "select pgflow.start_flows('f', '{1,2}')",
    )
    return database


@pytest.mark.parametrize(("loss", "said"), LOSSES.values(), ids=LOSSES)
async def test_the_doctor_finds_what_is_lost_and_what_it_advises_mends_it(two_tasks, loss, said):
    assert await doctor(two_tasks) == []
    await execute(two_tasks, loss)
    (status, found), *of_other_flows = await doctor(two_tasks)
    assert status == "failed"
    assert found.startswith(said)
    assert bool(of_other_flows) == ("schema" in loss)
    assert re.search(r": run `pgflow-events migrate`", found)
    await mend(two_tasks)
    assert await doctor(two_tasks) == []
    claimed = await rows(two_tasks, "select * from pgflow.poll_for_tasks('f', 1, 10, 0)")
    assert len(claimed) == 2
    for task in claimed:
        complete = "select from pgflow.complete_task(%s, 'a', 0, '1')"
        await rows(two_tasks, complete, task.run_id)
    assert len(await rows(two_tasks, "select from pgflow.runs where status = 'completed'")) == 3


@pytest.mark.parametrize(
    "loss",
    [
        "truncate pgflow.step_tasks",
        "truncate pgflow.step_states",
        "delete from pgflow.step_tasks where status = 'queued'",
        "update pgflow.step_tasks set status = 'cancelled' where status = 'queued'",
    ],
)
async def test_the_doctor_finds_runs_that_cannot_go_on_and_how_to_be_rid_of_them(two_tasks, loss):
    await execute(two_tasks, loss)
    ((status, found),) = await doctor(two_tasks)
    assert status == "failed"
    assert found.startswith("f: 2 runs cannot go on, because rows were deleted by hand: restore a")
    (advice,) = re.findall("`(delete .*)`", found)
    await execute(two_tasks, advice)
    assert await doctor(two_tasks) == []
    assert len(await rows(two_tasks, "select from pgflow.runs")) == 1


EMPTIED = {"steps": "truncate pgflow.steps cascade", "dependencies": "truncate pgflow.deps"}


@pytest.mark.parametrize("loss", EMPTIED.values(), ids=EMPTIED)
async def test_a_worker_that_starts_defines_steps_again_that_are_lost(
    database, client, work, nursery, loss
):
    flow = flow_of("f")
    first = trio.CancelScope()
    await nursery.start(run_within, first, Worker([flow], database))
    assert await (await client.start(flow, 1)).result() == {"again": 4}
    first.cancel()
    waiting = await client.start(flow, 2)
    await execute(database, loss)
    ((status, found),) = await doctor(database)
    assert status == "failed"
    assert found.startswith("f: its steps or their dependencies were deleted by hand: restart")
    await work(flow)
    assert await waiting.result() == {"again": 8}
    assert await doctor(database) == []


async def run_within(
    scope: trio.CancelScope, worker: Worker, *, task_status: trio.TaskStatus[None]
) -> None:
    with scope:
        await worker.run(task_status=task_status)


async def test_a_migration_brings_all_queues_back_where_pgmq_is_lost(two_tasks):
    await execute(two_tasks, "drop schema pgmq cascade")
    await mend(two_tasks)
    assert await doctor(two_tasks) == []
    assert len(await rows(two_tasks, "select * from pgflow.poll_for_tasks('f', 1, 10, 0)")) == 2


async def test_pruning_goes_on_where_an_archive_is_lost_and_leaves_what_no_flow_sent(two_tasks):
    await execute(
        two_tasks,
        "drop table pgmq.a_f",
        "select pgmq.send('g', '{}'), pgmq.archive('g', 1)",
    )
    for slug in ("f", "g"):
        prune = "select pgflow.delete_archived(%s, now() + interval '1 day', 10) as n"
        count = "select pgflow.old_messages(%s, now() + interval '1 day') as n"
        assert (await rows(two_tasks, count, slug), await rows(two_tasks, prune, slug)) == (
            [(0,)],
            [(0,)],
        )


async def test_the_doctor_says_that_a_queue_belongs_to_another_application(two_tasks):
    await execute(two_tasks, "select pgmq.drop_queue('f')", "select pgmq.create('f')")
    ((status, found),) = await doctor(two_tasks)
    assert status == "failed"
    assert found.startswith("f: pgmq.q_f and pgmq.a_f belong to another application: give the flow")
    (advice,) = re.findall("`(select .*)`", found)
    await execute(two_tasks, advice)
    await mend(two_tasks)
    assert await doctor(two_tasks) == []
    assert len(await rows(two_tasks, "select * from pgflow.poll_for_tasks('f', 1, 10, 0)")) == 2


async def test_a_queue_that_no_longer_numbers_its_messages_is_mended_as_the_doctor_says(two_tasks):
    (claimed, _) = await rows(two_tasks, "select * from pgflow.poll_for_tasks('f', 1, 10, 0)")
    complete = "select from pgflow.complete_task(%s, 'a', 0, '1')"
    await rows(two_tasks, complete, claimed.run_id)
    await execute(two_tasks, "alter table pgmq.q_f alter column msg_id drop identity")
    ((status, found),) = await doctor(two_tasks)
    assert status == "failed"
    assert found.startswith("f: its queue no longer numbers its messages, so none can be sent: ")
    (advice,) = re.findall("`(.*)`", found)
    await execute(two_tasks, *advice.split("; "))
    assert await doctor(two_tasks) == []
    await rows(two_tasks, "select from pgflow.start_flow('f', '1')")
    assert len(await rows(two_tasks, "select from pgmq.q_f")) == 2
    assert await doctor(two_tasks) == []


ALTERED = {
    "alter table pgflow.step_tasks set unlogged": "pgflow.step_tasks is unlogged, so a crash",
    "alter table pgmq.a_f set unlogged": "pgmq.a_f is unlogged, so a crash",
    "alter table pgflow.runs enable row level security": "pgflow.runs has row level security",
    "create rule mine as on insert to pgflow.runs do also nothing": "the rule mine on pgflow.runs",
}


@pytest.mark.parametrize(("alteration", "said"), ALTERED.items(), ids=ALTERED)
async def test_what_makes_a_table_do_something_else_is_told_with_its_remedy(
    two_tasks, alteration, said
):
    await execute(two_tasks, alteration)
    async with await Connection.connect(two_tasks) as connection:
        ((status, found),) = await schema_losses(connection)
        assert (status, found.startswith(said)) == ("failed", True), found
        (advice,) = re.findall("`(.*)`", found)
        await execute(two_tasks, advice)
        assert await schema_losses(connection) == []


@pytest.mark.parametrize("view", ["blobs", "live_workers"])
async def test_a_view_that_shows_something_else_is_told_and_made_again(two_tasks, view):
    ((text,),) = await rows(two_tasks, f"select pg_get_viewdef('pgflow.{view}'::regclass)")
    hides = f"select * from ({text.rstrip(';')}) everything limit 0"
    await execute(two_tasks, f"create or replace view pgflow.{view} as {hides}")
    async with await Connection.connect(two_tasks) as connection:
        ((_, found),) = await schema_losses(connection)
        assert found.startswith(f"the view pgflow.{view} was changed: run `drop view ")
        await execute(two_tasks, found.split("`")[1])
        await mend(two_tasks)
        assert await schema_losses(connection) == []
