"""Cancellations beside completions, failures and claims: no deadlock, and nothing is left."""

import random
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from ...parts.models.core import Core, Outcome
from ...parts.models.sessions import at_once, meanwhile, sessions, until_waiting

RUNS = 200
LEFT = """
select
  (select count(*) from pgflow.step_tasks where status in ('queued', 'started'))
  + (select count(*) from pgmq.q_f)
  + (select count(*) from pgflow.runs where status = 'started')
"""
# Runs that ended otherwise than their steps.
TORN = """
select run_id from pgflow.runs r
where
  (status = 'completed') <> (
    select bool_and(s.status = 'completed') from pgflow.step_states s where s.run_id = r.run_id
  )
  or (status = 'completed') <> (output is not null)
"""


@pytest.fixture
def six(database: str) -> Iterator[list[Core]]:
    with sessions(database, 6) as opened:
        yield opened


def test_runs_are_cancelled_while_others_complete_and_fail_them(six: list[Core]) -> None:
    core, *_ = six
    core.flow("a", "b", "c<a,b", max_attempts=2, base_delay=0)
    runs = core.start_many(RUNS)

    def cancel(core: Core, seed: int) -> Callable[[], int]:
        order = random.Random(seed).sample(runs, RUNS)
        query = "select count(*) from pgflow.cancel_runs(%s)"

        def work() -> int:
            return sum(core.value(query, order[n : n + 3]) for n in range(0, RUNS, 3))

        return work

    def settle(core: Core, seed: int) -> Callable[[], int]:
        chance = random.Random(seed)

        def work() -> int:
            claim = core.claim(5)
            while claim.tasks:
                claim = core.settle(
                    *[
                        Outcome(
                            task.run_id,
                            task.step_slug,
                            task.attempts_count,
                            task.step_slug,
                            error="boom" if chance.random() < 0.3 else None,
                        )
                        for task in claim.tasks
                    ],
                    qty=5,
                )
            return 0

        return work

    # Those that work begin first at the oldest runs, and those that cancel anywhere.
    calls = [settle(one, n) for n, one in enumerate(six[:4])]
    cancelled = sum(at_once(*calls, cancel(six[4], 8), cancel(six[5], 9)))
    ended = Counter(core.value("select status from pgflow.runs where run_id = %s", r) for r in runs)
    assert ended["cancelled"] == cancelled
    assert core.value(LEFT) == 0
    assert core.rows(TORN) == []


@pytest.mark.parametrize("first", ["cancel", "complete"])
def test_of_a_cancellation_and_a_completion_the_first_counts(six: list[Core], first: str) -> None:
    one, other, observer, *_ = six
    one.flow("a")
    run_id = one.start()
    one.claim()
    done = Outcome(run_id, "a", 1, "output")
    cancel = "select run_id from pgflow.cancel_runs(array[%s::uuid])"
    calls = {
        "cancel": lambda core: core.rows(cancel, run_id),
        "complete": lambda core: core.settle(done).refused,
    }
    second = "complete" if first == "cancel" else "cancel"
    one.db.execute("begin")
    calls[first](one)
    with meanwhile(calls[second], other) as answer:
        until_waiting(observer, other)
        one.db.execute("commit")
        assert answer.result() == ([1] if first == "cancel" else [])
    assert one.run(run_id).status == ("cancelled" if first == "cancel" else "completed")
