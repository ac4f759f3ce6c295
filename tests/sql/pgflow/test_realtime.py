"""Events of runs and steps: which are sent, in which order, and that each is sent once."""

from dataclasses import dataclass
from typing import Any

import pytest
from psycopg.types.json import Jsonb

from ...parts.models.core import Core, Outcome
from ...parts.realtime import SENT, STAND_IN, TRIGGERS


@dataclass(frozen=True)
class Realtime:
    """What was sent since the last time somebody asked."""

    core: Core

    def payloads(self) -> list[dict[str, Any]]:
        found = self.core.rows(SENT)
        self.core.db.execute("truncate realtime.messages")
        assert sorted(row.inserted_at for row in found) == [row.inserted_at for row in found]
        assert not any(row.private for row in found)
        assert all(row.topic == f"pgflow:run:{row.payload['run_id']}" for row in found)
        for row in found:
            kind, _, change = row.payload["event_type"].partition(":")
            slug = row.payload.get("step_slug")
            assert row.event == (f"step:{slug}:{change}" if kind == "step" else f"run:{change}")
        return [row.payload for row in found]

    def events(self) -> list[str]:
        """For example "run started", "a completed"."""
        return [
            f"{p.get('step_slug', 'run')} {p['event_type'].partition(':')[2]}"
            for p in self.payloads()
        ]


@pytest.fixture
def realtime(core) -> Realtime:
    core.db.execute(STAND_IN)
    core.rows("select pgflow.connect_realtime()")
    return Realtime(core)


def add(core, slug, *deps, **options):
    names = "".join(f", {name} => %s" for name in options)
    values = [Jsonb(v) if isinstance(v, dict) else v for v in options.values()]
    core.rows(f"select pgflow.add_step('f', %s, %s{names})", slug, list(deps), *values)


def test_without_realtime_there_is_no_trigger_and_nothing_is_called(core):
    core.flow("a")
    core.rows("select pgflow.connect_realtime()")
    assert core.rows(TRIGGERS) == []
    core.complete(core.start(), "a")


def test_a_flow_that_is_defined_later_brings_the_triggers(core):
    core.flow("a")
    core.db.execute(STAND_IN)
    core.start()
    assert core.rows(SENT) == []
    core.flow("b", slug="g")
    core.start()
    assert len(core.rows(SENT)) == 2


def test_the_triggers_are_made_once(core, realtime):
    core.rows("select pgflow.connect_realtime()")
    core.flow("a")
    core.start()
    assert realtime.events() == ["run started", "a started"]


def test_a_run_tells_of_each_transition_once_and_in_order(core, realtime):
    core.flow("zeta", "alpha", "join<zeta,alpha", "end<join")
    run = core.start({"x": 1})
    assert realtime.events() == ["run started", "zeta started", "alpha started"]
    core.complete(run, "alpha", 1)
    assert realtime.events() == ["alpha completed"]
    core.complete(run, "zeta", 1)
    assert realtime.events() == ["zeta completed", "join started"]
    core.complete(run, "join", 1)
    core.complete(run, "end", 1)
    assert realtime.events() == [
        "join completed",
        "end started",
        "end completed",
        "run completed",
    ]


def test_the_payloads_say_what_happened(core, realtime):
    core.flow("a", "b<a")
    run = core.start({"x": 1})
    core.complete(run, "a", "A")
    core.complete(run, "b", {"b": None})
    row = core.row("select to_jsonb(r) as r from pgflow.runs r").r
    states = dict(core.rows("select step_slug, to_jsonb(s) from pgflow.step_states s"))
    run_id = {"run_id": str(run), "flow_slug": "f"}
    started, a, a_done, b, b_done, done = realtime.payloads()
    assert started == run_id | {
        "event_type": "run:started",
        "status": "started",
        "input": {"x": 1},
        "remaining_steps": 2,
        "started_at": row["started_at"],
    }
    assert a == run_id | {
        "event_type": "step:started",
        "step_slug": "a",
        "status": "started",
        "started_at": states["a"]["started_at"],
        "remaining_tasks": 1,
        "remaining_deps": 0,
    }
    assert b == a | {"step_slug": "b", "started_at": states["b"]["started_at"]}
    assert a_done == run_id | {
        "event_type": "step:completed",
        "step_slug": "a",
        "status": "completed",
        "output": "A",
        "completed_at": states["a"]["completed_at"],
    }
    assert b_done["output"] == {"b": None}
    assert done == run_id | {
        "event_type": "run:completed",
        "status": "completed",
        "output": {"b": {"b": None}},
        "completed_at": row["completed_at"],
    }


def test_an_output_of_null_is_in_its_event(core, realtime):
    core.flow("a")
    run = core.start()
    core.rows("select pgflow.complete_task(%s, 'a', 0, null)", run)
    *_, step, ended = realtime.payloads()
    assert step["output"] is None
    assert ended["output"] == {"a": None}


def test_large_values_are_told_by_their_blobs(core, realtime):
    core.flow("a", "b<a")
    core.db.execute("update pgflow.flows set opt_blob_threshold = 10")
    run = core.start("x" * 100)
    core.complete(run, "a", "y" * 98)
    core.complete(run, "b", "short")
    started, _, a, _, b, ended = realtime.payloads()
    task = core.task(run, "a")
    assert started["input"] == {"blob": str(core.run(run).input_blob_id), "bytes": 102}
    assert a["output"] == {"blob": str(task.output_blob_id), "bytes": 100}
    assert b["output"] == "short"
    assert ended["output"] == {"b": "short"}


def test_a_run_whose_output_is_a_blob_tells_its_size(core, realtime):
    core.flow("a", "b")
    core.db.execute("update pgflow.flows set opt_blob_threshold = 10")
    run = core.start()
    core.complete(run, "a", "y" * 98)
    core.complete(run, "b", 1)
    blob = str(core.task(run, "a").output_blob_id)
    assert realtime.payloads()[-1]["output"] == {"a": {"blob": blob, "bytes": 100}, "b": 1}


def test_what_a_worker_completes_is_told_as_well(core, realtime):
    core.flow("a", "b<a")
    first, second = core.start_many(2)
    realtime.events()
    core.claim()
    core.settle(Outcome(first, "a", output="A"), Outcome(second, "a", output="B"))
    found = [(p["run_id"], p["event_type"], p.get("output")) for p in realtime.payloads()]
    for run, output in ((first, "A"), (second, "B")):
        assert [event[1:] for event in found if event[0] == str(run)] == [
            ("step:completed", output),
            ("step:started", None),
        ]
    core.settle(Outcome(first, "a", output="again"))
    assert realtime.events() == []


def test_a_failure_for_good_tells_of_the_step_and_then_of_the_run(core, realtime):
    core.flow("a", "b", "c<a", max_attempts=2, base_delay=0)
    run = core.start()
    realtime.events()
    core.poll()
    core.fail(run, "a", "first")
    assert realtime.events() == []
    core.poll()
    core.fail(run, "a", "second")
    step, ended = realtime.payloads()
    assert (step["event_type"], step["step_slug"]) == ("step:failed", "a")
    assert (step["status"], step["error_message"]) == ("failed", "second")
    assert step["failed_at"]
    assert (ended["event_type"], ended["status"]) == ("run:failed", "failed")
    assert (ended["error_message"], bool(ended["failed_at"])) == ("second", True)
    core.fail(run, "a", "third")
    core.complete(run, "b", 1)
    assert realtime.events() == []


def test_a_wrong_type_tells_of_the_run_and_then_of_the_step(core, realtime):
    core.flow("a")
    add(core, "each", "a", step_type="map")
    run = core.start()
    realtime.events()
    core.complete(run, "a", {"no": "list"})
    ended, step = realtime.payloads()
    assert ended["event_type"] == "run:failed"
    assert "error_message" not in ended
    assert step["event_type"] == "step:failed"
    assert step["error_message"].startswith("[TYPE_VIOLATION] Map step each expects")


def test_a_map_is_completed_with_its_output(core, realtime):
    core.flow("a")
    add(core, "each", "a", step_type="map")
    add(core, "b", "each")
    run = core.start()
    core.complete(run, "a", [1, 2])
    realtime.events()
    complete = "select pgflow.complete_task(%s, 'each', %s, %s)"
    core.rows(complete, run, 1, Jsonb("second"))
    assert realtime.events() == []
    core.rows(complete, run, 0, Jsonb("first"))
    step, started = realtime.payloads()
    assert (step["event_type"], step["output"]) == ("step:completed", ["first", "second"])
    assert started["step_slug"] == "b"
    core.complete(run, "b", 1)
    core.rows(complete, run, 0, Jsonb("again"))
    assert realtime.events() == ["b completed", "run completed"]


def test_a_map_tells_how_many_tasks_it_has(core, realtime):
    core.flow()
    add(core, "each", step_type="map")
    core.start([1, 2, 3])
    _, started = realtime.payloads()
    assert (started["event_type"], started["remaining_tasks"]) == ("step:started", 3)


def test_maps_without_elements_are_completed_before_what_follows(core, realtime):
    core.flow()
    add(core, "first", step_type="map")
    add(core, "second", "first", step_type="map")
    add(core, "end", "second")
    run = core.start([])
    payloads = realtime.payloads()
    assert [p.get("step_slug") for p in payloads] == [None, "first", "second", "end"]
    assert [p["status"] for p in payloads] == ["started", "completed", "completed", "started"]
    for payload in payloads[1:3]:
        assert payload["output"] == []
        assert (payload["remaining_tasks"], payload["remaining_deps"]) == (0, 0)
        assert payload["started_at"] == payload["completed_at"]
    core.complete(run, "end", 1)
    assert realtime.events() == ["end completed", "run completed"]


def test_skipped_steps_tell_their_reasons(core, realtime):
    core.flow("a")
    add(core, "never", "a", required_input_pattern={"a": {"go": True}}, when_unmet="skip-cascade")
    add(core, "below", "never")
    add(core, "end", "a")
    run = core.start()
    realtime.events()
    core.complete(run, "a", {"go": False})
    events = realtime.events()
    assert events[0] == "a completed"
    assert sorted(events[1:]) == ["below skipped", "end started", "never skipped"]
    assert events.index("never skipped") < events.index("below skipped")
    core.complete(run, "end", 1)
    assert realtime.events() == ["end completed", "run completed"]


def test_a_skipped_step_says_when_and_why(core, realtime):
    core.flow()
    add(core, "a", required_input_pattern={"go": True})
    core.start({})
    started, skipped, ended = realtime.payloads()
    assert [started["status"], ended["status"]] == ["started", "completed"]
    assert (skipped["event_type"], skipped["skip_reason"]) == ("step:skipped", "condition_unmet")
    assert skipped["skipped_at"]
    assert skipped["flow_slug"] == "f"


def test_an_unmet_condition_that_fails_tells_of_the_step_and_then_of_the_run(core, realtime):
    core.flow()
    add(core, "a", required_input_pattern={"go": True}, when_unmet="fail")
    core.start({})
    _, step, ended = realtime.payloads()
    assert (step["event_type"], step["error_message"]) == ("step:failed", "Condition not met")
    assert (ended["event_type"], ended["error_message"]) == ("run:failed", "Condition not met")


def test_a_step_that_is_skipped_after_its_last_attempt_tells_its_error(core, realtime):
    core.flow(max_attempts=1)
    add(core, "a", when_exhausted="skip")
    add(core, "b", "a")
    run = core.start()
    realtime.events()
    core.poll()
    core.fail(run, "a", "boom")
    skipped, started = realtime.payloads()
    assert (skipped["event_type"], skipped["skip_reason"]) == ("step:skipped", "handler_failed")
    assert skipped["error_message"] == "boom"
    assert started["step_slug"] == "b"
    core.fail(run, "a", "again")
    assert realtime.events() == []


def test_a_run_goes_on_where_realtime_is_gone(core, realtime):
    core.flow("a")
    core.db.execute("drop schema realtime cascade")
    run = core.start()
    core.complete(run, "a", 1)
    assert core.run(run).status == "completed"
