"""A claim begins where the queue does, and misses nothing that is committed late."""

import random
from collections.abc import Iterator
from uuid import UUID

import psycopg
import pytest

from ...parts.models.core import Core, Outcome
from ...parts.models.sessions import sessions

BUFFERS = """
explain (analyze, buffers, format json)
select from pgflow.claim_tasks('{f}', 50, gen_random_uuid(), null)
"""


@pytest.fixture
def two(database: str) -> Iterator[tuple[Core, Core]]:
    """Two sessions; the first has seen the queue of a flow of one step move on."""
    with sessions(database, 2) as (one, other):
        one.flow("a")
        move_on(one)
        assert floor(one) > 50
        yield one, other


def move_on(core: Core, runs: int = 150) -> list[UUID]:
    """Start runs and complete all that can be claimed, two at a time; of which runs these were."""
    core.start_many(runs)
    done = []
    while tasks := core.claim(2).tasks:
        done += [task.run_id for task in tasks]
        core.settle(*[Outcome(task.run_id, "a", task.attempts_count) for task in tasks])
    return done


def floor(core: Core) -> int:
    return int(core.value("select pgflow.queue_floor('q_f')"))


def buffers(core: Core) -> int:
    plan = core.value(BUFFERS)[0]["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


def claimed(core: Core) -> list[UUID]:
    return [task.run_id for task in core.claim(10).tasks]


def test_a_message_committed_late_is_claimed_though_later_ones_were_before(two):
    core, other = two
    with other.db.transaction():
        late = other.start()
        move_on(core)
        assert claimed(core) == []
    (task,) = core.claim().tasks
    assert task.run_id == late
    move_on(core)
    assert floor(core) <= task.msg_id  # it is being worked on


def test_after_a_late_one_is_done_the_floor_goes_on(two):
    core, other = two
    with other.db.transaction():
        other.start()
        move_on(core)
    before = floor(core)
    move_on(core)
    move_on(core)
    assert floor(core) > before + 15


def test_what_is_visible_again_is_claimed_though_later_ones_were_before(two):
    core, _ = two
    run = core.start()
    (task,) = core.claim().tasks
    move_on(core)
    core.db.execute("update pgmq.q_f set vt = clock_timestamp() where msg_id = %s", [task.msg_id])
    assert claimed(core) == [run]


def test_the_first_messages_of_a_queue_that_was_looked_at_before_are_claimed(two):
    core, other = two
    core.flow("a", slug="g")
    flows = ("f", "g")
    for _ in range(4):
        other.start()
        for task in core.claim(5, flows).tasks:
            core.settle(Outcome(task.run_id, "a"), flows=flows)
    runs = other.start_many(3, "g")
    assert [task.run_id for task in core.claim(5, flows).tasks] == runs


def test_a_queue_whose_sequence_was_set_back_has_no_floor_after_a_look(two):
    core, _ = two
    core.delete(core.value("select array_agg(run_id) from pgflow.runs"))
    core.db.execute("alter sequence pgmq.q_f_msg_id_seq restart")
    run = core.start()
    core.claim()
    assert claimed(core) == [run]


@pytest.mark.parametrize(
    "anew",
    [
        "truncate pgmq.q_f restart identity",
        "select pgmq.drop_queue('f'); select pgmq.create('f')",
    ],
)
def test_a_queue_that_begins_anew_has_no_floor(two, anew):
    core, _ = two
    core.delete(core.value("select array_agg(run_id) from pgflow.runs"))
    core.db.execute(anew)
    run = core.start()
    assert claimed(core) == [run]


def test_a_claim_reads_little_more_while_a_report_holds_its_snapshot(two):
    core, other = two
    other.db.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    with other.db.transaction():
        other.rows("select from pgflow.runs")
        move_on(core, 50)
        before = buffers(core)
        move_on(core, 1000)
        assert buffers(core) < before + 250  # a claim begins up to 100 messages after the floor


def test_of_starts_that_commit_in_any_order_none_is_left(database: str):
    chance = random.Random(4)
    with sessions(database, 6) as (core, *others):
        core.flow("a")
        started: list[UUID] = []
        done: list[UUID] = []
        for _ in range(300):
            other = chance.choice(others)
            if other.db.info.transaction_status == psycopg.pq.TransactionStatus.IDLE:
                other.db.execute("begin")
                began = other.start_many(chance.randrange(1, 4))
                started += began
            else:
                other.db.execute("commit")
            done += move_on(core, chance.randrange(2))
        for other in others:
            other.db.execute("commit")
        done += move_on(core, 0)
        assert core.value("select count(*) from pgflow.runs where status = 'started'") == 0
        assert set(started) <= set(done)
