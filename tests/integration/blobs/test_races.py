"""Blobs under sessions that write, settle, claim and delete at the same time, on each server.

Whatever they do, in the end no chunk is without its blob, no blob without its run, and what a task
or run names is there with all of its chunks.
"""

import random
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psycopg
import pytest

from blobstore.postgres.rows import LOCK_RUNS

from ...conftest import new_database
from ...parts.models.core import Core, Outcome
from ...parts.models.sessions import at_once, meanwhile, sessions, until_waiting

LEFT_OVER = """
select 'chunk' as kind, c.blob_id as id from pgflow.blob_chunks c
where not exists (select from pgflow.output_blobs b where b.id = c.blob_id)
union all
select 'blob', b.id from pgflow.output_blobs b
where not exists (select from pgflow.runs r where r.run_id = b.run_id and r.has_blobs)
union all
select 'unfinished', b.id from pgflow.output_blobs b
join pgflow.runs r using (run_id) where r.status <> 'started' and b.sha256 is null
union all
select 'unnamed', b.id from pgflow.output_blobs b
join pgflow.runs r using (run_id)
where r.status <> 'started' and not exists (
  select from pgflow.step_tasks t where t.run_id = b.run_id and t.output_blob_id = b.id
)
union all
select 'missing', t.output_blob_id from pgflow.step_tasks t
where t.output_blob_id is not null and (
  select b.sha256 is not null
    and (select count(*) from pgflow.blob_chunks c where c.blob_id = b.id) = 2
  from pgflow.output_blobs b where b.id = t.output_blob_id
) is not true
"""


@pytest.fixture
def four(any_server: Any, any_template: str) -> Iterator[list[Core]]:
    """Four sessions of a database of the test's own."""
    with (
        new_database(any_server.dsn, any_template) as dsn,
        sessions(dsn, 4) as opened,
    ):
        yield opened


class Worker:
    """Works as ours does: chunks in commits of their own, then the end in one."""

    def __init__(self, core: Core, seed: int) -> None:
        self.core = core
        self.chance = random.Random(seed)
        self.deadlocks = 0

    def work(self) -> bool:
        """Claim a few tasks and end them in one way or another; whether there were any."""
        tasks = self.core.claim(self.chance.randint(1, 4), max_bytes=1000).tasks
        outcomes, uploads = [], []
        for task in tasks:
            chosen = self.chance.random()
            blob = self.core.open(task.run_id, task.step_slug, task.attempts_count)
            if not blob or not all(self.core.write(blob, seq) for seq in range(2)) or chosen < 0.1:
                continue  # it was superseded, or its worker dies
            failed = {"error": "boom", "permanent": chosen < 0.15} if chosen < 0.3 else {}
            outcome = Outcome(task.run_id, task.step_slug, task.attempts_count, **failed)
            if not failed:
                outcome = Outcome(task.run_id, task.step_slug, task.attempts_count, blob=blob)
                uploads.append(blob)
            outcomes.append(outcome)
        self.commit(outcomes, uploads)
        return bool(tasks)

    def commit(self, outcomes: list[Outcome], uploads: list[UUID]) -> None:
        """As the completer does: together, and if that fails one by one."""
        try:
            with self.core.db.transaction():
                if uploads:
                    self.core.rows(LOCK_RUNS, [outcome.run_id for outcome in outcomes])
                for blob in uploads:
                    self.core.finish(blob, 2)
                self.core.settle(*outcomes)
        except psycopg.errors.DeadlockDetected:
            self.deadlocks += 1
            self.commit(outcomes, uploads)
        except psycopg.errors.DataException:
            for outcome in outcomes if len(outcomes) > 1 else []:
                self.commit([outcome], [outcome.blob] if outcome.blob else [])


def left_over(core: Core) -> list[Any]:
    return core.rows(LEFT_OVER)


def lapsing(core: Core, rounds: int) -> None:
    """Let messages be visible again while their attempts go on."""
    for _ in range(rounds):
        core.db.execute(
            "update pgmq.q_f set vt = clock_timestamp() where msg_id in ("
            "select msg_id from pgmq.q_f where random() < 0.3 for update skip locked)"
        )


def test_writers_zombies_and_failures_leave_nothing_behind(four):
    *workers, lapser = four
    lapser.flow("a", "b<a", "c", base_delay=0, max_attempts=4)
    lapser.start_many(60)
    working = [Worker(core, seed) for seed, core in enumerate(workers)]

    def work(worker: Worker) -> None:
        for _ in range(80):
            worker.work()

    at_once(*[lambda w=w: work(w) for w in working], lambda: lapsing(lapser, 60))
    lapser.lapse()
    while working[0].work():
        lapser.lapse()
    ended = dict(lapser.rows("select status, count(*)::integer from pgflow.runs group by 1"))
    assert ended.keys() == {"completed", "failed"}
    assert sum(ended.values()) == 60
    assert left_over(lapser) == []


def test_runs_deleted_while_their_tasks_are_written_leave_nothing_behind(four):
    *workers, deleter = four
    deleter.flow("a", "b<a", base_delay=0, max_attempts=99)
    working = [Worker(core, seed) for seed, core in enumerate(workers)]
    runs = deleter.start_many(150)
    chance = random.Random(9)

    def work(worker: Worker) -> None:
        while worker.work():
            pass

    def delete() -> None:
        for run in chance.sample(runs, 75):
            for _ in range(5):
                try:
                    deleter.delete([run])
                    break
                except psycopg.errors.DeadlockDetected:
                    continue

    at_once(*[lambda w=w: work(w) for w in working], delete)
    deleter.lapse()
    work(working[0])
    assert left_over(deleter) == []
    deleter.db.execute("delete from pgflow.runs")
    assert (deleter.blobs(), deleter.chunks()) == (set(), [])


def claimed(core: Core, attempts: int = 1) -> UUID:
    core.flow("a", base_delay=0, max_attempts=9)
    run = core.start()
    for _ in range(attempts):
        core.lapse()
        core.claim()
    # From the second upload on, none needs to write to the run.
    core.db.execute("update pgflow.runs set has_blobs = true")
    return run


def test_an_upload_that_begins_while_its_run_is_deleted_is_refused_or_goes_with_it(four):
    deleter, writer, observer, _ = four
    run = claimed(deleter)
    deleter.db.execute("begin")
    deleter.delete([run])
    with meanwhile(writer.open, run, "a") as opening:
        until_waiting(observer, writer)
        deleter.db.execute("commit")
        assert opening.result() is None
    assert observer.blobs() == set()


def test_a_run_that_is_deleted_while_an_upload_begins_takes_it_along(four):
    deleter, writer, observer, _ = four
    run = claimed(deleter)
    writer.db.execute("begin")
    assert writer.open(run, "a")
    with meanwhile(deleter.delete, [run]) as deleting:
        until_waiting(observer, deleter)
        writer.db.execute("commit")
        deleting.result()
    assert observer.blobs() == set()


def test_a_chunk_that_is_written_while_its_blob_is_deleted_is_refused(four):
    deleter, writer, observer, _ = four
    blob = deleter.open(claimed(deleter), "a")
    deleter.db.execute("begin")
    deleter.db.execute("delete from pgflow.output_blobs")
    with meanwhile(writer.write, blob, 0) as writing:
        until_waiting(observer, writer)
        deleter.db.execute("commit")
        assert writing.result() is False
    assert observer.chunks() == []


def test_a_blob_that_is_deleted_while_a_chunk_of_it_is_written_takes_it_along(four):
    deleter, writer, observer, _ = four
    blob = deleter.open(claimed(deleter), "a")
    writer.db.execute("begin")
    writer.write(blob, 0)
    with meanwhile(deleter.db.execute, "delete from pgflow.output_blobs") as deleting:
        until_waiting(observer, deleter)
        writer.db.execute("commit")
        deleting.result()
    assert (observer.blobs(), observer.chunks()) == (set(), [])


def test_an_upload_that_begins_while_its_task_is_settled_is_refused(four):
    settler, writer, observer, _ = four
    run = claimed(settler)
    settler.db.execute("begin")
    settler.settle(Outcome(run, "a"))
    with meanwhile(writer.open, run, "a") as opening:
        until_waiting(observer, writer)
        settler.db.execute("commit")
        assert opening.result() is None
    assert observer.blobs() == set()


def test_a_completion_sees_the_upload_that_a_lost_attempt_begins_meanwhile(four):
    settler, writer, observer, _ = four
    run = claimed(settler, attempts=2)
    writer.db.execute("begin")
    assert writer.open(run, "a", None)
    with meanwhile(settler.settle, Outcome(run, "a", attempt=2)) as settling:
        until_waiting(observer, settler)
        writer.db.execute("commit")
        assert settling.result().refused is None
    assert observer.blobs() == set()


def test_a_run_that_is_deleted_while_its_upload_is_completed_is_deleted_after_it(four):
    deleter, writer, observer, _ = four
    run = claimed(deleter)
    blob = writer.open(run, "a")
    writer.write(blob, 0)
    writer.db.execute("begin")
    writer.db.execute(LOCK_RUNS, [[UUID(str(run))]])  # as it is saved: before the blob
    writer.finish(blob, 1)
    with meanwhile(deleter.delete, [run]) as deleting:
        until_waiting(observer, deleter)
        writer.settle(Outcome(run, "a", blob=blob))
        writer.db.execute("commit")
        deleting.result()
    assert (observer.blobs(), observer.chunks()) == (set(), [])


# Partitions


def days(core: Core) -> list[str]:
    found = core.rows("select relname from pg_class where relname ~ '^output_blobs_\\d{8}$'")
    return sorted(row.relname.removeprefix("output_blobs_") for row in found)


def test_two_who_make_the_days_at_once_make_them_once(four):
    one, other, *_ = four
    for day in days(one):
        one.db.execute(f"drop table pgflow.output_blobs_{day}, pgflow.blob_chunks_{day}")
    calls = [lambda core=core: core.rows("select pgflow.ensure_blob_days()") for core in four]
    at_once(*calls)
    today = datetime.now(UTC).date()
    assert len(days(other)) == 4
    assert days(other)[0] == f"{today:%Y%m%d}"


def test_days_are_made_while_blobs_are_written_and_read(four):
    maker, *writers = four
    maker.flow("a", "b<a", base_delay=0, max_attempts=99)
    maker.start_many(60)
    working = [Worker(core, seed) for seed, core in enumerate(writers)]

    def work(worker: Worker) -> None:
        while worker.work():
            pass

    def make() -> None:
        for ahead in range(4, 24):
            maker.rows("select pgflow.ensure_blob_days(%s)", ahead)

    at_once(make, *[lambda w=w: work(w) for w in working])
    maker.lapse()
    work(working[0])
    maker.rows("select pgflow.ensure_blob_days(24)")
    assert len(days(maker)) == 25
    assert left_over(maker) == []
