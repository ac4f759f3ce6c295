"""Runs that begin later: no worker takes their tasks before, and none asks for them meanwhile."""

from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from math import inf, nan

import pytest
import trio

from pgflow_events import Flow, Misuse, RunExists, Settings, Worker
from pgflow_events.cli.doctor.losses import queue_losses
from pgflow_events.core.flows import define_flow
from pgflow_events.postgres.connection import Connection

from ...parts.liveness_scenes import Gate
from ...parts.observing import counting, execute, rows

NUDGE = "select pg_notify(pgflow.channel('tasks', 'flow'), '')"
HOUR = Settings(check_interval=3600)
PAGE = "<p>" * 10_000
SOME_TIME = datetime(2026, 12, 24, tzinfo=UTC)
NAIVE = datetime(2026, 12, 24, tzinfo=UTC).replace(tzinfo=None)
# How late each task was claimed, in seconds. One that was claimed too early has a negative number.
LATE = (
    "select extract(epoch from t.started_at - t.queued_at)::float8 as late from pgflow.step_tasks t"
)
# For how many seconds a task was hidden. The row of its run was written shortly after it.
HIDDEN = """
select extract(epoch from q.vt - r.started_at)::float8 + 0.5 as until, q.vt = t.queued_at as is_told
from pgmq.q_flow q join pgflow.step_tasks t on t.message_id = q.msg_id
join pgflow.runs r using (run_id)
"""
FREE = "select count(*)::integer as tasks from pgflow.poll_for_tasks('flow', 0, 10, 0)"


def echo(**options) -> Flow:
    flow = Flow("flow", **options)
    flow.step(flow.input, slug="step")(lambda value: value)
    return flow


async def test_a_delayed_run_begins_at_its_moment_and_nobody_polls_until_then(
    client, work, database
):
    flow = echo()
    await work(flow, settings=HOUR)
    async with counting(database) as statements:
        run = await client.start(flow, 7, delay=1.5)
        await statements.settle()
        ((hidden, is_told),) = await rows(database, HIDDEN)
        assert (hidden > 1.5, is_told) == (True, True)
        await statements.reset()
        assert await run.result() == {"step": 7}
        counts = await statements.counts()
    ((late,),) = await rows(database, LATE)
    assert 0 <= late < 8
    assert counts["complete_tasks"] == 1
    assert counts["pgflow_queues.claim_"] <= 2  # the second looks for others that are due


async def test_runs_of_several_delays_begin_in_the_order_of_their_moments(client, work, database):
    flow, begun = Flow("flow"), []
    flow.step(flow.input, slug="step")(begun.append)
    await work(flow, settings=HOUR)
    runs = [await client.start(flow, delay, delay=delay) for delay in (0.9, 0.6, 0.7)]
    runs += [await client.start(flow, 0)]
    for run in runs:
        await run.wait()
    assert begun == [0, 0.6, 0.7, 0.9]
    assert all(0 <= late < 8 for (late,) in await rows(database, LATE))


async def test_a_run_begins_at_a_time_by_the_clock_of_the_database(client, work, database):
    flow = echo()
    await work(flow, settings=HOUR)
    ((now,),) = await rows(database, "select clock_timestamp() as now")
    moment = now + timedelta(seconds=0.8)
    elsewhere = moment.astimezone(timezone(timedelta(hours=-9)))
    run = await client.start(flow, 1, at=elsewhere)
    assert await run.result() == {"step": 1}
    ((begun,),) = await rows(database, "select started_at from pgflow.step_tasks")
    assert moment <= begun < moment + timedelta(seconds=8)


@pytest.mark.parametrize(
    "when",
    [{"at": datetime(1, 1, 2, tzinfo=UTC)}, {"at": datetime(2020, 1, 1, tzinfo=UTC)}, {"delay": 0}],
    ids=str,
)
async def test_a_time_that_is_over_is_at_once(client, work, when):
    flow = echo()
    await work(flow, settings=HOUR)
    with trio.fail_after(5):
        assert await (await client.start(flow, 1, **when)).result() == {"step": 1}


@pytest.mark.parametrize("value", ["small", PAGE], ids=["inline", "blob"])
@pytest.mark.parametrize(
    ("when", "seconds"),
    [
        ({"delay": 3600}, 3600),
        ({"delay": 36_500 * 86_400}, 36_500 * 86_400),
        ({"at": datetime(2120, 1, 1, tzinfo=UTC)}, 10**9),
    ],
    ids=["hour", "longest", "last"],
)
async def test_the_tasks_of_all_runs_are_hidden_until_then(client, database, value, when, seconds):
    await define(database, echo())
    await client.start_many("flow", [value, 1], **when)
    hidden = await rows(database, HIDDEN)
    assert len(hidden) == 2
    assert all(seconds <= task.until for task in hidden)
    assert all(task.is_told for task in hidden)
    assert await rows(database, FREE) == [(0,)]


async def define(database, flow):
    async with await Connection.connect(database) as connection:
        await define_flow(connection, flow.definition())


async def test_a_delayed_run_outlives_workers_that_stop_and_workers_that_are_killed(
    client, database, sleeper
):
    gate = Gate()
    gate.open.set()
    async with trio.open_nursery() as nursery:
        stopped = Worker([gate.flow], database, settings=HOUR)
        await nursery.start(stopped.run)
        run = await client.start(gate.flow, None, delay=6)
        stopped.stop()
    process = sleeper()
    process.kill()
    process.wait()
    async with trio.open_nursery() as nursery:
        last = Worker([gate.flow], database, settings=HOUR)
        await nursery.start(last.run)
        assert await run.result() == {"step": 1}
        last.stop()
    ((late,),) = await rows(database, LATE)
    assert 0 <= late < 8


async def test_a_retry_waits_for_its_backoff_alone(client, work, database):
    flow = Flow("flow", base_delay=0, max_attempts=2)

    @flow.step(flow.context)
    async def step(context):
        if context.attempt == 1:
            raise ValueError

    await work(flow, settings=HOUR, hooks=())
    run = await client.start(flow, None, delay=3)
    began = trio.current_time()
    await execute(database, "update pgmq.q_flow set vt = clock_timestamp()", NUDGE)
    await run.result()
    assert trio.current_time() - began < 2.5


async def test_repair_gives_a_delayed_task_its_message_again_and_its_moment(client, database):
    await define(database, echo())
    await client.start("flow", 1, delay=3600)
    async with await Connection.connect(database) as connection:
        assert await queue_losses(connection) == []
        await connection.execute("delete from pgmq.q_flow")
        ((_, said),) = await queue_losses(connection)
        assert "the messages of 1 task are lost" in said
        await connection.execute("select pgflow.requeue_lost_tasks('flow')")
        assert await queue_losses(connection) == []
    ((until, is_told),) = await rows(database, HIDDEN)
    assert (until >= 3600, is_told) == (True, True)


@pytest.mark.parametrize(
    ("when", "told"),
    [
        (
            {"delay": 1, "at": SOME_TIME},
            "a start takes delay or at, not both",
        ),
        (
            {"delay": 0, "at": SOME_TIME},
            "a start takes delay or at, not both",
        ),
        ({"delay": -1}, "delay is 0 to 3,153,600,000 seconds, not -1"),
        ({"delay": nan}, "not nan"),
        ({"delay": inf}, "not inf"),
        ({"delay": 10**400}, "seconds, not 1000"),
        ({"delay": True}, "not True"),
        ({"delay": "30"}, "not '30'"),
        ({"delay": timedelta(1)}, "not datetime.timedelta(days=1)"),
        ({"at": NAIVE}, "at has no time zone: give one, as in datetime(2026, "),
        ({"at": "2026-12-24"}, "at is a datetime with a time zone such as datetime(2026, "),
        ({"at": 5}, "not 5"),
        (
            {"at": datetime.max.replace(tzinfo=UTC)},
            "at is within 36,500 days from now, not datetime",
        ),
    ],
    ids=str,
)
async def test_what_is_no_moment_is_refused(client, when, told):
    for start in (partial(client.start, "flow", 1), partial(client.start_many, "flow", [1])):
        with pytest.raises(Misuse) as error:
            await start(**when)
        assert told in str(error.value)


async def test_a_step_with_a_start_delay_begins_so_much_later_and_its_retry_does_not(
    client, work, database
):
    flow, begun = Flow("flow", base_delay=0, max_attempts=2), []

    @flow.step(slug="early")
    async def early():
        begun.append("early")

    @flow.step(flow.context, early, slug="late", start_delay=1)
    async def late(context, none):
        begun.append(context.attempt)
        if context.attempt == 1:
            raise ValueError

    await work(flow, settings=HOUR, hooks=())
    async with counting(database) as statements:
        run = await client.start(flow, None)
        await statements.settle()
        assert begun == ["early"]
        (_, hidden) = await rows(database, f"{AFTER} order by step_slug")
        assert (hidden.is_delayed, hidden.seconds >= 1) == (True, True)
        await statements.reset()
        began = trio.current_time()
        await run.result()
        counts = await statements.counts()
    assert begun == ["early", 1, 2]
    assert trio.current_time() - began < 1 + 0.9  # the retry does not wait for a second again
    assert counts["pgflow_queues.claim_"] <= 4


AFTER = """
select
  extract(epoch from t.queued_at - s.started_at)::float8 + 0.01 as seconds,
  t.queued_at > clock_timestamp() as is_delayed
from pgflow.step_tasks t join pgflow.step_states s using (run_id, step_slug)
"""


@pytest.mark.parametrize(("delay", "seconds"), [(0.2, 1), (2, 2)])
async def test_of_the_delay_of_a_run_and_of_its_first_step_the_longer_one_holds(
    client, database, delay, seconds
):
    flow = Flow("flow")
    flow.step(flow.input, slug="late", start_delay=1)(lambda value: value)
    await define(database, flow)
    await client.start("flow", 1, delay=delay)
    ((found, _),) = await rows(database, AFTER)
    assert seconds <= found < seconds + 0.5


async def test_the_elements_of_a_late_map_begin_together_and_none_of_them_before(
    client, work, database
):
    flow = Flow("flow", input=list[int])
    flow.step(flow.input.each, slug="late", start_delay=1)(lambda number: number)
    await work(flow, settings=HOUR)
    run = await client.start(flow, [1, 2, 3])
    assert await rows(database, FREE) == [(0,)]
    assert await run.result() == {"late": [1, 2, 3]}
    late = [task.late for task in await rows(database, LATE)]
    assert len(late) == 3
    assert all(0 <= seconds < 8 for seconds in late)


async def test_repair_gives_a_late_step_its_message_again_and_its_moment(client, database):
    flow = Flow("flow", input=list[int])
    flow.step(flow.input.each, slug="late", start_delay=3600)(lambda number: number)
    await define(database, flow)
    await client.start(flow, [1, 2])
    await execute(database, "delete from pgmq.q_flow", "select pgflow.requeue_lost_tasks('flow')")
    assert [task.is_told for task in await rows(database, HIDDEN)] == [True, True]
    assert await rows(database, FREE) == [(0,)]


async def test_a_delayed_start_that_is_repeated_starts_one_run(client, work, database):
    flow = echo()
    await work(flow, settings=HOUR)
    run = await client.start(flow, 1, delay=3600)
    with pytest.raises(RunExists):
        await client.start(flow, 1, run_id=run.id, delay=3600)
    assert len(await rows(database, "select from pgmq.q_flow")) == 1
