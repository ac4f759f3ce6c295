"""Maps: a task for each element of a list."""

import psycopg
import pytest
from psycopg.types.json import Jsonb

MAP = "select pgflow.add_step('f', %s, %s::text[], step_type => 'map')"


@pytest.fixture
def scrape(core):
    """A flow of a list, a map over it, and a step that gets all results."""
    core.flow("links")
    core.rows(MAP, "page", ["links"])
    core.step("index<page")
    return core


def complete(core, run_id, step_slug, index, output):
    query = "select * from pgflow.complete_task(%s, %s, %s, %s)"
    return core.row(query, run_id, step_slug, index, Jsonb(output))


def state(core, run_id, step_slug):
    query = "select * from pgflow.step_states where run_id = %s and step_slug = %s"
    return core.row(query, run_id, step_slug)


def test_each_element_is_a_task_and_the_outputs_come_together_in_their_order(scrape):
    run_id = scrape.start("https://example.com")
    assert [state(scrape, run_id, s).initial_tasks for s in ("links", "page", "index")] == [
        1,
        None,
        1,
    ]
    scrape.poll()
    scrape.complete(run_id, "links", ["a", {"b": 1}, None])
    tasks = scrape.poll()
    assert [(t.step_slug, t.task_index) for t in tasks] == [("page", 0), ("page", 1), ("page", 2)]
    assert [t.input["links.each"] for t in tasks] == ["a", {"b": 1}, None]
    assert all(t.input["run"] == "https://example.com" and "links" not in t.input for t in tasks)
    for index in (2, 0, 1):
        complete(scrape, run_id, "page", index, f"page {index}")
    assert state(scrape, run_id, "page").output == ["page 0", "page 1", "page 2"]
    (index,) = scrape.poll()
    assert index.input["page"] == ["page 0", "page 1", "page 2"]
    scrape.complete(run_id, "index", 3)
    run = scrape.run(run_id)
    assert (run.status, run.output, run.remaining_steps) == ("completed", {"index": 3}, 0)
    assert not scrape.queued()


@pytest.mark.parametrize("values", [[], ["only"]])
def test_a_map_over_few_elements_gives_a_list(scrape, values):
    run_id = scrape.start()
    scrape.poll()
    scrape.complete(run_id, "links", values)
    for task in scrape.poll() if values else []:
        complete(scrape, run_id, "page", task.task_index, "page")
    assert state(scrape, run_id, "page").output == ["page" for _ in values]
    (index,) = scrape.poll()
    assert index.input["page"] == ["page" for _ in values]


def test_a_root_map_goes_over_the_input(core):
    core.flow()
    core.rows(MAP, "page", [])
    run_id = core.start(["a", "b"])
    assert [t.input for t in core.poll()] == [
        {"run": ["a", "b"], "run.each": "a"},
        {"run": ["a", "b"], "run.each": "b"},
    ]
    complete(core, run_id, "page", 1, 2)
    complete(core, run_id, "page", 0, 1)
    assert core.run(run_id).output == {"page": [1, 2]}


@pytest.mark.parametrize(
    ("given", "said"),
    [(None, "input is not an array (got null)"), ({}, "input is not an array (got object)")],
)
def test_a_root_map_refuses_an_input_that_is_no_list(core, given, said):
    core.flow()
    core.rows(MAP, "page", [])
    with pytest.raises(psycopg.errors.RaiseException) as raised:
        core.start(given)
    assert str(raised.value).split("\n")[0] == f"Flow f has root map steps but {said}"


def test_a_map_of_a_map_goes_over_its_outputs(core):
    core.flow("links")
    core.rows(MAP, "page", ["links"])
    core.rows(MAP, "words", ["page"])
    run_id = core.start()
    core.poll()
    core.complete(run_id, "links", ["a", "b"])
    for task in core.poll():
        complete(core, run_id, "page", task.task_index, task.input["links.each"] * 2)
    for task in core.poll():
        complete(core, run_id, "words", task.task_index, task.input["page.each"] + "!")
    assert core.run(run_id).output == {"words": ["aa!", "bb!"]}


def test_a_chain_of_maps_over_nothing_ends_at_once(core):
    core.flow("links")
    for number in range(60):
        core.rows(MAP, f"m{number}", [f"m{number - 1}" if number else "links"])
    run_id = core.start()
    core.poll()
    core.complete(run_id, "links", [])
    assert core.run(run_id).output == {"m59": []}


def test_a_long_map_is_queued_piece_by_piece(scrape):
    run_id = scrape.start()
    scrape.poll()
    scrape.complete(run_id, "links", list(range(2500)))
    assert len(scrape.queued()) == 1000
    seen = []
    while tasks := scrape.poll(250):
        if tasks[0].step_slug == "index":
            break
        assert len(scrape.queued()) <= 1000
        for task in tasks:
            seen.append(task.input["links.each"])
            complete(scrape, run_id, "page", task.task_index, -task.input["links.each"])
    assert seen == list(range(2500))
    assert tasks[0].blobs_refs.keys() == {"page"}
    blob = scrape.row(
        "select * from pgflow.output_blobs where id = %s", tasks[0].blobs_refs["page"]
    )
    assert (blob.kind, blob.codec, blob.task_index, len(blob.elements)) == (
        "list",
        "none",
        -1,
        2500,
    )
    assert bytes(blob.content).decode() == f"[{','.join(str(-n) for n in range(2500))}]"


def test_an_output_that_is_no_list_fails_the_run_where_a_map_follows(scrape):
    run_id = scrape.start()
    scrape.poll()
    scrape.complete(run_id, "links", "no list")
    assert scrape.run(run_id).status == "failed"
    said = state(scrape, run_id, "links").error_message
    assert said == (
        "[TYPE_VIOLATION] Map step page expects array input but dependency links produced string"
    )


def test_a_lost_element_fails_the_run_unless_the_map_tolerates_it(core):
    core.flow("links", max_attempts=1)
    core.rows("select pgflow.add_step('f', 'page', '{links}', step_type => 'map', tolerate => 0.5)")
    run_id = core.start()
    core.poll()
    core.complete(run_id, "links", ["a", "b"])
    core.poll()
    core.row("select * from pgflow.fail_task(%s, 'page', 1, 'boom')", run_id)
    assert state(core, run_id, "page").lost_tasks == 1
    complete(core, run_id, "page", 0, "A")
    assert core.run(run_id).output == {"page": ["A", None]}


def test_a_step_that_failed_is_skipped_where_that_is_what_follows(core):
    core.flow("a", "z<a", max_attempts=1)
    core.rows("select pgflow.add_step('f', 'b', '{a}', when_exhausted => 'skip')")
    core.rows("select pgflow.add_step('f', 'c', '{b}')")
    run_id = core.start()
    core.poll()
    core.complete(run_id, "a", 1)
    core.poll()
    core.fail(run_id, "b")
    b = state(core, run_id, "b")
    assert (b.status, b.skip_reason, b.error_message) == ("skipped", "handler_failed", "boom")
    (c,) = [t for t in core.poll() if t.step_slug == "c"]
    assert "b" not in c.input
    core.complete(run_id, "z", 2)
    core.complete(run_id, "c", 3)
    assert core.run(run_id).output == {"z": 2, "c": 3}
    assert not core.queued()


@pytest.mark.parametrize(
    ("pattern", "status"), [({"a": {"ok": True}}, "started"), ({"a": {"ok": False}}, "skipped")]
)
def test_a_step_runs_only_if_its_condition_is_met(core, pattern, status):
    core.flow("a")
    core.rows(
        "select pgflow.add_step('f', 'b', '{a}', required_input_pattern => %s)", Jsonb(pattern)
    )
    run_id = core.start()
    core.poll()
    core.complete(run_id, "a", {"ok": True, "n": 1})
    assert core.states(run_id)["b"] == status
    assert core.run(run_id).status == ("started" if status == "started" else "completed")


def test_a_step_with_a_start_delay_begins_later(core):
    core.flow()
    core.rows("select pgflow.add_step('f', 'a', start_delay => 30)")
    run_id = core.start()
    assert core.states(run_id) == {"a": "started"}
    (message,) = core.queued()
    assert 29 < core.hidden_for(message) <= 30
