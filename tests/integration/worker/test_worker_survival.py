"""One flow, one task or one outcome that fails again and again, beside others that go on."""

from collections.abc import Callable
from functools import partial

import pytest
import trio

from pgflow_events import Flow, RunFailed, Settings
from pgflow_events.postgres.connection import Connection

from ...parts.observing import execute, logged, rows, until

QUICK = Settings(call_timeout=1.0, check_interval=0.2)


def flow_of(slug: str, value: Callable[[int], object] = lambda n: n, **options: int) -> Flow:
    flow = Flow(slug, **{"max_attempts": 1, "base_delay": 0, **options})
    flow.step(flow.input, slug="step")(value)
    return flow


REFUSING = """
create function public.refuse() returns trigger language plpgsql as $$ begin raise %s; end $$;
create trigger refuse before update on pgflow.step_tasks for each row
when (new.flow_slug = 'broken' and new.attempts_count > old.attempts_count)
execute function public.refuse()
"""
ACCEPTING = "drop trigger refuse on pgflow.step_tasks"
# What keeps one flow from being claimed, and what mends it.
TROUBLES = {
    "its queue is lost": (
        "alter table pgmq.q_broken rename to q_gone",
        "alter table pgmq.q_gone rename to q_broken",
    ),
    "its queue's functions are lost": (
        "alter function pgflow_queues.claim_q_broken rename to gone",
        "alter function pgflow_queues.gone rename to claim_q_broken",
    ),
    "its rows are refused": (REFUSING.replace("%s", "'no claim of these'"), ACCEPTING),
    "its rows always conflict": (REFUSING.replace("%s", "serialization_failure"), ACCEPTING),
    "there is no memory for it": (REFUSING.replace("%s", "out_of_memory"), ACCEPTING),
}


SAID = {"its queue is lost": 'the queue of flow "broken" is lost: its tasks wait until'}


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_a_flow_that_cannot_be_claimed_keeps_no_other_waiting(
    client, work, database, caplog, trouble
):
    broken, sound = flow_of("broken"), flow_of("sound")
    await work(broken, sound, settings=QUICK)
    harm, cure = TROUBLES[trouble]
    async with await Connection.connect(database) as other:
        async with other.transaction():
            await other.execute("select pgflow.start_flow('broken', '1')")
            await other.execute(harm)
        await logged(caplog, SAID.get(trouble, "cannot claim tasks of flow 'broken', trying again"))
        for n in range(3):
            assert await (await client.start(sound, n)).result() == {"step": n}
        await other.execute(cure)
    async with await Connection.connect(database) as other:
        await until(partial(has_completed, other, "broken"))


async def test_a_queue_that_is_locked_for_long_keeps_no_other_flow_waiting(client, work, database):
    broken, sound = flow_of("broken"), flow_of("sound")
    await work(broken, sound)
    run = await client.start(broken, 1)
    assert await run.result() == {"step": 1}
    began = trio.current_time()
    async with await Connection.connect(database) as other:
        async with other.transaction():
            await other.execute("select pgflow.start_flow('broken', '2')")
            await other.execute("lock table pgmq.q_broken in access exclusive mode")
            for n in range(3):
                assert await (await client.start(sound, n)).result() == {"step": n}
            assert trio.current_time() - began < 15
        await until(partial(has_completed, other, "broken"))


async def has_completed(connection: Connection, slug: str) -> bool:
    cursor = await connection.execute(
        "select bool_and(status = 'completed') from pgflow.runs where flow_slug = %s", [slug]
    )
    ((completed,),) = await cursor.fetchall()
    return completed


# Reading the input of a run fails, as it does where its pages are damaged; %s is the code.
UNREADABLE = """
create or replace function public.readable(run uuid, step text) returns jsonb
language plpgsql stable as $$
begin
  if exists (select from pgflow.runs r where r.run_id = run and r.input = '"poison"') then
    raise 'missing chunk number 0 for toast value' using errcode = %s;
  end if;
  return (select r.input from pgflow.runs r where r.run_id = run);
end $$;
do $do$
declare
  function record;
begin
  for function in
    select p.oid, f.task from pg_proc p
    join (values ('task_records', 't'), ('claim_q_', 'c'), ('advance_q_', 'r')) as f (name, task)
    on starts_with(p.proname, f.name)
  loop
    execute replace(
      pg_get_functiondef(function.oid), $$('run', r.input)$$,
      format($$('run', public.readable(%I.run_id, %I.step_slug))$$, function.task, function.task)
    );
  end loop;
end $do$
"""


@pytest.mark.parametrize("state", ["54000", "XX001", "XX000", "58030"])
async def test_a_task_that_cannot_be_read_fails_and_no_other(client, work, database, caplog, state):
    flow, other = flow_of("flow"), flow_of("other")
    await work(flow, other, settings=QUICK)
    await execute(database, UNREADABLE.replace("%s", f"'{state}'"))
    runs = await client.start_many(flow, [1, "poison", 2, "poison", 3])
    outside = await client.start(other, 4)
    assert await outside.result() == {"step": 4}
    for run in (runs[1], runs[3]):
        with pytest.raises(RunFailed, match="the input cannot be read: missing chunk number 0"):
            await run.result()
    assert [await runs[n].result() for n in (0, 2, 4)] == [{"step": n} for n in (1, 2, 3)]
    assert "cannot read the input of flow.step of run" in caplog.text


async def test_no_task_is_blamed_for_a_right_that_is_missing(client, work, database, caplog):
    flow = flow_of("flow")
    await work(flow, settings=QUICK)
    await execute(database, UNREADABLE.replace("%s", "'42501'"))
    run = await client.start(flow, "poison")
    await logged(caplog, "cannot claim tasks of flow 'flow', trying again in 1 s")
    await execute(database, UNREADABLE.replace("%s", "'42501'").replace("poison", "nothing"))
    assert await run.result() == {"step": "poison"}


async def test_what_is_handed_over_and_cannot_be_read_is_not_the_fault_of_what_made_it_ready(
    client, work, database
):
    flow = Flow("flow", max_attempts=1)
    first = flow.step(flow.input, slug="first")(lambda value: value)
    flow.step(first, slug="second")(lambda value: value)
    await work(flow, settings=QUICK)
    await execute(
        database,
        UNREADABLE.replace("%s", "'54000'").replace(
            """and r.input = '"poison"'""", "and step = 'second'"
        ),
    )
    run = await client.start(flow, 1)
    with pytest.raises(RunFailed, match="step 'second': the input cannot be read"):
        await run.result()
    states = dict(await rows(database, "select step_slug, status from pgflow.step_tasks"))
    assert states == {"first": "completed", "second": "failed"}


# A trigger at the completion of what was started with "poison"; %s is what it does.
POISONOUS = """
create function public.poison() returns trigger language plpgsql as $$
begin
  if (select input from pgflow.runs where run_id = new.run_id) = '"poison"' then
    %s
  end if;
  return null;
end $$;
create trigger poison after update on pgflow.step_tasks for each row
when (new.status = 'completed') execute function public.poison()
"""


# What a commit may meet each time: a code, and what ends its session.
NEVER_PASSING = {
    state: f"raise 'not this' using errcode = '{state}';"
    for state in ["53200", "53100", "40001", "57014", "0A000", "25006", "57P01"]
} | {"a session that ends": "perform pg_terminate_backend(pg_backend_pid()), pg_sleep(10);"}


@pytest.mark.parametrize("refusal", NEVER_PASSING)
async def test_an_outcome_that_can_never_be_committed_fails_with_its_lease_and_no_other_waits(
    client, work, database, refusal
):
    flow, other = flow_of("flow", timeout=2), flow_of("other")
    await work(flow, other, settings=QUICK)
    await execute(database, POISONOUS.replace("%s", NEVER_PASSING[refusal]))
    began = trio.current_time()
    poison, *runs = await client.start_many(flow, ["poison", 1, 2])
    assert [await run.result() for run in runs] == [{"step": 1}, {"step": 2}]
    assert await (await client.start(other, 3)).result() == {"step": 3}
    assert trio.current_time() - began < 3
    with (
        trio.fail_after(15),
        pytest.raises(RunFailed, match=r"could not be stored within 2 s: (not this|terminating)"),
    ):
        await poison.result()
    assert trio.current_time() - began > 2  # not before its time is over


async def test_a_commit_that_hangs_keeps_no_other_waiting_and_fails_with_its_lease(
    client, work, database
):
    flow, other = flow_of("flow", timeout=2), flow_of("other")
    await work(flow, other, settings=Settings(call_timeout=1.0, slots=4))
    await execute(database, POISONOUS.replace("%s", "perform pg_sleep(3600);"))
    began = trio.current_time()
    poison = await client.start(flow, "poison")
    for n in range(5):
        assert await (await client.start(other, n)).result() == {"step": n}
    assert trio.current_time() - began < 5
    with trio.fail_after(30), pytest.raises(RunFailed):
        await poison.result()


@pytest.mark.parametrize("state", ["54000", "22P05", "23514", "P0001"])
async def test_an_output_that_cannot_be_stored_fails_at_once_and_for_good(
    client, work, database, state
):
    flow = flow_of("flow", max_attempts=5)
    await work(flow, settings=QUICK)
    await execute(database, POISONOUS.replace("%s", f"raise 'not this' using errcode = '{state}';"))
    poison, *runs = await client.start_many(flow, ["poison", 1, 2])
    assert [await run.result() for run in runs] == [{"step": 1}, {"step": 2}]
    with trio.fail_after(3), pytest.raises(RunFailed, match="cannot be stored: not this"):
        await poison.result()
    attempts = await rows(
        database, "select attempts_count from pgflow.step_tasks where status = 'failed'"
    )
    assert attempts == [(1,)]


async def test_a_run_whose_row_is_locked_for_long_keeps_no_other_waiting_and_loses_nothing(
    client, work, database
):
    flow = flow_of("flow", timeout=1)
    running, locked = trio.Event(), trio.Event()

    @flow.step(slug="waits")
    async def waits():
        running.set()
        await locked.wait()
        return "kept"

    await work(flow, settings=Settings(call_timeout=0.5))
    held = await client.start(flow, 1)
    await running.wait()
    async with await Connection.connect(database) as other:
        async with other.transaction():
            await other.execute("select from pgflow.runs where run_id = %s for update", [held.id])
            locked.set()
            for n in range(3):
                assert await (await client.start(flow, n)).result() == {"step": n, "waits": "kept"}
        assert await held.result() == {"step": 1, "waits": "kept"}
