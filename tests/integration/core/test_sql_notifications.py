"""Who is woken by what, and when.

Notifications arrive in the order of the commits: what was not heard before a notification
sent later was not sent.
"""

from collections.abc import Iterator

import pytest

from ...parts.models.core import Core, Outcome
from ...parts.models.sessions import sessions


class Ear:
    """Listens to the channels of the flows f and g."""

    def __init__(self, core: Core, other: Core) -> None:
        self.core, self.other = core, other
        self.names = {
            core.value("select pgflow.channel(%s, %s)", topic, slug): f"{topic} of {slug}"
            for topic in ("tasks", "runs")
            for slug in ("f", "g")
        }
        for channel in (*self.names, "the_end"):
            core.db.execute(f"listen {channel}")

    def heard(self) -> list[str]:
        self.other.db.execute("notify the_end")
        heard = []
        for notify in self.core.db.notifies(timeout=10):
            assert notify.payload == ""
            if notify.channel == "the_end":
                return sorted(heard)
            heard.append(self.names[notify.channel])
        raise AssertionError("the last notification did not arrive")


@pytest.fixture
def two(database: str) -> Iterator[tuple[Core, Ear]]:
    """A session that works, and an ear that listens."""
    with sessions(database, 3) as (core, listener, other):
        core.flow("a", "b<a")
        core.flow("a", slug="g")
        yield core, Ear(listener, other)


def test_a_run_that_starts_wakes_the_workers_of_its_flow(two):
    core, ear = two
    core.start()
    assert ear.heard() == ["tasks of f"]


def test_many_runs_started_at_once_notify_once(two):
    core, ear = two
    core.db.execute("set track_functions = 'pl'")
    with core.db.transaction():
        core.start_many(100)
        calls = "select pg_stat_get_xact_function_calls('pgflow.notify_tasks_inserted'::regproc)"
        assert core.value(calls) == 1
    assert ear.heard() == ["tasks of f"]


def test_nobody_hears_of_what_is_not_committed_or_rolled_back(two):
    core, ear = two
    with core.db.transaction(force_rollback=True):
        core.start()
        assert ear.heard() == []
    assert ear.heard() == []


def test_a_statement_that_queues_tasks_of_two_flows_notifies_both(two):
    core, ear = two
    core.start()
    core.start(slug="g")
    ear.heard()
    core.db.execute("update pgflow.step_tasks set queued_at = clock_timestamp()")
    assert ear.heard() == ["tasks of f", "tasks of g"]


def test_a_task_that_is_queued_again_wakes_the_workers(two):
    core, ear = two
    run = core.start()
    core.poll()
    ear.heard()
    core.fail(run, "a")
    assert ear.heard() == ["tasks of f"]


def test_a_step_that_becomes_ready_wakes_the_workers(two):
    core, ear = two
    run = core.start()
    ear.heard()
    core.complete(run, "a")
    assert ear.heard() == ["tasks of f"]


def test_a_run_that_completes_wakes_those_who_wait_for_it(two):
    core, ear = two
    run = core.start(slug="g")
    ear.heard()
    core.complete(run, "a")
    assert ear.heard() == ["runs of g"]


def test_a_run_that_fails_wakes_those_who_wait_for_it(two):
    core, ear = two
    core.db.execute("update pgflow.flows set opt_max_attempts = 0")
    run = core.start()
    ear.heard()
    core.fail(run, "a")
    assert ear.heard() == ["runs of f"]


def test_a_run_without_steps_wakes_those_who_wait_for_it(two):
    core, ear = two
    core.db.execute("delete from pgflow.steps where flow_slug = 'g'")
    core.start(slug="g")
    assert ear.heard() == ["runs of g"]


def test_claims_and_polls_notify_nobody(two):
    core, ear = two
    core.start_many(3)
    ear.heard()
    core.claim(1)
    core.poll(1)
    core.lapse()
    core.claim(1)
    assert ear.heard() == []


def test_a_claim_that_fails_a_lapsed_task_wakes_those_who_wait_for_its_run(two):
    core, ear = two
    core.db.execute("update pgflow.flows set opt_max_attempts = 1")
    core.start()
    core.claim()
    core.lapse()
    ear.heard()
    core.claim()
    assert ear.heard() == ["runs of f"]


def test_a_workers_completion_notifies_nobody_and_says_what_is_owed(two):
    core, ear = two
    run, other = core.start(), core.start(slug="g")
    core.claim(10, ("f", "g"))
    ear.heard()
    claim = core.settle(Outcome(run, "a"), Outcome(other, "a"), flows=("f", "g"))
    assert (claim.owed_tasks, claim.owed_runs) == (["f"], ["g"])
    assert ear.heard() == []
    core.rows("select pgflow.notify_owed(%s, %s)", claim.owed_tasks, claim.owed_runs)
    assert ear.heard() == ["tasks of f"]


def test_a_workers_failure_notifies_nobody_and_says_what_is_owed(two):
    core, ear = two
    run, other = core.start(), core.start(slug="g")
    core.claim(10, ("f", "g"))
    ear.heard()
    claim = core.settle(
        Outcome(run, "a", error="again"), Outcome(other, "a", error="never", permanent=True)
    )
    assert (claim.owed_tasks, claim.owed_runs) == (["f"], ["g"])
    assert ear.heard() == []


def test_a_waiter_that_holds_the_lock_of_a_flow_is_woken_for_its_runs_only(two, database):
    core, ear = two
    owed = "select pgflow.notify_owed('{}', '{f,g,f}')"
    with sessions(database, 1) as (waiter,):
        waiter.rows("select pg_advisory_lock_shared(pgflow.waiting_key('f'))")
        core.rows(owed)
        assert ear.heard() == ["runs of f"]
        waiter.rows("select pg_advisory_unlock_shared(pgflow.waiting_key('f'))")
    core.rows(owed)
    assert ear.heard() == []


def test_what_is_owed_may_be_null(two):
    core, ear = two
    core.rows("select pgflow.notify_owed(null, null)")
    assert ear.heard() == []


def test_notifications_can_be_turned_off_for_a_session_and_on_again(two):
    core, ear = two
    core.db.execute("set pgflow.notify = off")
    core.start()
    assert ear.heard() == []
    core.db.execute("set pgflow.notify = on")
    core.start()
    assert ear.heard() == ["tasks of f"]


def test_a_workers_calls_leave_the_notifications_of_its_session_on(two):
    core, ear = two
    core.claim()
    core.settle()
    core.start()
    assert ear.heard() == ["tasks of f"]


def test_a_change_that_queues_nothing_notifies_nobody(two):
    core, ear = two
    core.start()
    ear.heard()
    core.db.execute("update pgflow.step_tasks set error_message = 'seen'")
    core.db.execute("update pgflow.runs set input = '2'")
    assert ear.heard() == []
