"""Names and types that callers of the seed rely on."""

import pytest

TABLES = {
    "flows": "flow_slug text, opt_max_attempts integer, opt_base_delay integer,"
    " opt_timeout integer",
    "steps": "flow_slug text, step_slug text, step_type text, deps_count integer,"
    " opt_max_attempts integer, opt_base_delay integer, opt_timeout integer",
    "deps": "flow_slug text, dep_slug text, step_slug text",
    "runs": "run_id uuid, flow_slug text, status text, input jsonb, output jsonb,"
    " remaining_steps integer",
    "step_states": "flow_slug text, run_id uuid, step_slug text, status text,"
    " remaining_tasks integer, remaining_deps integer",
    "step_tasks": "flow_slug text, run_id uuid, step_slug text, task_index integer,"
    " message_id bigint, status text, attempts_count integer, error_message text, output jsonb",
    "step_task_record": "flow_slug text, run_id uuid, step_slug text, input jsonb, msg_id bigint,"
    " blobs_refs jsonb",
}
KEYS = {
    "flows": ["flow_slug"],
    "steps": ["flow_slug", "step_slug"],
    "deps": ["flow_slug", "dep_slug", "step_slug"],
    "runs": ["run_id"],
    "step_states": ["run_id", "step_slug"],
    "step_tasks": ["run_id", "step_slug", "task_index"],
}
DEFAULTS = {
    "flows.opt_max_attempts": "3",
    "flows.opt_base_delay": "1",
    "flows.opt_timeout": "60",
    "steps.step_type": "'single'::text",
    "steps.deps_count": "0",
    "runs.status": "'started'::text",
    "step_states.status": "'created'::text",
    "step_states.remaining_tasks": "1",
    "step_states.remaining_deps": "0",
    "step_tasks.task_index": "0",
    "step_tasks.status": "'queued'::text",
    "step_tasks.attempts_count": "0",
}
FUNCTIONS = """
create_flow(flow_slug text, max_attempts integer DEFAULT NULL::integer, \
base_delay integer DEFAULT NULL::integer, timeout integer DEFAULT NULL::integer) pgflow.flows
add_step(flow_slug text, step_slug text, deps_slugs text[] DEFAULT '{}'::text[], \
max_attempts integer DEFAULT NULL::integer, base_delay integer DEFAULT NULL::integer, \
timeout integer DEFAULT NULL::integer, start_delay integer DEFAULT NULL::integer, \
step_type text DEFAULT 'single'::text, required_input_pattern jsonb DEFAULT NULL::jsonb, \
forbidden_input_pattern jsonb DEFAULT NULL::jsonb, when_unmet text DEFAULT 'skip'::text, \
when_exhausted text DEFAULT 'fail'::text, tolerate real DEFAULT NULL::real) pgflow.steps
start_flow(flow_slug text, input jsonb, run_id uuid DEFAULT NULL::uuid) SETOF pgflow.runs
poll_for_tasks(queue_name text, vt integer, qty integer, max_poll_seconds integer DEFAULT 5, \
poll_interval_ms integer DEFAULT 100) SETOF pgflow.step_task_record
complete_task(run_id uuid, step_slug text, task_index integer, output jsonb) \
SETOF pgflow.step_tasks
fail_task(run_id uuid, step_slug text, task_index integer, error_message text) \
SETOF pgflow.step_tasks
is_valid_slug(slug text) boolean
calculate_retry_delay(base_delay numeric, attempts_count integer) integer
start_ready_steps(run_id uuid) void
maybe_complete_run(run_id uuid) void
"""


@pytest.mark.parametrize("table", TABLES)
def test_every_column_of_the_contract_has_its_very_type(core, table):
    stored = core.rows(
        """
        select attname || ' ' || format_type(atttypid, atttypmod) from pg_attribute
        where attrelid = %s::regclass and attnum > 0
        """,
        f"pgflow.{table}",
    )
    assert set(TABLES[table].split(", ")) <= {row[0] for row in stored}


@pytest.mark.parametrize("table", KEYS)
def test_every_table_has_the_primary_key_of_the_contract(core, table):
    key = core.value(
        """
        select array_agg(attname::text order by array_position(conkey, attnum))
        from pg_constraint join pg_attribute on attrelid = conrelid and attnum = any(conkey)
        where conrelid = %s::regclass and contype = 'p'
        """,
        f"pgflow.{table}",
    )
    assert key == KEYS[table]


@pytest.mark.parametrize("column", DEFAULTS)
def test_every_column_has_the_default_of_the_contract(core, column):
    table, _, name = column.partition(".")
    default = core.value(
        """
        select pg_get_expr(adbin, adrelid) from pg_attrdef
        join pg_attribute on attrelid = adrelid and attnum = adnum
        where adrelid = %s::regclass and attname = %s
        """,
        f"pgflow.{table}",
        name,
    )
    assert default == DEFAULTS[column]


def test_every_function_takes_and_returns_what_the_contract_says(core):
    signatures = core.rows(
        """
        select format(
          '%s(%s) %s', proname, pg_get_function_arguments(oid), pg_get_function_result(oid))
        from pg_proc where pronamespace = 'pgflow'::regnamespace
        """
    )
    assert set(FUNCTIONS.strip().splitlines()) <= {row[0] for row in signatures}


def test_a_polled_task_has_values_of_the_contracts_types(core):
    core.flow("a")
    core.start({"x": 1})
    types = core.value(
        """
        select array[pg_typeof(flow_slug), pg_typeof(run_id), pg_typeof(step_slug),
          pg_typeof(input), pg_typeof(msg_id), pg_typeof(blobs_refs)]::text[]
        from pgflow.poll_for_tasks('f', 1, 1, 0)
        """
    )
    assert types == ["text", "uuid", "text", "jsonb", "bigint", "jsonb"]


def test_every_function_can_be_called_by_names(core):
    call = core.row
    call("select * from pgflow.create_flow(flow_slug => 'f', timeout => 9, base_delay => 0)")
    call("select * from pgflow.add_step(step_slug => 'a', flow_slug => 'f', timeout => 8)")
    call("select * from pgflow.add_step(deps_slugs => '{a}', step_slug => 'b', flow_slug => 'f')")
    run = call("select * from pgflow.start_flow(input => '1', flow_slug => 'f')").run_id
    assert (
        call(
            """
        select * from pgflow.poll_for_tasks(
          qty => 1, vt => 1, queue_name => 'f', poll_interval_ms => 1, max_poll_seconds => 0)
        """
        ).run_id
        == run
    )
    named = "run_id => %s, step_slug => 'a', task_index => 0"
    call(f"select * from pgflow.fail_task(error_message => 'no', {named})", run)
    call(f"select * from pgflow.complete_task(output => '1', {named})", run)
    call("select pgflow.start_ready_steps(run_id => %s)", run)
    call("select pgflow.maybe_complete_run(run_id => %s)", run)
    assert call("select pgflow.is_valid_slug(slug => 'a')")[0]
    assert (
        call("select pgflow.calculate_retry_delay(attempts_count => 1, base_delay => 5)")[0] == 10
    )
    assert core.tasks(run) == {"a": "completed", "b": "queued"}
