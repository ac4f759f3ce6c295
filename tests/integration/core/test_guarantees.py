"""What docs/inside/guarantees.md says of handlers' own effects; other tests hold the rest of it."""

import threading

import psycopg
import pytest
import trio

from pgflow_events import Flow, RunFailed

from ...parts.observing import execute, rows

TABLE = "create table public.effects (key text primary key, attempt integer, n serial)"


@pytest.fixture
async def effects(database):
    """What handlers do to a table: a function for them, which they call in their threads."""
    await execute(database, TABLE)

    def apply(query: str, *params: object) -> int:
        with psycopg.connect(database, autocommit=True) as connection:
            return connection.execute(query, params).rowcount

    return apply


def one_step(handler, **options) -> Flow:
    flow = Flow("flow", base_delay=0, **options)
    flow.step(flow.context, slug="step")(handler)
    return flow


async def test_what_a_handler_writes_is_there_though_its_attempt_fails(
    effects, work, client, database
):
    def handler(context):
        effects("insert into public.effects values (%s, %s)", f"{context.attempt}", context.attempt)
        raise ValueError

    flow = one_step(handler, max_attempts=2)
    await work(flow)
    with pytest.raises(RunFailed):
        await (await client.start(flow, None)).result()
    assert await rows(database, "select attempt from public.effects order by 1") == [(1,), (2,)]


async def test_an_effect_under_the_key_of_run_and_step_happens_once(
    effects, work, client, database
):
    def handler(context):
        insert = "insert into public.effects values (%s, %s) on conflict do nothing"
        effects(insert, f"{context.run_id}/{context.step}", context.attempt)
        if context.attempt < 3:
            raise ValueError

    flow = one_step(handler)
    await work(flow)
    runs = await client.start_many(flow, [None] * 2)
    for run in runs:
        await run.result()
    found = await rows(database, "select key, attempt from public.effects order by n")
    assert sorted(found) == sorted((f"{run.id}/step", 1) for run in runs)
    attempts = await rows(database, "select attempts_count from pgflow.step_tasks")
    assert attempts == [(3,), (3,)]


async def test_two_attempts_may_be_at_work_at_once_and_the_older_one_is_known_by_its_number(
    effects, work, client, database
):
    upsert = """
        insert into public.effects values ('x', %s)
        on conflict (key) do update set attempt = excluded.attempt
        where effects.attempt <= excluded.attempt
    """
    younger_is_done = threading.Event()
    older: list[int] = []
    older_is_done = threading.Event()

    def handler(context):
        if context.attempt == 1:
            younger_is_done.wait()
        taken = effects(upsert, context.attempt)
        if context.attempt == 1:
            older.append(taken)
            older_is_done.set()
        younger_is_done.set()
        return context.attempt

    flow = one_step(handler, timeout=1)
    await work(flow)
    assert await (await client.start(flow, None)).result() == {"step": 2}
    with trio.fail_after(5):
        await trio.to_thread.run_sync(older_is_done.wait, abandon_on_cancel=True)
    assert older == [0]
    assert await rows(database, "select attempt from public.effects") == [(2,)]
