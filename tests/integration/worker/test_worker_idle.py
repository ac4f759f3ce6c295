"""What a worker asks the database while there is nothing to do, and when something falls due."""

import os
import time

import pytest
import trio

from pgflow_events import Flow, RunFailed, Settings, connect
from pgflow_events.postgres.connection import Connection
from pgflow_events.worker.claiming.turns import REST

from ...parts.observing import counting, rows, until

LONG = bool(os.environ.get("PGFLOW_TEST_LONG"))
HOUR = Settings(check_interval=3600)
HOUSEKEEPING = ("ensure_blob_days", "forget_blobs", "blob_dictionaries")


def chain(length: int) -> Flow:
    """Steps that each add one to the output of the one before."""
    flow = Flow("flow", timeout=1, input=int)
    step = flow.input
    for i in range(length):
        step = flow.step(step, slug=f"step_{i}")(lambda number: number + 1)
    return flow


@pytest.mark.parametrize(
    "seconds",
    [
        1,
        pytest.param(20, marks=pytest.mark.skipif(not LONG, reason="PGFLOW_TEST_LONG is not set")),
    ],
)
async def test_an_idle_worker_looks_once_more_and_then_sends_no_statement_at_all(
    client, work, database, seconds
):
    flow = chain(3)
    await work(flow, settings=HOUR)
    async with counting(database) as statements:
        for run in await client.start_many(flow, [0] * 10):
            assert await run.result() == {"step_2": 3}
        await statements.settle()
        await trio.sleep(seconds)
        counts = await statements.counts()
        assert counts.pop("pgflow_queues.claim_", 0) <= 1  # half a second after the last one
        assert counts == {}


SESSIONS = """
select pid from pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'
"""


@pytest.mark.parametrize(("workers", "sessions"), [(1, 2), (2, 6)])
async def test_an_idle_worker_has_two_sessions_and_one_more_to_watch_a_peer(
    work, database, workers, sessions
):
    flow = chain(3)
    for _ in range(workers):
        await work(flow, settings=Settings(check_interval=0.2))
    async with connect(database) as client:
        for run in await client.start_many(flow, [0] * 50):
            await run.result()

    async def is_at_rest() -> bool:
        return len(await rows(database, SESSIONS)) == sessions

    await until(is_at_rest)


async def test_each_check_is_one_notification_and_one_claim_and_a_little_housekeeping(
    work, database
):
    interval = 0.3
    async with counting(database) as statements:
        await work(chain(1), settings=Settings(check_interval=interval))
        await statements.settle()
        began = trio.current_time()
        await trio.sleep(4 * interval)
        counts = await statements.counts()
        intervals = (trio.current_time() - began) / interval
    pings, claims = counts.pop("pg_notification_queue_usage"), counts.pop("pgflow_queues.claim_")
    assert len(counts) == len(HOUSEKEEPING)
    for name in HOUSEKEEPING:
        assert any(name in statement and n <= intervals + 1 for statement, n in counts.items())
    assert 2 <= pings <= intervals + 1  # as many as there were intervals, but they may be late
    assert abs(claims - pings) <= 1


async def test_a_step_of_a_chain_costs_one_statement_and_no_notification(client, work, database):
    flow = chain(5)
    worker = await work(flow, settings=HOUR)
    heard = []
    async with counting(database) as statements, await Connection.connect(database) as listening:
        await statements.settle()
        ((channel,),) = await rows(database, "select pgflow.channel('tasks', 'flow')")
        await listening.execute(f"listen {channel}")
        listening.add_notify_handler(heard.append)
        run = await client.start(flow, 0)
        assert await run.result() == {"step_4": 5}
        counts = await statements.counts()
        await listening.execute("select")  # to hear what has been sent
    assert len(heard) == 1  # of the start
    assert counts["complete_tasks"] == 5
    assert counts["pgflow_queues.claim_"] <= 2
    assert counts["notify_owed"] == 1  # the end of the run
    assert worker.handed_over == 4


async def test_a_flood_of_forged_notifications_costs_a_claim_each_five_milliseconds(work, database):
    await work(chain(1), settings=HOUR)
    async with counting(database) as statements, await Connection.connect(database) as forger:
        await statements.settle()
        began = time.monotonic()
        for i in range(2000):
            await forger.execute("select pg_notify(pgflow.channel('tasks', 'flow'), %s)", [str(i)])
        took = time.monotonic() - began
        counts = await statements.counts()
    assert 5 < counts["pgflow_queues.claim_"] <= took / REST + 2


class Again:
    """A flow whose step, tried again, waits to be let go."""

    def __init__(self, **options) -> None:
        self.flow = Flow("flow", **options)
        self.failed, self.running, self.go_on = trio.Event(), trio.Event(), trio.Event()
        self.flow.step(self.flow.context, slug="step")(self._step)

    async def _step(self, context):
        if context.attempt == 1:
            self.failed.set()
            raise ValueError
        self.running.set()
        await self.go_on.wait()
        return context.attempt


async def test_a_retry_runs_when_it_is_due_and_nothing_is_asked_until_then(client, work, database):
    again = Again(base_delay=1)  # 2 seconds after the first attempt
    await work(again.flow, settings=HOUR)
    async with counting(database) as statements:
        run = await client.start(again.flow, None)
        await again.failed.wait()
        await statements.settle()
        await again.running.wait()
        counts = await statements.counts()
        assert counts.pop("pgflow_queues.claim_") <= 2  # the second looks for others that are due
        assert counts == {}
    again.go_on.set()
    assert await run.result() == {"step": 2}
    ((late,),) = await rows(
        database,
        "select extract(epoch from started_at - queued_at)::float8 - 2 from pgflow.step_tasks",
    )
    print(f"a retry started {1000 * late:.1f} ms after it was due")  # noqa: T201
    assert 0 <= late < 1


async def test_tasks_of_a_worker_that_died_are_run_or_failed_at_their_timeout_without_a_notice(
    client, work, database
):
    again = Again(timeout=1)
    last = Flow("last", timeout=1, max_attempts=1)
    last.step(slug="step")(lambda: None)
    await work(again.flow, last, settings=HOUR)

    async with counting(database) as statements, await Connection.connect(database) as dead:
        async with dead.transaction():  # started and claimed at once, so that no other claims them
            await dead.execute("select from pgflow.start_flow('last', '0')")
            await dead.execute("select from pgflow.start_flow('flow', '0')")
            await dead.execute(
                "select from pgflow.claim_tasks(array['last', 'flow'], 2, gen_random_uuid(), null)"
            )
            for queue in ("q_last", "q_flow"):  # 3 seconds are long for a test
                await dead.execute(f"update pgmq.{queue} set vt = vt - interval '2 s'")
        await statements.settle()
        await again.running.wait()
        counts = await statements.counts()
        # The two fall due one after the other, and a claim follows what has lapsed; that may be
        # failed before the other one runs.
        lapses = counts.pop("fail_lapsed_tasks", 0)
        assert lapses <= 1
        assert 1 <= counts.pop("pgflow_queues.claim_") <= 3 + lapses
        assert counts == {}
    again.go_on.set()
    lost, run = [await client.find(run_id) for run_id in await run_ids(database)]
    assert await run.result() == {"step": 2}
    with pytest.raises(RunFailed, match="attempt 1 gave no answer within its 1 seconds"):
        await lost.result()


async def run_ids(database):
    return [row.run_id for row in await rows(database, "select run_id from pgflow.runs order by 1")]
