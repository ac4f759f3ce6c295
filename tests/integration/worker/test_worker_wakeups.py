"""Who is woken by what, and who then runs which task."""

from collections import Counter
from contextlib import nullcontext

import psycopg
import trio

from pgflow_events import Flow, Settings
from pgflow_events.postgres.listener import Listener

from ...parts.observing import counting, logged

HOUR = Settings(check_interval=3600)


async def test_a_run_started_by_plain_sql_wakes_an_idle_worker(work, database):
    flow = Flow("flow")
    received = []
    woken = trio.Event()

    @flow.step(flow.input)
    async def step(value):
        received.append(value)
        woken.set()

    await work(flow, settings=HOUR)
    async with counting(database) as statements:
        await statements.settle()
        with psycopg.connect(database) as connection:
            connection.execute("""select pgflow.start_flow('flow', '{"a": 1}')""")
        with trio.fail_after(5):
            await woken.wait()
    assert received == [{"a": 1}]


async def test_two_workers_share_the_tasks_and_run_no_attempt_twice(client, work):
    flow = Flow("flow", base_delay=0)
    ran: list[tuple[object, ...]] = []
    by: Counter[str] = Counter()

    @flow.step(flow.context)
    async def first(context):
        ran.append((context.run_id, context.step, context.attempt))
        by[context.resources["worker"]] += 1
        if context.attempt == 1 and context.run_id.int % 3 == 0:
            raise ValueError

    @flow.step(flow.context, first)
    def second(context, none):
        ran.append((context.run_id, context.step, context.attempt))

    for name in "ab":
        await work(
            flow,
            settings=Settings(check_interval=3600, slots=5),
            resources=lambda name=name: nullcontext({"worker": name}),
            hooks=(),
        )
    runs = await client.start_many(flow, [None] * 200)
    for run in runs:
        await run.result()
    failed = sum(run.id.int % 3 == 0 for run in runs)
    assert len(ran) == len(set(ran)) == 400 + failed
    assert min(by["a"], by["b"]) > 20


async def test_a_worker_that_makes_more_work_than_it_can_take_wakes_another(client, work):
    flow = Flow("flow")
    started, go_on, all_run = trio.Event(), trio.Event(), trio.Event()
    running: Counter[str] = Counter()

    @flow.step(flow.context)
    async def make(context):
        assert context.resources["worker"] == "small"
        started.set()
        await go_on.wait()

    async def take(context, none):
        running[context.resources["worker"]] += 1
        if running.total() == 6:
            all_run.set()
        await all_run.wait()

    for i in range(6):
        flow.step(flow.context, make, slug=f"take_{i}")(take)

    async def worker(name, slots):
        await work(
            flow,
            settings=Settings(check_interval=3600, slots=slots),
            resources=lambda: nullcontext({"worker": name}),
        )

    await worker("small", 1)
    run = await client.start(flow, None)
    await started.wait()
    await worker("large", 10)
    go_on.set()
    with trio.fail_after(5):
        await run.result()
    assert running == {"small": 1, "large": 5}


async def test_where_notifications_do_not_arrive_it_says_so_once_and_polls(
    client, work, empty_database, monkeypatch, caplog
):
    monkeypatch.setattr(Listener.check, "__defaults__", (0.1,))  # the limit in seconds
    flow = Flow("flow")
    flow.step(slug="step")(lambda: None)
    # Nobody hears in one database what is notified in another.
    settings = Settings(listen_dsn=empty_database, poll_interval=0.1)
    await work(flow, settings=settings)
    await logged(caplog, "reconnecting")
    for _ in range(3):
        run = await client.start(flow, None)
        with trio.fail_after(5):
            assert await run.result() == {"step": None}
    assert caplog.text.count("notifications do not arrive: claiming every 0.1 s") == 1
