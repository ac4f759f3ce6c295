"""A claim costs the same beside many messages that are hidden, such as those of delayed runs."""

from collections.abc import Iterator
from uuid import UUID

import pytest

from ...parts.models.core import Core
from ...parts.models.sessions import sessions

HIDDEN = 10_000
MORE = 30  # buffers: the levels of larger indexes, and the first hundred messages
BUFFERS = """
explain (analyze, buffers, format json)
select from pgflow.claim_tasks('{f}', %s, gen_random_uuid(), null)
"""
START = """
select run_id from pgflow.start_flows('f', array_fill('1'::jsonb, array[%s]), delay => %s)
"""
FALL_DUE = """
update pgmq.q_f set vt = clock_timestamp()
where msg_id = (
  select msg_id from pgmq.q_f where vt > clock_timestamp() order by vt, msg_id limit 1
)
"""


@pytest.fixture
def core(database: str) -> Iterator[Core]:
    """A flow of one step, in a session that has planned its claims."""
    with sessions(database, 1) as (core,):
        core.flow("a")
        for _ in range(12):
            start(core, 1)
            buffers(core)
        yield core


def start(core: Core, count: int, delay: float = 0) -> list[UUID]:
    return [row.run_id for row in core.rows(START, count, delay)]


def buffers(core: Core, qty: int = 1) -> int:
    """What a claim reads."""
    plan = core.value(BUFFERS, qty)[0]["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


def hide(core: Core, count: int = HIDDEN) -> None:
    """Start delayed runs, and have the session find that they are hidden."""
    start(core, count, 3600)
    assert core.claim().tasks == []
    for _ in range(3):  # the statements are planned
        alone(core)


def alone(core: Core) -> int:
    start(core, 1)
    return buffers(core)


def test_a_lone_task(core):
    before = alone(core)
    hide(core)
    assert max(alone(core) for _ in range(5)) <= before + MORE


def test_a_claim_that_finds_nothing(core):
    before = buffers(core)
    hide(core)
    assert buffers(core) <= before + MORE


def test_many_tasks_that_come_after_the_hidden_ones(core):
    start(core, 500)
    before = [buffers(core, 10) for _ in range(50)]
    hide(core)
    start(core, 500)
    after = [buffers(core, 10) for _ in range(50)]
    assert sum(after) <= sum(before) * 1.3 + 50 * MORE
    assert core.claim().tasks == []


def test_delayed_runs_that_fall_due_one_after_the_other(core):
    before = alone(core)
    hide(core)
    for _ in range(20):
        core.db.execute(FALL_DUE)
        assert buffers(core) <= before + MORE


def test_hidden_ones_between_tasks(core):
    start(core, 20)
    start(core, HIDDEN, 3600)
    start(core, 500)
    spent = [buffers(core, 10) for _ in range(52)]
    assert max(spent[5:]) < 600  # the first ones pass over them once
    assert core.claim().tasks == []


def test_the_task_that_was_visible_first_is_claimed_first(core):
    hide(core, 1200)
    runs = start(core, 30)
    assert [task.run_id for task in core.claim(20).tasks] == runs[:20]
    core.db.execute(FALL_DUE)
    assert [task.run_id for task in core.claim(10).tasks] == runs[20:]
    (delayed,) = core.claim().tasks
    assert delayed.run_id not in runs


def test_when_all_is_due_claims_go_by_the_ids_again(core):
    hide(core, 1200)
    assert core.value("select current_setting('pgflow.hidden_q_f')") == "on"
    core.db.execute("delete from pgmq.q_f where vt > clock_timestamp()")
    core.claim()
    assert core.value("select current_setting('pgflow.hidden_q_f')") == "off"


def test_a_last_attempt_that_lapsed_behind_hidden_ones_is_found(core):
    core.flow("a", slug="g", max_attempts=1)
    core.rows(START.replace("'f'", "'g'"), 1200, 3600)
    run = core.start(slug="g")
    core.claim(flows=("g",))
    core.db.execute(
        "update pgmq.q_g set vt = clock_timestamp() where msg_id = %s",
        [core.task(run, "a").message_id],
    )
    core.claim(flows=("g",))
    assert core.run(run).status == "failed"
