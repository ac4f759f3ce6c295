"""Maps, conditions, skips and delays do what a model of their rules does, whatever comes when."""

from collections.abc import Callable, Iterator
from random import Random
from typing import Any
from uuid import UUID

import psycopg
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule, run_state_machine_as_test
from psycopg.types.json import Jsonb

from blobstore.postgres.ids import new_id

from ...parts.models.core import CLAIM, COMPLETE, Core
from ...parts.models.general_flows import LATE, VALUES, Shape, Step, lists, objects, shapes, values
from ...parts.models.general_machine import SLUG, Lease, Machine, some_of
from ...parts.models.general_model import ACTIVE, Run, Task
from ...parts.models.sessions import sessions
from ...parts.models.sql_machine import pick, some
from ...parts.models.windows import make_windows_small

START = "select run_id from pgflow.start_flows(%s, %s, %s, delay => %s)"
READ = "select msg_id from pgmq.read(%s, 0, %s)"  # which stay visible
START_TASKS = "select * from pgflow.start_tasks(%s, %s::bigint[], %s)"
PGFLOW = UUID(int=9)
VISIBLE = f"""
select q.vt <= clock_timestamp() from pgmq.q_{SLUG} q join pgflow.step_tasks t
on t.message_id = q.msg_id where (t.run_id, t.step_slug, t.task_index) = (%s, %s, %s)
"""
RELEASE = "select pgflow.release_tasks(%s::uuid[], %s::text[], %s::integer[], %s::integer[], %s)"
FEW = 4  # runs
SETTINGS = settings(deadline=None, stateful_step_count=40, report_multiple_bugs=False)


class GeneralMachine(Machine):
    """Makes each call in SQL and in the model."""

    @initialize(shape=shapes(SLUG), data=st.data())
    def begin(self, shape: Shape, data) -> None:
        self.define(shape)
        self.start(data, late=False)

    @precondition(lambda self: len(self.runs) < FEW)
    @rule(data=st.data(), late=st.sampled_from([False, False, True]))
    def start(self, data, late: bool) -> None:
        """Start runs; a map without dependencies takes no input that is no list."""
        core = pick(data, self.cores)
        if self.shape.has_root_map:
            with pytest.raises(psycopg.errors.RaiseException, match="is not an array"):
                core.rows(START, SLUG, [Jsonb([]), Jsonb(data.draw(objects))], None, 0)
        inputs = data.draw(
            st.lists(lists if self.shape.has_root_map else values, min_size=1, max_size=2)
        )
        ids = [new_id() for _ in inputs]
        core.rows(START, SLUG, [Jsonb(value) for value in inputs], ids, LATE if late else 0)
        for run_id, value in zip(ids, inputs, strict=True):
            run = self.runs[run_id] = Run(run_id, self.shape, value)
            run.late = late
            run.settle()

    @rule(data=st.data(), qty=some)
    def claim(self, data, qty: int) -> None:
        core = pick(data, self.cores)
        self.taken(core._claim(CLAIM, [SLUG], qty, core.worker, None).tasks, core.worker, qty)

    @rule(data=st.data(), qty=st.integers(1, 3))
    def start_tasks(self, data, qty: int) -> None:
        """Claim in two phases, as workers do that were written for pgflow."""
        core = pick(data, self.cores)
        read = [row.msg_id for row in core.rows(READ, SLUG, qty)]
        for record in core.rows(START_TASKS, SLUG, read, PGFLOW):
            task = self.task((record.run_id, record.step_slug, record.task_index))
            assert task
            assert (task.status, task.visible) == ("queued", True)
            task.status, task.visible, task.worker = "started", False, None
            task.attempts += 1
            assert record.attempts_count == task.attempts
            self.leases.append((task.address, task.attempts))

    @rule(data=st.data(), qty=some)
    def settle(self, data, qty: int) -> None:
        """Settle attempts, those under way or any that ever were: replays and late ones."""
        core = pick(data, self.cores)
        luck = lucky(data)
        self.settle_some(core, self.leased(luck), qty, luck)

    @rule(data=st.data())
    def work(self, data) -> None:
        """Settle all that is under way, as a worker does that has time for it, and claim more."""
        core = pick(data, self.cores)
        leases = [(t.address, t.attempts) for t in self.tasks if t.status in ACTIVE and t.worker]
        self.settle_some(core, leases, 4, lucky(data))

    def settle_some(self, core: Core, leases: list[Lease], qty: int, luck: Random) -> None:
        outputs = [self.output(slug, luck) for (_, slug, _), _ in leases]
        fails = [luck.random() < 0.2 for _ in leases]
        last = [fail and luck.random() < 0.5 for fail in fails]
        said = core._claim(
            COMPLETE,
            [run_id for (run_id, _, _), _ in leases],
            [slug for (_, slug, _), _ in leases],
            [index for (_, _, index), _ in leases],
            [attempt for _, attempt in leases],
            [None if fail else Jsonb(output) for fail, output in zip(fails, outputs, strict=True)],
            [None for _ in leases],
            ["boom" if fail else None for fail in fails],
            last,
            [SLUG],
            qty,
            core.worker,
            None,
        )
        refused = self.model_settles(list(zip(leases, outputs, fails, last, strict=True)))
        assert (said.refused or []) == refused
        self.taken(said.tasks, core.worker, qty)

    def model_settles(self, outcomes: list[tuple]) -> list[int]:
        """Settle those that are current, the failed ones first; the places of the others."""
        refused, failed, runs = [], {}, {}
        places = sorted(enumerate(outcomes, 1), key=lambda each: not each[1][2])
        for place, ((address, attempt), output, fails, last) in places:
            task = self.task(address)
            if not fails:
                give_up(failed)
            if task and is_current(task, attempt):
                runs[task.run] = True
                if not fails:
                    task.run.complete(task, output)
                elif last or task.is_spent:
                    task.status = "failed"
                    failed[task.run, task.step] = True
                else:
                    task.status, task.worker = "queued", None
                    task.visible = self.shape.base_delay == 0
            elif not task or (task.status, task.attempts) != ("completed", attempt):
                refused.append(place)
        give_up(failed)
        for run in runs:
            run.settle()
        return sorted(refused)

    def output(self, slug: str, luck: Random) -> Any:
        """An output of a step: mostly a list, where a map goes over it."""
        is_fed = any(step.is_map for step in self.shape.dependents(slug))
        if is_fed and luck.random() < 0.9:
            return luck.choices(VALUES, k=luck.randrange(8))
        return luck.choice(VALUES)

    @rule(data=st.data(), fails=st.booleans())
    def settle_one(self, data, fails: bool) -> None:
        """Settle a task by the calls for one, which name no attempt, be it claimed or not."""
        core, luck = pick(data, self.cores), lucky(data)
        if not (tasks := [*self.tasks]):
            return
        task = luck.choice(tasks)
        output = self.output(task.step.slug, luck)
        if fails:
            core.rows("select * from pgflow.fail_task(%s, %s, %s, 'boom')", *task.address)
        else:
            complete = "select * from pgflow.complete_task(%s, %s, %s, %s)"
            core.rows(complete, *task.address, Jsonb(output))
        self.model_settles([((task.address, None), output, fails, False)])

    @rule(data=st.data())
    def fail_lapsed(self, data) -> None:
        """Fail what gave no answer in time at its last attempt."""
        lapsed = self.lapsed
        said = pick(data, self.cores).value("select pgflow.fail_lapsed_tasks(%s)", [SLUG])
        assert said == len({task.run for task in lapsed})
        self.model_settles([((t.address, t.attempts), None, True, True) for t in lapsed])

    @rule(data=st.data())
    def lapse(self, data) -> None:
        """Let the time of some hidden messages be over."""
        hidden = {n: t for n, t in self.messages.items() if t.status in ACTIVE and not t.visible}
        for message in some_of(lucky(data), sorted(hidden)):
            show = f"update pgmq.q_{SLUG} set vt = clock_timestamp() where msg_id = %s"
            self.observer.db.execute(show, [message])
            hidden[message].visible = True

    @rule(data=st.data())
    def release(self, data) -> None:
        """Give back some attempts; those of another worker, or that are over, stay as they are."""
        core, leases = pick(data, self.cores), self.leased(lucky(data))
        given_back = [
            task
            for address, attempt in leases
            if (task := self.task(address))
            and task.status in ACTIVE
            and (task.attempts, task.worker) == (attempt, core.worker)
        ]
        released = core.value(
            RELEASE,
            [run_id for (run_id, _, _), _ in leases],
            [slug for (_, slug, _), _ in leases],
            [index for (_, _, index), _ in leases],
            [attempt for _, attempt in leases],
            core.worker,
        )
        assert released == len(given_back)
        for task in given_back:
            # The next attempt has this number: who released it may say nothing more of it.
            self.leases = [each for each in self.leases if each != (task.address, task.attempts)]
            task.attempts, task.visible, task.worker = task.attempts - 1, True, None

    @rule(data=st.data())
    def free(self, data) -> None:
        """Make visible what a worker has claimed, as if it were buried."""
        worker = pick(data, self.cores).worker
        pick(data, self.cores).value("select pgflow.free_tasks(%s, %s)", worker, [SLUG])
        for task in self.tasks:
            if task.status in ACTIVE and task.worker == worker:
                task.visible = True

    @rule(data=st.data())
    def lose(self, data) -> None:
        """Somebody else deletes the message of a task, and the owner has it sent again."""
        active = {n: task for n, task in self.messages.items() if task.status in ACTIVE}
        for message in some_of(lucky(data), sorted(active))[:1]:
            core, task = pick(data, self.cores), active[message]
            core.rows("select pgmq.delete(%s, %s)", SLUG, message)
            assert core.value("select pgflow.requeue_lost_tasks(%s)", SLUG) == 1
            # When it could have been claimed, or at once if it waited for its start.
            task.visible = core.value(VISIBLE, *task.address)

    @precondition(lambda self: len(self.runs) > 1)
    @rule(data=st.data())
    def delete(self, data) -> None:
        """Delete a run by hand, be it at work; claims archive the messages of its tasks."""
        run = lucky(data).choice([*self.runs.values()])
        pick(data, self.cores).delete([run.id])
        del self.runs[run.id]
        self.strays |= {n for n, task in self.messages.items() if task.run is run}


def lucky(data: st.DataObject) -> Random:
    """Chooses among what there is, which SQL may have in another order when all is done again."""
    return Random(data.draw(st.integers(0, 2**32 - 1)))


def is_current(task: Task, attempt: int | None) -> bool:
    goes_on = task.run.status == "started" and task.status in ACTIVE
    return goes_on and attempt in {None, task.attempts}


def give_up(failed: dict[tuple[Run, Step], bool]) -> None:
    """Decide once what follows from the failed tasks of each step."""
    for run, step in failed:
        run.give_up(step)
    failed.clear()


@pytest.fixture
def machine(database: str) -> Iterator[Callable[[], GeneralMachine]]:
    """Makes machines, all in the same sessions, with small windows."""
    with sessions(database, 3) as (one, other, observer):
        observer.flow(slug=SLUG)
        make_windows_small(observer)
        cores = [Core(core.db, UUID(int=n)) for n, core in enumerate((one, other), 1)]
        yield lambda: GeneralMachine([*cores, observer])


@pytest.mark.timeout(600)  # to find the shortest way to a failure takes long
def test_the_functions_do_what_the_model_of_maps_and_conditions_does(machine):
    run_state_machine_as_test(machine, settings=SETTINGS)
