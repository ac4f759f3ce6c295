"""No thresholds let the inputs of a task, or the outputs of a run, be more than jsonb can hold."""

from hypothesis import given
from hypothesis import strategies as st

from pgflow_events import Flow
from pgflow_events.flow.inline import LIMIT, input_threshold, thresholds

HUGE = 2**31 - 1


def some_flow(deps: list[set[int]], own: list[int | None]) -> Flow:
    """A flow whose n-th step waits for the steps before it that the n-th set names."""
    flow = Flow("flow", blob_threshold=HUGE)
    steps = []
    for n, (places, threshold) in enumerate(zip(deps, own, strict=False)):
        nodes = [steps[place] for place in sorted(places) if place < n]
        step = flow.step(*nodes, slug=f"step{n}", blob_threshold=threshold)(lambda *_: None)
        steps.append(step)
    return flow


@given(
    st.lists(st.sets(st.integers(0, 12)), min_size=1, max_size=14),
    st.lists(st.none() | st.sampled_from([0, 8192, HUGE]), min_size=14, max_size=14),
)
def test_what_stands_together_has_room_whatever_the_thresholds(deps, own):
    flow = some_flow(deps, own)
    limits = thresholds(flow)
    for step in flow.steps.values():
        assert sum(limits[slug] for slug in step.dependencies) <= LIMIT
    waited_for = {slug for step in flow.steps.values() for slug in step.dependencies}
    assert sum(limits[slug] for slug in flow.steps if slug not in waited_for) <= LIMIT


def test_a_threshold_that_leaves_room_is_as_it_was_set():
    flow = Flow("flow", blob_threshold=100)
    first = flow.step(slug="first")(lambda: None)
    flow.step(first, slug="last", blob_threshold=0)(lambda _: None)
    assert thresholds(flow) == {"first": 100, "last": 0}
    assert input_threshold(flow) == 100
    assert input_threshold(Flow("huge", blob_threshold=HUGE)) == LIMIT


def test_a_thousand_steps_of_one_join_keep_the_default_threshold():
    flow = Flow("flow")
    parts = [flow.step(slug=f"part{n}")(lambda: None) for n in range(1024)]
    flow.step(*parts, slug="join")(lambda *_: None)
    assert set(thresholds(flow).values()) == {8192}


def test_of_a_map_each_output_stays_short_in_its_row():
    flow = Flow("flow", blob_threshold=100_000)
    links = flow.step(slug="links")(lambda: ["a"])
    flow.step(links.each, slug="page")(lambda url: url)
    flow.step(links.each, slug="none", blob_threshold=0)(lambda url: url)
    assert thresholds(flow) == {"links": 100_000, "page": 512, "none": 0}
