"""Workers as the database knows them: their seats, their ring, what they leave behind."""

import re
from uuid import UUID

import pytest

from ...parts.models.core import WORKER

OTHER, THIRD, DEAD = UUID(int=8), UUID(int=9), UUID(int=99)
PLANNED = re.compile(r'"Node Type": "Seq Scan"[^}]*?"Relation Name": "(step_tasks|q_f)"')


def seat(core, worker=WORKER, flows=("f",)):
    return core.value("select pgflow.take_seat(%s, %s, 'host', 1)", worker, list(flows))


def seats(core):
    return dict(core.rows("select worker_id, seat from pgflow.worker_seats"))


def bury(core, worker, number):
    return core.value("select pgflow.bury_worker(%s, %s)", worker, number)


def give_up(core, number):
    """End the session that had this seat, as far as others can tell."""
    core.value("select pg_advisory_unlock(pgflow.seat_key(%s))", number)


@pytest.fixture
def claimed(core):
    """A core with two tasks that WORKER has claimed, and one that nobody has."""
    core.flow("root")
    core.start_many(3)
    core.claim(2)
    return core


def test_a_worker_that_connects_again_takes_another_seat_and_keeps_its_start(core):
    first = seat(core)
    begun = core.row("select * from pgflow.worker_seats")
    second = seat(core)
    now = core.row("select * from pgflow.worker_seats")
    assert seats(core) == {WORKER: second}
    assert first < second
    assert now.started_at == begun.started_at
    assert now.connected_at > begun.connected_at


def test_in_the_ring_each_watches_the_next_and_the_last_one_the_first(core):
    taken = {worker: seat(core, worker) for worker in (WORKER, OTHER, THIRD)}
    ring = [WORKER, OTHER, THIRD] * 2
    for n, worker in enumerate(ring[:3]):
        peers = [(peer, taken[peer]) for peer in ring[n + 1 : n + 3]]
        assert core.rows("select * from pgflow.next_worker(%s)", worker) == peers
    assert core.rows("select * from pgflow.next_worker(%s)", DEAD) == list(taken.items())


def test_who_is_alone_watches_nobody(core):
    seat(core)
    assert core.rows("select * from pgflow.next_worker(%s)", WORKER) == []


def test_a_dead_worker_leaves_its_tasks_visible_and_their_attempts_counted(claimed):
    number = seat(claimed)
    give_up(claimed, number)
    assert bury(claimed, WORKER, number)
    assert seats(claimed) == {}
    tasks = claimed.claim(3).tasks
    assert sorted(task.attempts_count for task in tasks) == [1, 2, 2]


def test_a_task_says_that_its_worker_died_also_if_that_was_its_last_attempt(core):
    core.flow("a", max_attempts=2)
    run = core.start()
    for attempt in (1, 2):
        number = seat(core)
        core.claim()
        give_up(core, number)
        assert bury(core, WORKER, number)
        said = f"attempt {attempt} was lost: its worker died (process 1 on host)"
        assert core.task(run, "a").error_message == said
    assert core.claim().tasks == []
    task = core.task(run, "a")
    assert (task.status, task.error_message) == ("failed", said)


def test_what_others_have_claimed_stays_theirs(claimed):
    claimed.rows(
        "update pgflow.step_tasks set worker_id = %s where message_id = 1 returning 1", OTHER
    )
    number = seat(claimed)
    give_up(claimed, number)
    assert bury(claimed, WORKER, number)
    assert claimed.hidden_for(1) > 0 > claimed.hidden_for(2)


def test_a_task_that_waits_for_its_next_attempt_goes_on_waiting(claimed):
    task = claimed.row("select * from pgflow.step_tasks where message_id = 1")
    claimed.fail(task.run_id, "root")
    number = seat(claimed)
    give_up(claimed, number)
    assert bury(claimed, WORKER, number)
    assert claimed.hidden_for(1) > 0 > claimed.hidden_for(2)


def test_a_worker_that_has_another_seat_by_now_is_not_buried(claimed):
    number = seat(claimed)
    again = seat(claimed)
    assert not bury(claimed, WORKER, number)
    assert seats(claimed) == {WORKER: again}
    assert claimed.hidden_for(1) > 0


def test_a_worker_with_another_session_is_not_buried(claimed, connect_beside):
    number = seat(claimed)
    give_up(claimed, number)
    beside = connect_beside()
    # As hold_worker_lock() of the package says it.
    beside.execute(
        "select pg_try_advisory_lock_shared(hashtextextended('pgflow.worker.' || %s::uuid, 0))",
        [WORKER],
    )
    assert not bury(claimed, WORKER, number)
    assert seats(claimed) == {WORKER: number}
    beside.close()
    assert bury(claimed, WORKER, number)


def test_flows_that_are_gone_do_not_matter(claimed):
    number = seat(claimed, flows=["gone", "f"])
    give_up(claimed, number)
    assert bury(claimed, WORKER, number)
    assert claimed.hidden_for(1) < 0


def test_who_leaves_gives_back_what_is_unfinished(claimed):
    seat(claimed)
    claimed.value("select pgflow.leave_seat(%s)", WORKER)
    assert seats(claimed) == {}
    assert claimed.hidden_for(1) < 0
    read = "select attempts_count, worker_id from pgflow.step_tasks where message_id = 1"
    assert claimed.rows(read) == [(0, None)]
    claimed.value("select pgflow.leave_seat(%s)", WORKER)  # again


@pytest.mark.parametrize("wait", [0, 0.01])
def test_a_seat_that_is_taken_is_waited_for_no_longer_than_that(core, connect_beside, wait):
    number = 10**12
    await_it = "select state from pgflow.await_seat(%s, %s)"
    beside = connect_beside()
    beside.execute("select pg_advisory_lock(pgflow.seat_key(%s))", [number])
    assert core.value(await_it, number, wait) == "taken"
    beside.close()
    with core.db.transaction():
        until_free = core.value(await_it, number, 5)
    assert until_free in {"free", "freed"}
    assert core.value(await_it, number, 0) == "free"


def test_to_find_what_a_worker_has_claimed_no_table_is_read_from_end_to_end(core):
    notices = []
    core.flow("root")
    core.start_many(3000)
    core.claim(20)
    core.db.add_notice_handler(lambda notice: notices.append(notice.message_primary))
    core.db.execute("load 'auto_explain'")
    for name, value in {
        "log_min_duration": "0",
        "log_nested_statements": "on",
        "log_format": "json",
        "log_level": "notice",
    }.items():
        core.db.execute(f"set local auto_explain.{name} = '{value}'")
    assert core.value("select pgflow.free_tasks(%s, '{f}')", WORKER) == ["f"]
    assert len(core.rows("select from pgmq.q_f where vt <= clock_timestamp()")) == 3000
    nested = [text for text in notices if "Query Text" in text and "array_agg(msg_id)" in text]
    assert nested
    ours = [text for text in notices if "pgmq.q_f where vt <= clock" not in text]
    assert [text for text in ours if PLANNED.search(text)] == []
