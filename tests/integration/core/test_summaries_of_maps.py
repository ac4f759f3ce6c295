"""What people are told of maps, of skipped steps and of late ones, on each server; none stays."""

from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Any
from uuid import UUID

import pytest
from psycopg.types.json import Jsonb

from pgflow_events.core import step_summaries, summaries
from pgflow_events.postgres.connection import Connection

FLOW = """
select pgflow.create_flow('crawl', 2, 0);
select pgflow.add_step('crawl', 'links');
select pgflow.add_step(
  'crawl', 'page', '{links}', step_type => 'map', tolerate => 0.5, when_exhausted => 'fail'
);
select pgflow.add_step(
  'crawl', 'english', '{links}', required_input_pattern => '{"links": ["en"]}',
  when_unmet => 'skip-cascade'
);
select pgflow.add_step('crawl', 'words', '{english}');
select pgflow.add_step('crawl', 'index', '{page}');
select pgflow.create_flow('late');
select pgflow.add_step('late', 'sleepy', start_delay => 3600);
select pgflow.create_flow('frail', 1, 0);
select pgflow.add_step('frail', 'may_fail', when_exhausted => 'skip');
select pgflow.add_step('frail', 'last', '{may_fail}');
select pgflow.create_flow('strict', 1, 0);
select pgflow.add_step('strict', 'each', step_type => 'map');
"""
NONE = dict.fromkeys(
    ("done", "running", "retrying", "waiting", "failed", "lost", "cancelled", "skipped"), 0
)


class Runs:
    """Starts runs, and settles their tasks as other programs do."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    async def ask(self, query: str, *given: Any) -> list[Any]:
        return await (await self.connection.execute(query.encode(), given)).fetchall()

    async def alter(self, statement: str, *given: Any) -> None:
        await self.connection.execute(statement.encode(), given)

    async def start(self, slug: str, value: object = None) -> UUID:
        ((run_id,),) = await self.ask(
            "select run_id from pgflow.start_flow(%s, %s)", slug, Jsonb(value)
        )
        return run_id

    async def poll(self, slug: str, qty: int = 10_000) -> list[int]:
        query = "select task_index from pgflow.poll_for_tasks(%s, 0, %s, 0) order by 1"
        return [index for (index,) in await self.ask(query, slug, qty)]

    async def complete(self, run_id: UUID, step: str, index: int, value: object) -> None:
        query = "select pgflow.complete_task(%s, %s, %s, %s)"
        await self.ask(query, run_id, step, index, Jsonb(value))

    async def fail(self, run_id: UUID, step: str, index: int) -> None:
        await self.ask(
            "select pgflow.fail_task(%s, %s, %s, %s)", run_id, step, index, f"no {index}"
        )

    async def crawl(self, elements: int) -> UUID:
        """A run whose map has begun."""
        run_id = await self.start("crawl")
        await self.poll("crawl")
        await self.complete(run_id, "links", 0, list(range(elements)))
        return run_id

    async def steps(self, run_id: UUID) -> dict[str, step_summaries.StepSummary]:
        found = await step_summaries.summarize_steps(self.connection, run_id)
        assert len({step.step_slug for step in found}) == len(found)  # one line a step
        return {step.step_slug: step for step in found}

    async def run(self, run_id: UUID) -> summaries.RunSummary:
        (run,) = await summaries.summarize_runs(self.connection, run_id=run_id)
        return run


@pytest.fixture
async def runs(any_database: str) -> AsyncIterator[Runs]:
    async with (
        await Connection.connect(any_database) as connected,
        connected.transaction(force_rollback=True),
    ):
        for statement in FLOW.split(";"):
            await connected.execute(statement.encode())
        yield Runs(connected)


async def test_a_map_whose_list_is_not_known_has_no_number_of_tasks(runs):
    page = (await runs.steps(await runs.start("crawl")))["page"]
    assert (page.status, page.tasks) == ("waiting", {"total": None, **NONE})
    assert (await runs.steps(await runs.start("crawl")))["links"].tasks is None


async def test_the_tasks_of_a_map_are_counted_by_their_states(runs):
    run_id = await runs.crawl(1500)
    page = (await runs.steps(run_id))["page"]
    assert (page.status, page.tasks) == ("queued", {"total": 1500, **NONE, "waiting": 1500})
    assert (await runs.run(run_id)).state == "queued"

    assert await runs.poll("crawl", 6) == [0, 1, 2, 3, 4, 5]
    await runs.complete(run_id, "page", 0, "a page")
    await runs.fail(run_id, "page", 3)
    page = (await runs.steps(run_id))["page"]
    counts = {"done": 1, "running": 4, "retrying": 1, "waiting": 1494}
    assert (page.status, page.tasks) == ("running", {"total": 1500, **NONE, **counts})
    assert (page.error, page.error_index, page.attempts, page.max_attempts) == ("no 3", 3, 1, 2)
    assert page.duration > 0
    assert (await runs.run(run_id)).state == "running"


async def test_a_map_that_lost_elements_completes_and_says_which_error_it_was(runs):
    run_id = await runs.crawl(4)
    for _ in range(2):
        for index in await runs.poll("crawl"):
            if index == 2:
                await runs.fail(run_id, "page", index)
            else:
                await runs.complete(run_id, "page", index, index)
    page = (await runs.steps(run_id))["page"]
    assert (page.status, page.tasks) == ("completed", {"total": 4, **NONE, "done": 3, "lost": 1})
    assert (page.error, page.error_index) == ("no 2", 2)
    assert (page.output, page.blob) == ("[0, 1, null, 3]", None)
    assert page.duration == pytest.approx((page.ended_at - page.started_at).total_seconds())


async def test_of_a_map_that_fails_its_run_all_elements_are_accounted_for(runs):
    run_id = await runs.start("strict", list(range(1200)))
    await runs.poll("strict", 3)
    await runs.complete(run_id, "each", 0, 0)
    await runs.fail(run_id, "each", 1)
    each = (await runs.steps(run_id))["each"]
    counts = {"done": 1, "failed": 1, "cancelled": 1198}
    assert (each.status, each.tasks) == ("failed", {"total": 1200, **NONE, **counts})
    assert (each.error, each.error_index) == ("no 1", 1)
    assert (await runs.run(run_id)).state == "failed"


async def test_a_map_over_nothing_has_completed(runs):
    page = (await runs.steps(await runs.crawl(0)))["page"]
    assert (page.status, page.tasks, page.output) == ("completed", {"total": 0, **NONE}, "[]")


async def test_a_long_output_of_a_map_is_a_blob(runs):
    run_id = await runs.crawl(3)
    for index in await runs.poll("crawl"):
        await runs.complete(run_id, "page", index, "x" * 10_000)
    page = (await runs.steps(run_id))["page"]
    assert (page.output, page.blob["kind"]) == (None, "list")


async def test_a_step_that_was_skipped_says_why(runs):
    run_id = await runs.crawl(1)
    steps = await runs.steps(run_id)
    assert (steps["english"].status, steps["english"].skip_reason) == ("skipped", "condition_unmet")
    assert (steps["words"].status, steps["words"].skip_reason) == ("skipped", "dependency_skipped")
    assert (steps["page"].skip_reason, steps["links"].skip_reason) == (None, None)
    run = await runs.run(run_id)
    assert (run.steps_done, run.steps_total) == (3, 5)


async def test_a_step_that_was_skipped_after_its_last_attempt_has_its_error(runs):
    run_id = await runs.start("frail")
    await runs.poll("frail")
    await runs.fail(run_id, "may_fail", 0)
    steps = await runs.steps(run_id)
    skipped = steps["may_fail"]
    assert (skipped.status, skipped.skip_reason) == ("skipped", "handler_failed")
    assert (skipped.error, steps["last"].status) == ("no 0", "queued")


async def test_a_step_that_a_failed_run_never_came_to_says_so(runs):
    run_id = await runs.start("frail")
    await runs.poll("frail")
    await runs.complete(run_id, "may_fail", 0, None)
    other = await runs.start("crawl")
    for _ in range(2):
        await runs.poll("crawl")
        await runs.fail(other, "links", 0)
    steps = await runs.steps(other)
    assert (steps["links"].status, steps["index"].status) == ("failed", "skipped")
    assert steps["index"].skip_reason == "run_ended"


async def test_what_begins_later_says_when(runs):
    run_id = await runs.start("late")
    (run, sleepy) = (await runs.run(run_id), (await runs.steps(run_id))["sleepy"])
    assert (run.state, sleepy.status) == ("delayed", "delayed")
    assert run.starts_at == sleepy.starts_at == sleepy.queued_at
    assert 3590 < (run.starts_at - run.started_at).total_seconds() < 3610
    assert sleepy.duration is None

    async def listed(state: str) -> list[UUID]:
        found = await summaries.summarize_runs(runs.connection, status=state)
        return [run.run_id for run in found]

    assert await listed("delayed") == await listed("started") == [run_id]
    assert await listed("queued") == []
    await runs.alter("update pgflow.step_tasks set queued_at = clock_timestamp()")
    run, sleepy = await runs.run(run_id), (await runs.steps(run_id))["sleepy"]
    assert (run.state, run.starts_at) == ("queued", None)
    assert (sleepy.status, sleepy.starts_at) == ("queued", None)


async def test_a_task_that_start_tasks_took_runs(runs):
    run_id = await runs.start("frail")
    await runs.alter("update pgflow.step_tasks set status = 'started', started_at = now()")
    assert (await runs.run(run_id)).state == "running"
    assert (await runs.steps(run_id))["may_fail"].status == "running"


async def test_what_is_told_of_a_long_map_is_short(runs):
    run_id = await runs.crawl(1)
    await runs.alter(
        "insert into pgflow.step_tasks (flow_slug, run_id, step_slug, task_index, status,"
        " error_message) select 'crawl', %s, 'page', n, 'failed', repeat('x', 100)"
        " from generate_series(1, 20000) n",
        run_id,
    )
    found = await step_summaries.summarize_steps(runs.connection, run_id)
    assert len(str([asdict(step) for step in found])) < 10_000
