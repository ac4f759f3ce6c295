"""A worker that dies or goes: what it had claimed runs elsewhere at once."""

import time
from uuid import UUID

import pytest
import trio
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from pgflow_events import Flow, RunFailed, Settings, Worker
from pgflow_events.core import workers as seats
from pgflow_events.postgres.connection import Connection

from ...parts.liveness_scenes import Gate, asleep, attempts, whole
from ...parts.observing import counting, execute, rows, until

HOUR = Settings(check_interval=3600, grace=3600)
SOON = Settings(check_interval=3600, grace=0.5)


async def test_the_task_of_a_killed_worker_runs_elsewhere_at_once(client, database, sleeper):
    for _ in range(5):
        gate = Gate()
        gate.open.set()
        process = sleeper()
        run = await client.start(gate.flow, None)
        await asleep(process)
        other = Worker([gate.flow], database, settings=HOUR)
        async with trio.open_nursery() as nursery:
            await nursery.start(other.run)
            await whole(database)
            began = time.monotonic()
            process.kill()
            await gate.running.wait()
            took = time.monotonic() - began
            assert await run.result() == {"step": 2}
            other.stop()
        print(f"killed, and running elsewhere after {1000 * took:.1f} ms")  # noqa: T201
        assert took < 2


async def test_a_task_whose_worker_is_killed_at_its_last_attempt_fails_at_once(
    client, work, database, sleeper
):
    gate = Gate(max_attempts=1)
    process = sleeper()
    run = await client.start(gate.flow, None)
    await asleep(process)
    await work(gate.flow, settings=HOUR)
    await whole(database)
    process.kill()
    said = rf"attempt 1 was lost: its worker died \(process {process.pid} on "
    with pytest.raises(RunFailed, match=said):
        await run.result()


async def test_a_worker_alone_finds_what_the_last_one_left_when_its_grace_is_over(
    client, work, database, sleeper
):
    gate = Gate()
    process = sleeper()
    await client.start(gate.flow, None)
    await asleep(process)
    process.kill()
    process.wait()
    began = trio.current_time()
    worker = await work(gate.flow, settings=SOON)
    await gate.running.wait()
    assert gate.attempts == [2]
    assert trio.current_time() - began > SOON.grace
    await whole(database, worker)


DIED_UNSEEN = """
insert into pgflow.worker_seats (worker_id, seat, flow_slugs, host, pid)
values (%s, nextval('pgflow.seats'), '{}', 'lost', 1) returning 1
"""


@pytest.mark.parametrize("settings", [HOUR, SOON], ids=["absent", "dead"])
async def test_behind_one_that_may_be_about_to_come_back_a_death_is_noticed_all_the_same(
    client, database, sleeper, nursery, settings
):
    gate = Gate()
    gate.open.set()
    process = sleeper()
    run = await client.start(gate.flow, None)
    await asleep(process)
    worker = Worker([gate.flow], database, settings=settings)
    await rows(database, DIED_UNSEEN, UUID(int=worker.id.int + 1))  # the next in the ring
    await nursery.start(worker.run)

    async def is_watched() -> bool:
        return bool(worker._liveness._seen)

    await until(is_watched)
    if settings is SOON:
        await whole(database)
    process.kill()
    with trio.fail_after(10):
        assert await run.result() == {"step": 2}
    left = await rows(database, "select from pgflow.worker_seats")
    assert len(left) == (1 if settings is SOON else 2)


async def test_behind_one_of_which_a_session_survives_deaths_are_noticed_all_the_same(
    client, database, sleeper, nursery
):
    gate = Gate()
    gate.open.set()
    processes, runs = [], []
    for _ in range(2):
        processes.append(sleeper())
        runs.append(await client.start(gate.flow, None))
        await asleep(processes[-1])
    worker = Worker([gate.flow], database, settings=SOON)
    between = UUID(int=worker.id.int + 1)  # the next in the ring
    async with (
        await Connection.connect(database) as listens,
        await Connection.connect(database) as survives,
    ):
        await seats.hold_worker_lock(survives, between)
        await seats.take_seat(listens, between, ["rescue"], "lost", 1)
        await nursery.start(worker.run)

        async def is_watched() -> bool:
            return any(peer.worker_id == between for peer in worker._liveness._seen)

        await until(is_watched)
        await listens.close()
        for process in processes:
            process.kill()
        with trio.fail_after(10):
            for run in runs:
                assert await run.result() == {"step": 2}
        left = await rows(database, "select worker_id from pgflow.worker_seats order by 1")
        assert [row.worker_id for row in left] == sorted([worker.id, between])
    await whole(database, worker)  # it is buried once that session has ended


async def test_what_a_cancelled_worker_had_claimed_runs_elsewhere_at_once(client, work, database):
    gate, other = Gate(), Gate()
    async with trio.open_nursery() as nursery:
        await nursery.start(Worker([gate.flow], database, settings=HOUR).run)
        await client.start(gate.flow, None)
        await gate.running.wait()
        await work(other.flow, settings=HOUR)
        await whole(database)
        nursery.cancel_scope.cancel()
    await other.running.wait()
    assert other.attempts == [2]


async def test_who_leaves_with_tasks_unfinished_frees_them_without_a_peer_to_do_it(
    client, database
):
    gate = Gate()
    worker = Worker([gate.flow], database, settings=HOUR)
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.run)
        await client.start(gate.flow, None)
        await gate.running.wait()
        worker.stop()
        worker._tasks.cancel_scope.cancel()
    assert await rows(database, "select from pgflow.worker_seats") == []
    ((visible,),) = await rows(database, "select vt <= clock_timestamp() from pgmq.q_rescue")
    assert visible


async def test_a_death_between_a_commit_and_its_notifications_is_made_good(
    client, work, database, monkeypatch
):
    gate = Gate()
    gate.open.set()
    committed = trio.Event()

    async def notify(*owed):
        committed.set()
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        with monkeypatch.context() as patch:
            patch.setattr("pgflow_events.worker.worker.wake_others", notify)
            worker = Worker([gate.flow], database, settings=HOUR)
        await nursery.start(worker.run)
        run = await client.start(gate.flow, None)
        async with trio.open_nursery() as waiting:
            waiting.start_soon(run.result)
            await committed.wait()
            await work(Gate().flow, settings=HOUR)
            await whole(database)
            nursery.cancel_scope.cancel()


async def test_workers_are_shown_with_what_they_do(client, work, database):
    gate = Gate()
    busy = await work(gate.flow, settings=Settings(slots=3))
    idle = await work(Flow("other"))
    await client.start_many(gate.flow, [None] * 5)
    await gate.running.wait()

    async def claimed() -> bool:
        return await attempts(database) == [1, 1, 1, 0, 0]

    await until(claimed)
    found = await rows(database, "select * from pgflow.live_workers order by started_at")
    assert [
        (row.worker_id, row.alive, row.flow_slugs, row.running, row.doing) for row in found
    ] == [
        (busy.id, True, ["rescue"], 3, {"rescue.step": 3}),
        (idle.id, True, ["other"], 0, {}),
    ]
    assert all(row.started_at <= row.connected_at and row.pid and row.host for row in found)


async def test_two_idle_workers_come_to_rest_and_send_no_statement(work, database):
    for _ in range(2):
        await work(Gate().flow, settings=HOUR)
    await whole(database)
    async with counting(database) as statements:
        await statements.settle()
        for _ in range(4):  # what the server writes by itself, such as statistics, has them look
            await trio.sleep(2.5)  # twice the time of a short wait, for the last one to end
            await statements.reset()
            await trio.sleep(2.5)
            if not (counts := await statements.counts()):
                break
        assert counts == {}


async def test_while_something_is_written_waits_are_short_and_vacuum_can_go_on(work, database):
    for _ in range(2):
        await work(Gate().flow, settings=HOUR)
    await whole(database)
    await execute(database, "create table public.noise ()")
    oldest = """
      select max(age(backend_xmin)) from pg_stat_activity
      where datname = current_database() and query like '%%await_seat%%'
    """
    began = trio.current_time()
    async with await Connection.connect(database) as connection:
        while trio.current_time() - began < 4:
            await connection.execute("insert into public.noise default values")
            await trio.sleep(0.01)
        ((age,),) = await rows(database, oldest)
        ((written,),) = await rows(database, "select count(*) from public.noise")
    assert age < 0.6 * written


Events = list[list[tuple[str, int]]]
EVENTS = st.lists(
    st.lists(
        st.tuples(st.sampled_from(["join", "join", "leave", "die"]), st.integers(0, 5)),
        min_size=1,
        max_size=4,
    ),
    min_size=1,
    max_size=5,
)


class Ring:
    """Workers that come and go."""

    def __init__(self, database: str, nursery: trio.Nursery) -> None:
        self._database, self._nursery = database, nursery
        self._alive: list[tuple[Worker, trio.CancelScope]] = []

    async def happen(self, events: Events) -> None:
        for at_once in events:
            async with trio.open_nursery() as nursery:
                for event, which in at_once:
                    nursery.start_soon(getattr(self, f"_{event}"), which)
            if self._alive:  # else the next one finds what the last ones left
                await whole(self._database, *(worker for worker, _ in self._alive))

    async def _join(self, _: int) -> None:
        worker, scope = Worker([Gate().flow], self._database, settings=SOON), trio.CancelScope()

        async def run(*, task_status: trio.TaskStatus[None]) -> None:
            with scope:
                await worker.run(task_status=task_status)

        await self._nursery.start(run)
        self._alive.append((worker, scope))

    async def _leave(self, which: int) -> None:
        if self._alive:
            self._alive.pop(which % len(self._alive))[0].stop()

    async def _die(self, which: int) -> None:
        if len(self._alive) > 1:  # of the last one nobody would hear
            self._alive.pop(which % len(self._alive))[1].cancel()


@hypothesis(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=EVENTS)
def test_whoever_joins_leaves_or_dies_in_any_order_the_ring_is_whole(database, events):
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            await Ring(database, nursery).happen(events)
            nursery.cancel_scope.cancel()
        await execute(database, "delete from pgflow.worker_seats")

    trio.run(main)


async def test_workers_know_how_many_run_a_flow(work, database):
    flow, other = Gate().flow, Flow("other")
    other.step(slug="step")(lambda: None)
    workers = [await work(flow, settings=HOUR), await work(flow, other, settings=HOUR)]

    async def both_know():
        return [worker._liveness.crowd("rescue") for worker in workers] == [2, 2]

    await until(both_know)
    assert workers[1]._liveness.crowd("other") == 1
