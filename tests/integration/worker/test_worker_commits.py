"""Outcomes that the database will not take, and answers that come too late."""

import psycopg
import pytest
import trio

from pgflow_events import Flow, RunFailed, Settings
from pgflow_events.core import tasks as queries
from pgflow_events.postgres.connection import Connection

from ...parts.observing import execute, logged, rows

PAGE = "<p>" * 10_000


async def test_an_output_that_meets_a_fault_of_the_server_has_another_attempt(
    client, work, database, monkeypatch
):
    flow = Flow("flow", base_delay=0, max_attempts=2)
    complete = queries.complete_tasks

    async def fail(connection, outcomes, *args, **options):
        if any(outcome.output and outcome.task.attempt == 1 for outcome in outcomes):
            raise psycopg.errors.IndexCorrupted("a page is damaged")
        return await complete(connection, outcomes, *args, **options)

    flow.step(flow.input, slug="step")(lambda value: value)
    monkeypatch.setattr(queries, "complete_tasks", fail)
    await work(flow)
    run = await client.start(flow, 1)
    assert await run.result() == {"step": 1}
    (task,) = await rows(database, "select attempts_count from pgflow.step_tasks")
    assert task.attempts_count == 2


async def test_an_output_that_the_database_will_not_take_fails_its_task_for_good_and_no_other(
    client, work, database, monkeypatch
):
    flow = Flow("flow", base_delay=0)
    complete = queries.complete_tasks

    async def refuse(connection, outcomes, *args, **options):
        if any(outcome.output and outcome.output.json == b'"poison"' for outcome in outcomes):
            raise psycopg.DataError("no \0 poison")
        return await complete(connection, outcomes, *args, **options)

    @flow.step(flow.input)
    async def step(value):
        return value

    @flow.step(step)
    async def after(value):
        return value

    monkeypatch.setattr(queries, "complete_tasks", refuse)
    await work(flow)
    poisoned, *others = await client.start_many(flow, ["poison", *range(10)])
    with pytest.raises(RunFailed, match="step 'step': the output cannot be stored: no  poison"):
        await poisoned.result()
    assert [await other.result() for other in others] == [{"after": i} for i in range(10)]
    (task,) = await rows(
        database, "select attempts_count from pgflow.step_tasks where status = 'failed'"
    )
    assert task.attempts_count == 1


FULL_FOR_A_MOMENT = (
    "create sequence pgflow.tries",
    """
create function public.no_room() returns trigger language plpgsql as $$
begin
  if nextval('pgflow.tries') in (2, 8) then
    raise disk_full using message = 'no space left on device';
  end if;
  return new;
end $$
""",
    """
create trigger no_room before insert on pgflow.output_blobs
for each row execute function public.no_room()
""",
)


async def test_a_disk_that_is_full_for_a_moment_costs_no_attempt(client, work, database):
    """In one pipeline the same statement is refused, skipped, and sent again."""
    await execute(database, *FULL_FOR_A_MOMENT)
    flow = Flow("flow", max_attempts=5, base_delay=0)
    together = Together(12)

    @flow.step(flow.input)
    async def step(number):
        await together.wait()
        return f"{number}{PAGE}"

    await work(flow, settings=Settings(connections=2))
    runs = await client.start_many(flow, list(range(12)))
    assert [await run.result() for run in runs] == [{"step": f"{n}{PAGE}"} for n in range(12)]
    assert await rows(database, "select from pgflow.step_tasks where attempts_count <> 1") == []


class Together:
    """Holds so many tasks back until all of them wait."""

    def __init__(self, number: int) -> None:
        self._missing, self._all = number, trio.Event()

    async def wait(self) -> None:
        self._missing -= 1
        if not self._missing:
            self._all.set()
        await self._all.wait()


DEFERRED = """
create function public.refuse() returns trigger language plpgsql as $$
  begin raise check_violation using message = 'no poison'; end
$$;
create constraint trigger refuse after update on pgflow.step_tasks deferrable initially deferred
for each row when (new.status = 'completed') execute function public.refuse()
"""


@pytest.mark.parametrize("output", [PAGE, 1], ids=["blob", "inline"])
async def test_what_the_database_refuses_at_the_end_of_a_commit_is_told_as_it_is(
    client, work, database, output
):
    await execute(database, DEFERRED)
    flow = Flow("flow", base_delay=0)
    flow.step(slug="step")(lambda: output)
    await work(flow)
    run = await client.start(flow, None)
    with trio.fail_after(10), pytest.raises(RunFailed, match="cannot be stored: no poison"):
        await run.result()


@pytest.mark.parametrize("output", [PAGE, 1], ids=["blob", "inline"])
async def test_a_run_that_is_deleted_while_its_task_runs_harms_no_other(
    client, work, database, output
):
    flow = Flow("flow")
    running, deleted = trio.Event(), trio.Event()

    @flow.step(flow.input)
    async def step(value):
        running.set()
        await deleted.wait()
        return output

    await work(flow)
    gone, *others = await client.start_many(flow, [None] * 4)
    await running.wait()
    await rows(database, "delete from pgflow.runs where run_id = %s returning 1", gone.id)
    deleted.set()
    for other in others:
        assert await other.result() == {"step": output}
    ((left,),) = await rows(database, "select count(*) from pgmq.q_flow")
    assert left in (0, 1)  # the message of the run that is gone, until it is found out


async def test_a_commit_that_gets_no_answer_is_given_up_and_made_again(
    client, work, database, caplog
):
    flow = Flow("flow")
    running, locked = trio.Event(), trio.Event()

    @flow.step(flow.context)
    async def step(context):
        assert context.attempt == 1
        running.set()
        await locked.wait()
        return PAGE

    await work(flow, settings=Settings(call_timeout=0.3))
    run = await client.start(flow, None)
    await running.wait()
    async with await Connection.connect(database) as other:
        async with other.transaction():
            await other.execute("lock table pgflow.step_tasks")
            locked.set()
            await logged(caplog, "no answer within 0.3 s")
        assert await run.result() == {"step": PAGE}
    assert len(await rows(database, "select from pgflow.output_blobs")) == 1
