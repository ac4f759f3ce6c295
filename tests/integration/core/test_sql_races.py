"""Many sessions of the SQL core at once: nothing lost, nothing twice, no deadlock.

A deadlock raises in the session it is found in, and so fails its test.
"""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain

import pytest
from psycopg import errors

from ...parts.models.core import Claim, Core, Outcome
from ...parts.models.sessions import at_once, meanwhile, sessions, until_waiting


@pytest.fixture
def four(database: str) -> Iterator[list[Core]]:
    """Four sessions."""
    with sessions(database, 4) as opened:
        yield opened


def done(claim: Claim) -> list[Outcome]:
    return [Outcome(t.run_id, t.step_slug, t.attempts_count, t.step_slug) for t in claim.tasks]


def worker(core: Core, runs: int, seen: list[tuple]) -> Callable[[], None]:
    """Work as a worker of ours does until so many runs of f have ended; note each attempt."""
    ended = "select count(*) >= %s from pgflow.runs where status <> 'started'"

    def work() -> None:
        claim = core.claim(7)
        give_up = time.monotonic() + 30
        while claim.tasks or not core.value(ended, runs):
            assert time.monotonic() < give_up
            seen.extend((t.run_id, t.step_slug, t.attempts_count) for t in claim.tasks)
            claim = core.settle(*done(claim), qty=7)

    return work


def test_a_join_whose_dependencies_are_completed_at_once_starts_exactly_once(four):
    one, other, *_ = four
    one.flow("a", "b", "c<a,b")
    runs = one.start_many(300)
    one.db.execute("set pgflow.notify = off")

    def complete(core: Core, step: str, seed: int) -> Callable[[], None]:
        batch = random.Random(seed).sample(runs, len(runs))
        outcomes = [Outcome(run, step, attempt=None) for run in batch]
        return lambda: [core.settle(*outcomes[n : n + 5]) for n in range(0, len(runs), 5)]

    at_once(complete(one, "a", 1), complete(other, "b", 2))
    tasks = one.value("select count(*) from pgflow.step_tasks where step_slug = 'c'")
    messages = one.value("select count(*) from pgmq.q_f where message ->> 'step_slug' = 'c'")
    waiting = one.value("select count(*) from pgflow.step_states where remaining_deps > 0")
    assert (tasks, messages, waiting) == (300, 300, 0)


def test_the_seeds_calls_start_a_join_exactly_once_too(four):
    one, other, observer, _ = four
    one.flow("a", "b", "c<a,b")
    runs = one.start_many(150)
    at_once(
        lambda: [one.complete(run, "a", 1) for run in runs],
        lambda: [other.complete(run, "b", 1) for run in runs],
    )
    assert len(observer.poll(1000)) == 150


def test_no_attempt_is_given_to_two_sessions(four):
    four[0].flow("a")
    four[0].start_many(400)

    def claim(core: Core) -> Callable[[], list]:
        def until_empty() -> list:
            taken = []
            while tasks := core.claim(3).tasks:
                taken += [(task.run_id, task.attempts_count) for task in tasks]
            return taken

        return until_empty

    taken = Counter(chain.from_iterable(at_once(*map(claim, four))))
    assert max(taken.values()) == 1
    # A session that finds the last messages held by the others stops before they are taken.
    taken.update((task.run_id, task.attempts_count) for task in four[0].claim(400).tasks)
    assert len(taken) == 400


def test_no_attempt_is_given_to_two_sessions_while_messages_lapse(four):
    *claimers, lapser = four
    lapser.flow("a", max_attempts=10_000)
    lapser.start_many(20)
    at_work = set(claimers)

    def claim(core: Core) -> Callable[[], list]:
        def often() -> list:
            try:
                claims = [core.claim(3) for _ in range(100)]
            finally:
                at_work.remove(core)
            return [(t.run_id, t.attempts_count) for claim in claims for t in claim.tasks]

        return often

    def lapse() -> list:
        while at_work:
            # None that another holds: or both would wait, each for what the other holds.
            lapser.db.execute(
                """
                update pgmq.q_f set vt = clock_timestamp() where msg_id = any(array(
                  select msg_id from pgmq.q_f for update skip locked))
                """
            )
        return []

    taken = Counter(chain.from_iterable(at_once(*map(claim, claimers), lapse)))
    assert max(taken.values()) == 1
    assert len(taken) > 40


def test_a_last_attempt_that_several_sessions_want_at_once_does_not_fail_as_lapsed(four):
    observer = four[0]
    observer.flow("a", max_attempts=3)
    for _ in range(40):
        observer.start_many(5)
        observer.db.execute("update pgflow.step_tasks set attempts_count = 2")
        observer.db.execute("update pgmq.q_f set read_ct = 2")
        claims = at_once(*[lambda core=core: core.claim(5) for core in four])
        assert sum(len(claim.tasks) for claim in claims) <= 5
        statuses = observer.rows("select status from pgflow.step_tasks where attempts_count = 3")
        assert {row.status for row in statuses} <= {"queued"}
        observer.db.execute("delete from pgflow.runs")
        observer.claim()


def test_sessions_that_fail_lapsed_tasks_of_several_flows_do_not_lock_each_other_out(four):
    observer = four[0]
    for slug in ("f", "g"):
        observer.flow("a", slug=slug, max_attempts=1)
    for _ in range(20):
        for slug in ("f", "g"):
            observer.start_many(20, slug=slug)
            observer.claim(20, (slug,))
            observer.lapse(slug)
        orders = [("f", "g"), ("g", "f")] * 2
        at_once(
            *[
                lambda core=core, order=order: core.claim(20, order)
                for core, order in zip(four, orders, strict=True)
            ]
        )
        observer.claim(20, ("f", "g"))
    left = observer.value("select count(*) from pgflow.runs where status = 'started'")
    assert left == 0


def test_runs_are_started_and_worked_off_at_the_same_time(four):
    starter, *workers = four
    starter.flow("a", "b<a", "c<a", "d<b,c")
    attempts: list[list[tuple]] = [[], [], []]
    at_once(
        lambda: [starter.start_many(10) for _ in range(15)],
        *[worker(core, 150, seen) for core, seen in zip(workers, attempts, strict=True)],
    )
    assert Counter(chain.from_iterable(attempts)) == Counter(
        (row.run_id, step, 1)
        for row in starter.rows("select run_id from pgflow.runs")
        for step in "abcd"
    )
    outputs = starter.rows("select distinct status, output from pgflow.runs")
    assert [tuple(row) for row in outputs] == [("completed", {"d": "d"})]
    assert starter.queued() == []
    assert len(starter.archived()) == 600


def test_a_completion_and_a_failure_of_siblings_end_their_run_once(four):
    one, other, observer, _ = four
    observer.flow("a", "c<a", max_attempts=1)
    observer.step("b")
    runs = observer.start_many(100)
    observer.claim(200)
    refused = at_once(
        lambda: [one.settle(Outcome(run, "a")).refused for run in runs],
        lambda: [other.settle(Outcome(run, "b", error="boom")).refused for run in runs],
    )
    assert refused[1] == [None] * 100
    for run, late in zip(runs, refused[0], strict=True):
        tasks = observer.tasks(run)
        assert observer.run(run).status == "failed"
        assert tasks.pop("b") == "failed"
        expected = {"a": "cancelled"} if late else {"a": "completed", "c": "cancelled"}
        assert tasks in (expected, {"a": "completed"})
    assert observer.queued() == []


def test_completions_and_failures_of_the_same_batches_in_opposite_orders_do_not_lock(four):
    one, other, observer, _ = four
    observer.flow("a", "b", max_attempts=100, base_delay=0)
    runs = observer.start_many(100)
    for _ in range(5):
        at_once(
            lambda: one.settle(*[Outcome(r, "a", None, error="again") for r in runs]),
            lambda: other.settle(*[Outcome(r, "b", None, error="again") for r in reversed(runs)]),
            lambda: observer.claim(200),
        )
    at_once(
        lambda: one.settle(*[Outcome(run, "a", None) for run in runs]),
        lambda: other.settle(*[Outcome(run, "b", None) for run in reversed(runs)]),
    )
    assert observer.value("select count(*) from pgflow.runs where status = 'completed'") == 100


def test_another_application_that_makes_its_queue_at_this_moment_keeps_it(four):
    one, other, observer, _ = four
    other.db.execute("begin")
    other.rows("select pgmq.create('emails')")
    with meanwhile(partial(one.flow, "a", slug="emails")) as refused:
        until_waiting(observer, one)
        other.db.execute("commit")
        with pytest.raises(errors.DuplicateTable, match="belong to another application"):
            refused.result()
    assert observer.value("select obj_description('pgmq.q_emails'::regclass)") is None
    assert observer.rows("select from pgflow.flows") == []


def test_two_that_define_a_flow_at_once_share_its_queue(four):
    one, other, observer, _ = four
    other.db.execute("begin")
    other.flow("a")
    with meanwhile(partial(one.flow, "a")) as shared:
        until_waiting(observer, one)
        other.db.execute("commit")
        shared.result()
    assert one.start()


def test_lost_tasks_that_two_requeue_at_once_have_one_message_each(four):
    one, other, observer, _ = four
    one.flow("a")
    one.start_many(300)
    one.rows("select pgmq.purge_queue('f')")
    requeue = "select pgflow.requeue_lost_tasks('f', 200)"
    sent = at_once(*[partial(core.value, requeue) for core in (one, other)])
    assert observer.value("select count(distinct message ->> 'run_id') from pgmq.q_f") == sum(sent)
    one.value(requeue)
    assert len(one.poll(1000)) == 300
    assert len(one.queued()) == 300


def test_a_task_that_is_completed_while_lost_ones_are_requeued_stays_completed(four):
    one, other, observer, _ = four
    one.flow("a")
    run = one.start()
    one.poll()
    one.rows("select pgmq.purge_queue('f')")
    other.db.execute("begin")
    other.complete(run, "a", 1)
    with meanwhile(one.value, "select pgflow.requeue_lost_tasks('f')") as requeued:
        until_waiting(observer, one)
        other.db.execute("commit")
        assert requeued.result() == 0
    assert (one.run(run).status, one.queued()) == ("completed", [])
