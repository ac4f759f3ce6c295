"""Which tasks keep a flow from being claimed, and why."""

import pytest

UNREADABLE = """
create or replace function pgflow.task_records(flow_slug text, message_ids bigint[])
returns setof pgflow.step_task_record language plpgsql stable as $$
begin
  if exists (
    select from pgflow.step_tasks t join pgflow.runs r using (run_id)
    where t.message_id = any(message_ids) and r.input = '"poison"'
  ) then
    raise 'too large' using errcode = 'program_limit_exceeded';
  end if;
end $$
"""
FIND = "select * from pgflow.unreadable_tasks('f', %s)"


@pytest.fixture
def runs(core):
    core.flow("a")
    return [core.start(value) for value in (1, "poison", 2, "poison")]


def test_tasks_that_can_be_read_are_none_of_them(core, runs):
    assert core.rows(FIND, 10) == []


def test_those_that_cannot_are_told_with_the_reason(core, runs):
    core.db.execute(UNREADABLE)
    assert core.rows(FIND, 10) == [
        (run_id, "a", 0, 0, "54000", "too large") for run_id in (runs[1], runs[3])
    ]


def test_no_more_are_looked_at_than_a_claim_would_take(core, runs):
    core.db.execute(UNREADABLE)
    assert [row.run_id for row in core.rows(FIND, 3)] == [runs[1]]
    assert core.rows(FIND, 1) == []


def test_what_is_claimed_is_nobody_elses_to_judge(core, runs):
    core.claim(qty=2)
    core.db.execute(UNREADABLE)
    assert [row.run_id for row in core.rows(FIND, 10)] == [runs[3]]
