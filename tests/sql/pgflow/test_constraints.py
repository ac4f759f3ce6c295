"""Constraints that tests of pgflow's callers know by their names, and what they refuse."""

import pytest
from psycopg import errors

STEP = "insert into pgflow.steps (flow_slug, step_slug, step_index, {}) values ('f', 'b', 1, {})"
STATE = (
    "insert into pgflow.step_states (flow_slug, run_id, step_slug, {})"
    " values ('f', gen_random_uuid(), 'b', {})"
)
REFUSED = {
    "steps_step_type_check": STEP.format("step_type", "'other'"),
    "opt_start_delay_is_nonnegative": STEP.format("opt_start_delay", "-1"),
    "required_input_pattern_is_object": STEP.format("required_input_pattern", "'[]'"),
    "forbidden_input_pattern_is_object": STEP.format("forbidden_input_pattern", "'1'"),
    "when_unmet_is_valid": STEP.format("when_unmet", "'never'"),
    "when_exhausted_is_valid": STEP.format("when_exhausted", "'never'"),
    "initial_tasks_known_when_started": STATE.format("status, initial_tasks", "'started', null"),
    "output_only_for_completed_or_null": STATE.format("output", "'1'"),
}
ALLOWED = [
    STEP.format("opt_start_delay", "0"),
    STEP.format("step_type, when_unmet, when_exhausted", "'map', 'fail', 'skip-cascade'"),
    STATE.format("initial_tasks, remaining_tasks", "null, null"),
    STATE.format("status, output", "'completed', '1'"),
    STATE.format(
        "status, skip_reason, skipped_at, remaining_tasks",
        "'skipped', 'handler_failed', now(), null",
    ),
    (
        "insert into pgflow.step_tasks (flow_slug, run_id, step_slug, task_index, status, output)"
        " values ('f', gen_random_uuid(), 'b', 7, 'failed', '1')"
    ),
]


@pytest.mark.parametrize("name", REFUSED)
def test_a_constraint_has_its_name(core, name):
    core.flow("a")
    with pytest.raises(errors.CheckViolation) as refused:
        core.db.execute(REFUSED[name])
    assert refused.value.diag.constraint_name == name


def test_two_steps_of_a_flow_have_two_places(core):
    core.flow("a")
    with pytest.raises(errors.UniqueViolation) as refused:
        core.db.execute("insert into pgflow.steps (flow_slug, step_slug) values ('f', 'b')")
    assert refused.value.diag.constraint_name == "steps_flow_slug_step_index_key"


@pytest.mark.parametrize("statement", ALLOWED)
def test_rows_may_be_written_by_hand(core, statement):
    core.flow("a")
    assert core.db.execute(statement).rowcount == 1
