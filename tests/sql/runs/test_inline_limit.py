"""What plain SQL callers store stands in rows only as far as a record of all of it has room."""

import pytest

from pgflow_events import Flow
from pgflow_events.flow.inline import LIMIT, thresholds

HUGE = 2**31 - 1
MIB = 1024 * 1024


def test_the_rule_is_that_of_the_workers(core):
    flow = Flow("f", blob_threshold=HUGE)
    steps = {}
    for spec in ("a", "b", "c<a,b", "d<a", "e<a,b,c", "g", "h<g"):
        slug, _, deps = spec.partition("<")
        nodes = [steps[dep] for dep in deps.split(",") if dep]
        steps[slug] = flow.step(*nodes, slug=slug)(lambda *_: None)
    core.flow("a", "b", "c<a,b", "d<a", "e<a,b,c", "g", "h<g")
    found = core.rows(
        "select step_slug, pgflow.inline_limit(flow_slug, step_slug) from pgflow.steps"
    )
    assert dict(found) == thresholds(flow)


@pytest.mark.parametrize("spare", [-2, -1], ids=["fits", "too long"])
def test_an_output_beyond_the_limit_becomes_a_blob_whatever_the_threshold(core, spare):
    core.flow("a", "b", "c<a,b")
    core.db.execute("update pgflow.flows set opt_blob_threshold = 2147483647")
    run_id = core.start()
    core.rows(
        "select pgflow.complete_task(%s, 'a', 0, to_jsonb(repeat('x', %s)))",
        run_id,
        LIMIT // 2 + spare,
    )
    stored = core.value(
        "select output_blob_id is not null from pgflow.step_tasks where step_slug = 'a'"
    )
    assert stored == (spare == -1)


def test_an_input_beyond_the_limit_becomes_a_blob_whatever_the_threshold(core):
    core.flow("a")
    core.db.execute("update pgflow.flows set opt_blob_threshold = 2147483647")
    runs = core.rows(
        "select input_blob_id is not null as is_blob from pgflow.start_flows('f', array["
        "to_jsonb(repeat('x', %s)), to_jsonb(repeat('x', %s))])",
        LIMIT - 2,
        LIMIT - 1,
    )
    assert [run.is_blob for run in runs] == [False, True]


@pytest.mark.parametrize("element", ["1", "5e-324", '"\\u0001"', "null", "{}", "1.5"])
def test_no_json_grows_beyond_what_the_limit_allows_for(core, element):
    json = f"[{','.join([element] * 10_000)}]"
    as_jsonb, as_text = core.row(
        "select pg_column_size(j), octet_length(j::text) from (select %s::jsonb as j) v", json
    )
    # The input of the run and the outputs, each at its limit.
    assert 2 * LIMIT * as_jsonb / len(json) < 255 * MIB
    assert 2 * LIMIT * as_text / len(json) < 1000 * MIB
