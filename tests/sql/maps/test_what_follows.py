"""What follows from steps that were skipped, from empty maps, and from elements that failed."""

import pytest
from psycopg.types.json import Jsonb

from ...parts.models.core import Outcome

COMPLETE = "select from pgflow.complete_task(%s, 'page', %s, %s)"


def step(core, slug, *deps, **options):
    """Add a step with any options."""
    named = "".join(f", {name} => %s" for name in options)
    given = [Jsonb(v) if isinstance(v, dict) else v for v in options.values()]
    core.rows(f"select pgflow.add_step('f', %s, %s::text[]{named})", slug, list(deps), *given)


def lose(core, *elements):
    """Fail these for good, in one call: each a run, a step and an index."""
    query = """
      select from pgflow.complete_tasks(
        %s::uuid[], %s::text[], %s::integer[], %s::integer[], %s::jsonb[], %s::uuid[], %s::text[],
        %s::boolean[], '{}', 0, null, null
      )
    """
    runs, slugs, indexes = map(list, zip(*elements, strict=True))
    n = len(runs)
    core.rows(
        query, runs, slugs, indexes, [None] * n, [None] * n, [None] * n, ["boom"] * n, [True] * n
    )


def test_a_map_over_the_output_of_a_skipped_step_is_empty_and_the_run_goes_on(core):
    core.flow()
    step(core, "links", required_input_pattern={"site": "known"})
    step(core, "page", "links", step_type="map")
    step(core, "index", "page")
    run_id = core.start({"site": "unknown"})
    assert core.states(run_id) == {"links": "skipped", "page": "completed", "index": "started"}
    assert core.poll()[0].input == {"run": {"site": "unknown"}, "page": []}


def test_a_map_over_an_empty_map_is_skipped_if_its_condition_is_not_met(core):
    core.flow()
    step(core, "links", step_type="map")
    step(core, "page", "links", step_type="map", required_input_pattern={"links": ["a"]})
    step(core, "text", "page", step_type="map")
    run_id = core.start([])
    assert core.states(run_id) == {"links": "completed", "page": "skipped", "text": "completed"}


def test_a_run_that_fails_leaves_those_alone_that_lose_elements_in_the_same_call(core):
    core.flow()
    step(core, "page", step_type="map", tolerate="1")
    step(core, "save")
    failing, going_on = (core.start(["a", "b"]) for _ in range(2))
    core.poll()
    lose(core, (failing, "save", 0), (going_on, "page", 0))
    assert core.states(failing) == {"page": "cancelled", "save": "failed"}
    assert core.states(going_on) == {"page": "started", "save": "started"}


@pytest.mark.parametrize(("share", "tolerated"), [("0.29", 29), ("0.7", 70), ("0.07", 7)])
def test_a_share_of_lost_elements_is_counted_as_it_is_written(core, share, tolerated):
    core.flow()
    step(core, "page", step_type="map", tolerate=share)
    run_id = core.start(list(range(100)))
    core.poll(100)
    lose(core, *[(run_id, "page", index) for index in range(tolerated)])
    assert core.states(run_id) == {"page": "started"}
    lose(core, (run_id, "page", 99))
    assert core.states(run_id) == {"page": "failed"}


def test_the_list_of_a_map_s_outputs_is_a_blob_that_its_run_names(core):
    core.flow()
    step(core, "page", step_type="map")
    step(core, "index", "page")
    run_id = core.start([1, 2])
    core.poll()
    for index in (1, 0):
        core.rows(COMPLETE, run_id, index, Jsonb("long " * 2000))
    assert len(core.blobs()) == 3
    assert core.rows("select * from pgflow.blob_faults()") == []


@pytest.mark.parametrize("exhausted", ["fail", "skip", "skip-cascade"])
def test_what_was_half_written_for_a_skipped_map_is_deleted_and_nothing_more_is_taken(
    core, exhausted
):
    core.flow()
    step(core, "page", step_type="map", when_exhausted=exhausted)
    run_id = core.start([1, 2])
    core.poll()
    blob = core.open(run_id, "page")
    assert core.write(blob, 0)
    lose(core, (run_id, "page", 1))
    assert not core.write(blob, 1)
    assert core.open(run_id, "page") is None
    late = core.settle(Outcome(run_id, "page", 1, blob=core.blob(run_id, "page")))
    assert (late.refused, core.blobs(), core.chunks()) == ([1], set(), [])
