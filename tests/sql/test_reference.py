"""docs/reference/sql.md: its examples run, and the errors it lists are raised."""

import shutil
from uuid import uuid4

import psycopg
import pytest

from ..conftest import absent
from ..parts.places import REFERENCE
from ..parts.reference import sql_page
from ..parts.reference.kinds import FUNCTIONS, kind

UNKNOWN = f"'{uuid4()}'"
FLOW = '"max_attempts": 3, "base_delay": 5, "timeout": 60, "blob_threshold": 8192'


def definition(slug: str, steps: str = "", options: str = FLOW) -> str:
    """Define a flow whose slug and steps are written as JSON."""
    return (
        f"""select pgflow.define_flow('{{"flow_slug": {slug}, {options}, "steps": [{steps}]}}')"""
    )


MAP_OF_TWO = (
    '{"step_slug": "a", "deps_slugs": []}, {"step_slug": "b", "deps_slugs": []},'
    ' {"step_slug": "c", "deps_slugs": ["a", "b"], "step_type": "map"}'
)


def compiled(slug: str, steps: str = "") -> str:
    """Compile a flow whose steps are written as JSON."""
    return f"""select pgflow.ensure_flow_compiled('{slug}', '{{"steps": [{steps}]}}')"""


# What raises each error that the page lists, where there is a flow f, a run of it, an unfinished
# blob, and a queue of another application.
RAISING = {
    ("create_flow", "23514"): "select pgflow.create_flow('g', timeout => 0)",
    ("create_flow", "42622"): "select pgflow.create_flow(repeat('f', 48))",
    ("create_flow", "23505"): "select pgflow.create_flow('F')",
    ("create_flow", "42P07"): "select pgflow.create_flow('theirs')",
    ("add_step", "23503"): "select pgflow.add_step('f', 'b', array['nowhere'])",
    ("add_step", "23514"): "select pgflow.add_step('f', 'b', array['b'])",
    ("add_step", "P0001"): "select pgflow.add_step('f', 'b', '{a,c}', step_type => 'map')",
    ("start_flow", "23505"): "select pgflow.start_flow('f', '1', run_id) from pgflow.runs",
    ("start_flows", "P0001"): "select pgflow.add_step('f', 'b', '{}', step_type => 'map');"
    " select pgflow.start_flows('f', '{1}')",
    ("_cascade_force_skip_steps", "P0001"): "select pgflow._cascade_force_skip_steps("
    "gen_random_uuid(), 'a', 'condition_unmet')",
    ("define_flow", "23502"): definition('"g"', options='"timeout": 60'),
    ("define_flow", "23503"): definition('"g"', '{"step_slug": "a", "deps_slugs": ["b"]}'),
    ("define_flow", "23514"): definition('"2nd"'),
    ("define_flow", "P0001"): definition('"g"', MAP_OF_TWO),
    ("define_flow", "42622"): definition(f'"{"f" * 48}"'),
    ("define_flow", "23505"): definition('"F"'),
    ("define_flow", "42P07"): definition('"theirs"'),
    ("start_flow", "P0002"): "select pgflow.start_flow('nowhere', '1')",
    ("start_flow", "23502"): "select pgflow.start_flow('f', null)",
    ("start_flows", "P0002"): "select pgflow.start_flows('nowhere', '{1}')",
    (
        "start_flows",
        "23505",
    ): "select pgflow.start_flows('f', '{1}', array(select run_id from pgflow.runs))",
    (
        "start_flows",
        "22023",
    ): f"select pgflow.start_flows('f', '{{1}}', null, array[{UNKNOWN}::uuid])",
    ("start_flows", "23502"): "select pgflow.start_flows('f', array[null]::jsonb[])",
    ("start_flow_with_states", "P0002"): "select pgflow.start_flow_with_states('nowhere', '1')",
    ("start_flow_with_states", "23502"): "select pgflow.start_flow_with_states('f', null)",
    (
        "start_flow_with_states",
        "23505",
    ): "select pgflow.start_flow_with_states('f', '1', run_id) from pgflow.runs",
    ("set_vt_batch", "P0001"): "select pgflow.set_vt_batch('f', '{1,2}', '{1}')",
    ("set_vt_batch", "42P01"): "select pgflow.set_vt_batch('nowhere', '{1}', '{1}')",
    ("ensure_flow_compiled", "22023"): "select pgflow.ensure_flow_compiled('g', '{}')",
    ("ensure_flow_compiled", "23503"): compiled("g", '{"slug": "a", "dependencies": ["b"]}'),
    ("ensure_flow_compiled", "23514"): compiled("2nd"),
    ("ensure_flow_compiled", "42P07"): compiled("theirs"),
    (
        "setup_requeue_stalled_tasks_cron",
        "0A000",
    ): "select pgflow.setup_requeue_stalled_tasks_cron()",
    ("poll_for_tasks", "P0002"): "select pgflow.poll_for_tasks('nowhere', 0, 1)",
    ("complete_task", "P0002"): f"select pgflow.complete_task({UNKNOWN}, 'a', 0, '1')",
    ("fail_task", "P0002"): f"select pgflow.fail_task({UNKNOWN}, 'a', 0, 'boom')",
    ("blob_json", "P0002"): f"select pgflow.blob_json({UNKNOWN})",
    ("blob_json", "0A000"): "select pgflow.blob_json(id) from pgflow.output_blobs",
}


def test_the_page_is_what_the_generator_makes_and_its_examples_run(database):
    if not shutil.which("psql"):
        absent("15")
    committed = (REFERENCE / "sql.md").read_text("utf-8")
    page = sql_page.page(database)
    assert committed == page, "sql/functions has changed: run `make reference`"


def test_the_page_has_every_public_function():
    public = {name for name in FUNCTIONS if kind(name).startswith("Public")}
    assert sorted(sql_page.ORDER) == sorted(public)
    assert all(map(sql_page.example, public))


def test_the_name_of_each_error_is_that_of_its_code():
    for name in sql_page.ORDER:
        for state, condition, _ in sql_page.raised(name):
            error = psycopg.errors.lookup(state).__name__
            assert error.lower() == condition.replace("_", "")


def test_each_error_of_the_page_is_tried():
    listed = {(name, state) for name in sql_page.ORDER for state, *_ in sql_page.raised(name)}
    assert listed == RAISING.keys()


@pytest.mark.parametrize(("name", "state"), RAISING)
def test_a_function_raises_what_the_page_says(core, name, state):
    core.db.execute("create table pgmq.q_theirs (); create table pgmq.a_theirs ()")
    core.flow("a")
    run_id = core.start(1)
    core.open(run_id, "a", attempt=0)
    with pytest.raises(psycopg.errors.lookup(state)):
        core.db.execute(RAISING[name, state])
