"""The SQL functions do what a model of their rules does, in several sessions, whatever comes when.

Sessions whose transactions are open hold locks; the others do only what does not wait for these.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from uuid import UUID

import psycopg
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from psycopg.types.json import Jsonb

from blobstore.postgres.ids import new_id

from ...parts.models.core import CLAIM, Core, Outcome
from ...parts.models.sessions import sessions
from ...parts.models.sql_machine import Lease, Machine, Open, pick, pick_some, some
from ...parts.models.sql_model import SHAPES, Shape, Taken, Task

START = "select run_id from pgflow.start_flows(%s, %s, %s)"
RELEASE = "select pgflow.release_tasks(%s::uuid[], %s::text[], %s::integer[], %s::integer[], %s)"
PRUNE = "select runs from pgflow.delete_runs(clock_timestamp() + '1 minute', null, %s, '{}')"
EMPTY = "select pgflow.delete_archived(%s, clock_timestamp() + interval '1 minute', 1000)"
FEW = 5  # runs

SETTINGS = settings(deadline=None, stateful_step_count=40, report_multiple_bugs=False)
two_shapes = st.permutations(SHAPES).map(lambda shapes: shapes[:2])


class SqlMachine(Machine):
    """Makes each call in SQL and in the model."""

    @initialize(data=st.data(), shapes=two_shapes)
    def begin(self, data, shapes: list[Shape]) -> None:
        """Few flows and few runs: so most of what happens concerns what happened before."""
        self.shapes = shapes
        self.start(data, [1, 2])

    @precondition(lambda self: len(self.model.runs) < FEW)
    @rule(data=st.data(), values=st.lists(some, min_size=1, max_size=2))
    def start(self, data, values: list[int]) -> None:
        core, shape, ids = self.core(data), pick(data, self.shapes), [new_id() for _ in values]
        core.rows(START, shape.slug, [Jsonb(value) for value in values], ids)
        for run_id, value in zip(ids, values, strict=True):
            self.model.start(run_id, shape, value)

    @precondition(lambda self: self.model.runs)
    @rule(data=st.data(), qty=some, stays_open=st.booleans())
    def claim(self, data, qty: int, stays_open: bool) -> None:
        core, slugs = self.core(data), self.slugs(data)
        stays_open = stays_open and self.may_open()
        taken = self.model.claimable(slugs, qty, self.held)
        if stays_open:
            core.db.execute("begin")
        said = core._claim(CLAIM, slugs, qty, core.worker, None)
        assert given(said.tasks) == expected(taken.tasks, claims=1)

        def commit() -> None:
            self.model.take(taken, core.worker)
            self.note(taken.tasks)

        if stays_open:
            self.open[core] = Open(commit, taken.seen)
        else:
            commit()
            assert is_due(said.next_due) in self.may_be_due(taken, slugs)

    @precondition(lambda self: self.model.runs)
    @rule(data=st.data(), qty=some, stays_open=st.booleans())
    def settle(self, data, qty: int, stays_open: bool) -> None:
        core, slugs, outcomes = self.core(data), self.slugs(data), self.outcomes(data)
        stays_open = stays_open and self.may_open()
        qty = 0 if stays_open else qty
        model = copy.deepcopy(self.model) if stays_open else self.model
        if stays_open:
            core.db.execute("begin")
        settled = model.settle(outcomes, qty, core.worker)
        said = core.settle(*outcomes, qty=qty, flows=tuple(slugs))
        assert said.refused == settled.refused
        assert set(said.owed_tasks) == settled.owed_tasks
        assert set(said.owed_runs) == settled.owed_runs
        if stays_open:
            self.open[core] = Open(
                lambda: self.settled_later(outcomes),
                {task.key for task in settled.touched},
                {outcome.run_id for outcome in outcomes},
            )
            return
        handed_over = settled.handed_over
        # What becomes ready has a higher id than all that waits, or it was handed over.
        self.adopt()
        taken = model.claimable(slugs, qty - len(handed_over), self.held)
        n = len(handed_over)  # in any order of their flows
        handed = sorted(given(said.tasks)[:n], key=by_task)
        assert handed == sorted(expected(handed_over), key=by_task)
        assert given(said.tasks)[n:] == expected(taken.tasks, claims=1)
        model.take(taken, core.worker)
        self.note([*handed_over, *taken.tasks])
        assert is_due(said.next_due) in self.may_be_due(taken, slugs)

    def may_be_due(self, taken: Taken, slugs: list[str]) -> set[bool | None]:
        """What a claim may say that it left: it need not look where it took all that it saw."""
        exact = self.model.is_due(slugs)
        if taken.due:
            return {True, exact}
        if set(taken.looked) == set(slugs):
            return {exact}
        return {bool(self.model.is_due(taken.looked)), exact}

    def settled_later(self, outcomes: list[Outcome]) -> None:
        self.model.settle(outcomes, 0, None)

    @precondition(lambda self: self.free_runs())
    @rule(data=st.data(), fails=st.booleans(), output=some)
    def settle_one(self, data, fails: bool, output: int) -> None:
        """Settle a task by the calls for one, which name no attempt, be it queued or not."""
        core = self.core(data)
        run = pick(data, self.free_runs())
        step = data.draw(st.sampled_from([*run.shape.steps]))
        call = (
            (lambda: core.fail(run.id, step))
            if fails
            else (lambda: core.complete(run.id, step, output))
        )
        if step not in run.tasks:
            with pytest.raises(psycopg.errors.NoDataFound):
                call()
            return
        error = "boom" if fails else None
        self.model.settle([Outcome(run.id, step, None, output, error=error)], 0, None)
        assert call().status == run.tasks[step].status

    @precondition(lambda self: self.lapsed_are_free())
    @rule(data=st.data(), qty=some)
    def poll(self, data, qty: int) -> None:
        core, slug = self.core(data), pick(data, self.shapes).slug
        self.model_fails_lapsed([slug])
        taken = self.model.claimable([slug], qty, self.held)
        assert given(core.poll(qty, slug)) == expected(taken.tasks, claims=1)
        self.model.take(taken, None)
        self.note(taken.tasks)

    @precondition(lambda self: self.lapsed_are_free())
    @rule(data=st.data())
    def fail_lapsed(self, data) -> None:
        slugs = self.slugs(data)
        runs = self.model_fails_lapsed(slugs)
        assert self.core(data).value("select pgflow.fail_lapsed_tasks(%s)", slugs) == runs

    def model_fails_lapsed(self, slugs: list[str]) -> int:
        """Those of runs that nobody holds; of how many runs."""
        lapsed = [task for task in self.model.lapsed(slugs) if not self.is_held(task.run.id)]
        outcomes = [
            Outcome(task.run.id, task.step, task.attempts, error="lapsed", permanent=True)
            for task in lapsed
        ]
        self.model.settle(outcomes, 0, None)
        return len({task.run for task in lapsed})

    @precondition(lambda self: any(not task.visible for task in self.model.tasks()))
    @rule(data=st.data())
    def lapse(self, data) -> None:
        """Let the time of some hidden messages be over."""
        tasks = [
            task
            for task in self.model.tasks()
            if task.status == "queued" and not task.visible and task.key not in self.held
        ]
        for task in pick_some(data, tasks):
            slug, message = task.key
            show = f"update pgmq.q_{slug} set vt = clock_timestamp() where msg_id = %s"
            self.observer.db.execute(show, [message])
            task.visible = True

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def release(self, data) -> None:
        """Give back some attempts; those of another worker, or that are over, stay as they are."""
        core = self.core(data)
        free = [lease for lease in self.leases if not self.is_held(lease.run_id)]
        leases = pick_some(data, free)
        given_back = [
            task
            for lease in leases
            if (task := self.model.task(lease.run_id, lease.step))
            and task.status == "queued"
            and (task.attempts, task.worker) == (lease.attempt, core.worker)
        ]
        released = core.value(
            RELEASE,
            [lease.run_id for lease in leases],
            [lease.step for lease in leases],
            [0 for _ in leases],
            [lease.attempt for lease in leases],
            core.worker,
        )
        assert released == len(given_back)
        for task in given_back:
            # The next attempt has this number: who released it may say nothing more of it.
            self.leases.remove(Lease(task.run.id, task.step, task.attempts))
            self.model.release(task)

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def free(self, data) -> None:
        """Make visible what a worker has claimed, as if it were buried."""
        slugs = self.slugs(data)
        worker = pick(data, self.cores).worker
        freed = [
            task
            for task in self.model.tasks()
            if task.run.shape.slug in slugs
            and task.status == "queued"
            and not task.visible
            and task.worker == worker
            and task.key not in self.held
        ]
        said = self.core(data).value("select pgflow.free_tasks(%s, %s)", worker, slugs)
        assert set(said) == {task.run.shape.slug for task in freed}
        for task in freed:
            task.visible = True

    @rule(data=st.data())
    def send(self, data) -> None:
        """Somebody else sends a message to the queue of a flow."""
        slug = pick(data, self.shapes).slug
        message = self.core(data).value("select pgmq.send(%s, '{}')", slug)
        self.model.foreign[slug].add(message)

    @precondition(lambda self: self.free_tasks())
    @rule(data=st.data())
    def lose(self, data) -> None:
        """Somebody else deletes the message of a task, and the owner has it sent again."""
        core, task = self.core(data), pick(data, self.free_tasks())
        slug = task.run.shape.slug
        core.rows("select pgmq.delete(%s, %s)", slug, task.message)
        lost = core.rows("select run_id, step_slug from pgflow.lost_tasks(%s)", slug)
        assert lost == [(task.run.id, task.step)]
        assert core.value("select pgflow.requeue_lost_tasks(%s)", slug) == 1
        self.model.requeue(task)

    def free_tasks(self) -> list[Task]:
        """Tasks that wait or run, and that no open transaction holds."""
        return [
            task
            for run in self.free_runs()
            for task in run.tasks.values()
            if task.status == "queued"
        ]

    @precondition(lambda self: any(run.status != "started" for run in self.model.runs.values()))
    @rule(data=st.data(), qty=st.integers(1, 3))
    def prune(self, data, qty: int) -> None:
        core, slug = self.core(data), pick(data, self.shapes).slug
        ended = [run for run in self.free_runs() if run.status != "started"]
        old = sorted(ended, key=lambda run: run.id)[:qty]
        assert core.value(PRUNE, qty) == len(old)
        for run in old:
            self.model.delete(run)
        kept = {task.message for task in self.model.tasks() if task.run.shape.slug == slug}
        gone = self.model.archived[slug] - kept
        assert core.value(EMPTY, slug) == len(gone)
        self.model.archived[slug] -= gone

    @precondition(lambda self: len(self.free_runs()) > FEW // 2)
    @rule(data=st.data())
    def delete(self, data) -> None:
        """Delete a run by hand, be it at work; the messages of its tasks are left."""
        run = pick(data, self.free_runs())
        self.core(data).delete([run.id])
        self.model.delete(run)

    @precondition(lambda self: self.open)
    @rule(data=st.data(), commits=st.sampled_from([True, True, False]))
    def close(self, data, commits: bool) -> None:
        """End an open transaction."""
        core = pick(data, [*self.open])
        core.db.execute("commit" if commits else "rollback")
        ended = self.open.pop(core)
        if commits:
            ended.commit()


def given(tasks: Sequence[Any]) -> list[tuple]:
    return [(task.run_id, task.step_slug, task.attempts_count, task.input) for task in tasks]


def expected(tasks: Sequence[Task], claims: int = 0) -> list[tuple]:
    """What SQL has to give, before the model has claimed these tasks or after."""
    return [(task.run.id, task.step, task.attempts + claims, task.input) for task in tasks]


def by_task(record: tuple) -> tuple:
    return record[:2]


def is_due(next_due: float | None) -> bool | None:
    return None if next_due is None else next_due == 0


@pytest.fixture
def machine(database: str) -> Iterator[Callable[[], SqlMachine]]:
    """Makes machines, all in the same sessions: these remember where a queue begins."""
    with sessions(database, 4) as (one, other, third, observer):
        for each in SHAPES:
            options = {"max_attempts": each.max_attempts, "base_delay": each.base_delay}
            steps = [f"{step}<{','.join(deps)}" for step, deps in each.steps.items()]
            observer.flow(*steps, slug=each.slug, **options)
        cores = [Core(core.db, UUID(int=n)) for n, core in enumerate((one, other, third), 1)]
        for core in [*cores, observer]:
            core.db.execute("set lock_timeout = '2s'")  # none has to wait
        yield lambda: SqlMachine([*cores, observer])


@pytest.mark.timeout(600)  # to find the shortest way to a failure takes long
def test_the_functions_do_what_the_model_does(machine):
    run_state_machine_as_test(machine, settings=SETTINGS)
