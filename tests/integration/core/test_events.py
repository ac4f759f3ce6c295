"""Whatever comes when, Realtime gets the event of each change once, and in order."""

from collections import defaultdict
from typing import Any
from uuid import UUID

import pytest
from hypothesis.stateful import invariant, run_state_machine_as_test

from ...parts.models.core import Core
from ...parts.models.general_flows import Shape
from ...parts.models.sessions import sessions
from ...parts.realtime import SENT, STAND_IN
from .test_general_model import SETTINGS, SLUG, GeneralMachine, make_windows_small

STATES = """
select s.*, pgflow.event_value(v.value, v.blob_id) as value from pgflow.step_states s
cross join lateral pgflow.step_value(s.run_id, s.step_slug) v
"""
RUNS = """
select run_id, status, pgflow.event_outputs(output, output_blobs_refs) as output from pgflow.runs
"""


class ToldMachine(GeneralMachine):
    """Compares after each call what was sent with what has become of the runs."""

    def teardown(self) -> None:
        super().teardown()
        self.observer.db.execute("truncate realtime.messages")

    @invariant()
    def each_change_is_told_once_and_in_order(self) -> None:
        told: dict[str, list[tuple[str, str]]] = defaultdict(list)
        outputs: dict[tuple[str, str], Any] = {}
        for row in self.observer.rows(SENT):
            run_id, kind = row.payload["run_id"], row.payload["event_type"].partition(":")[0]
            name = row.payload.get("step_slug", kind)
            told[run_id].append((name, row.payload["status"]))
            if row.payload["status"] == "completed":
                outputs[run_id, name] = row.payload["output"]
        for run in self.observer.rows(RUNS):
            events = told[str(run.run_id)]
            assert events[0] == ("run", "started")
            ends = [] if run.status == "started" else [run.status]
            assert changes(events, "run") == ["started", *ends]
            if run.status == "completed":
                assert events[-1] == ("run", "completed")
                assert outputs[str(run.run_id), "run"] == run.output
            self.in_order(run.run_id, events)
        for state in self.observer.rows(STATES):
            assert changes(told[str(state.run_id)], state.step_slug) in expected(state), state
            if state.status == "completed" and state.value is not None:
                assert outputs[str(state.run_id), state.step_slug] == state.value, state

    def in_order(self, run_id: UUID, events: list[tuple[str, str]]) -> None:
        """A step starts after all before it have ended; what is skipped goes by its place."""
        shape: Shape = self.shape
        for step in shape.steps:
            if (step.slug, "started") in events:
                before = events[: events.index((step.slug, "started"))]
                ended = {slug for slug, change in before if change in {"completed", "skipped"}}
                assert ended >= {*step.deps}, (run_id, events)


def changes(events: list[tuple[str, str]], name: str) -> list[str]:
    return [change for slug, change in events if slug == name]


def expected(state: Any) -> list[list[str]]:
    """What may have been told of a step that is in this state."""
    began = ["started"] if state.started_at and state.initial_tasks != 0 else []
    match state.status:
        case "created":
            return [[]]
        case "started" | "cancelled":
            return [["started"]]
        case "failed" if (state.error_message or "").startswith("[TYPE_VIOLATION]"):
            # What a worker completes is completed before somebody looks whether it is a list.
            return [["started", "failed"], ["started", "completed", "failed"]]
        case "completed" if state.value is None:
            # A map whose run failed by the same call gets no output, and its event waits for one.
            return [[*began, "completed"], began]
        case ended:
            return [[*began, ended]]


@pytest.mark.timeout(600)  # to find the shortest way to a failure takes long
def test_each_change_is_told_once_and_in_order(database):
    with sessions(database, 3) as (one, other, observer):
        observer.db.execute(STAND_IN)
        observer.flow(slug=SLUG)
        make_windows_small(observer)
        cores = [Core(core.db, UUID(int=n)) for n, core in enumerate((one, other), 1)]
        run_state_machine_as_test(lambda: ToldMachine([*cores, observer]), settings=SETTINGS)
