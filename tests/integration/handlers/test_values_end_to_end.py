"""Values, from the handler that returns them to the next one, and to the client."""

from typing import Any

import pytest
import trio

from blobstore import ValueRefused
from pgflow_events import Flow, RunFailed, Settings

from ...parts.observing import rows

PAGE = "<p>über die Dächer 🏔</p>" * 120_000
RECORDS = [{"n": n, "text": "a line of text", "parts": [n / 7, None, True]} for n in range(50_000)]
THRESHOLD = 8192

VALUES: dict[str, Any] = {
    "None": None,
    "false": False,
    "true": True,
    "zero": 0,
    "zero float": 0.0,
    "negative zero": -0.0,
    "whole float": 1e15,
    "large float": 1e300,
    "largest integers": [-(2**63), 2**64 - 1],
    "empty text": "",
    "empty list": [],
    "empty dict": {},
    "falsy": [None, False, 0, 0.0, "", [], {}],
    "no bytes": b"",
    "bytes": bytes(range(256)),
    "NUL": "\0",
    "NUL inside": {"a": "b\0c", "d\0e": ["\0"]},
    "no NUL": "\\u0000",
    "quotes": {'"': "'", "\\": "\n\t\r\x1f\x7f\u2028"},
    "text at the threshold": "x" * (THRESHOLD - 2),
    "text over the threshold": "x" * (THRESHOLD - 1),
    "3 MB of text": PAGE,
    "3 MB of bytes": PAGE.encode(),
    "3 MB of JSON": RECORDS,
}

REFUSED: dict[str, tuple[Any, str]] = {
    "NaN": ({"a": [0, float("nan")]}, "$.a[1] is nan"),
    "infinity": (float("inf"), "$ is inf"),
    "lone surrogate": ({"text": "\ud800"}, "$.text has a lone surrogate at index 0"),
    "lone surrogate of many": ("x" * THRESHOLD + "\udfff", "$ has a lone surrogate at index 8192"),
    "over 64 bits": ([2**64], "$[0] is an integer outside"),
    "set": ({"tags": {1}}, "$.tags is of type set; give `sorted(value)` instead"),
    "tuple": ((1, 2), "$ is of type tuple; give `list(value)` instead"),
    "nested bytes": ([b""], "$[0] is of type bytes, which may only be the whole value"),
    "key": ({1: 2}, "$ has a key of type int, 1; keys must be str"),
    "over the cap": ("x" * 4_000_001, "$ takes 4,000,001 bytes or more, the cap is 4,000,000"),
    "JSON over the cap": (["x" * 1000] * 4000, "the cap is 4,000,000"),
    "function": (trio.sleep, "$ is of type function"),
}


def same(value: Any, other: Any) -> bool:
    """Whether they are equal and of the same types all through; the sign of zero counts."""
    if type(value) is dict and type(other) is dict:
        return value.keys() == other.keys() and all(same(value[key], other[key]) for key in value)
    return repr(value) == repr(other)


async def test_values_arrive_equal_and_of_the_same_type_everywhere(client, work):
    flow = Flow("flow")
    received = {}

    @flow.step(flow.input)
    async def give(name):
        return VALUES[name]

    @flow.step(flow.input, give)
    async def take(name, value):
        received[name] = value
        return value

    await work(flow, settings=Settings(cache_budget=0))  # so that it reads what it wrote
    runs = await client.start_many(flow, list(VALUES))
    for run, (name, value) in zip(runs, VALUES.items(), strict=True):
        result = await run.result()
        assert same(result, {"take": value}), name
        assert same(received[name], value), name
        assert same(await run.output(give), value), name


async def test_inputs_of_runs_arrive_equal_and_of_the_same_type(client, work):
    flow = Flow("flow")
    received = []

    @flow.step(flow.input)
    async def step(value):
        received.append(value)

    await work(flow)
    for name, value in VALUES.items():
        run = await client.start(flow, value)
        assert await run.result() == {"step": None}, name
        assert same(received.pop(), value), name


async def test_values_that_could_not_come_back_fail_their_task_at_once_and_name_the_place(
    client, work, database
):
    flow = Flow("flow", max_attempts=5, base_delay=0)

    @flow.step(flow.input)
    async def step(name):
        return REFUSED[name][0]

    await work(flow, settings=Settings(value_cap=4_000_000))
    runs = await client.start_many(flow, list(REFUSED))
    for run, (_, reason) in zip(runs, REFUSED.values(), strict=True):
        with pytest.raises(RunFailed) as failure:
            await run.result()
        assert reason in str(failure.value)
    attempts = await rows(database, "select distinct attempts_count, status from pgflow.step_tasks")
    assert attempts == [(1, "failed")]


async def test_an_input_that_could_not_come_back_is_refused_at_the_start(client, work, database):
    flow = Flow("flow")
    await work(flow)
    for name in ("NaN", "tuple", "nested bytes", "lone surrogate of many"):
        value, reason = REFUSED[name]
        with pytest.raises(ValueRefused) as refusal:
            await client.start(flow, value)
        assert str(refusal.value).startswith(f"the input cannot be stored: {reason}")
    assert await rows(database, "select from pgflow.runs") == []


async def test_a_value_stays_in_the_row_up_to_the_threshold_of_its_step(client, work, database):
    flow = Flow("flow", blob_threshold=100)

    @flow.step(flow.input)
    async def of_the_flow(size):
        return "x" * size

    @flow.step(flow.input, blob_threshold=10)
    async def of_its_own(size):
        return "x" * size

    @flow.step(flow.input, blob_threshold=0)
    async def always(size):
        return "x" * size

    await work(flow)
    for size in (0, 8, 9, 98, 99):
        run = await client.start(flow, size)
        await run.result()
        found = await rows(
            database,
            "select step_slug from pgflow.step_tasks"
            " where run_id = %s and output_blob_id is not null",
            run.id,
        )
        limits = {"always": -1, "of_its_own": 8, "of_the_flow": 98}
        large = {slug for slug, limit in limits.items() if size > limit}
        assert {row.step_slug for row in found} == large


async def test_what_a_handler_does_to_its_argument_is_not_seen_by_others(client, work):
    flow = Flow("flow")
    seen = []

    def mutate(value: dict[str, Any]) -> dict[str, Any]:
        seen.append(len(value["list"]))
        value["list"].append("more")
        return value

    @flow.step(flow.input)
    async def small(run):
        return {"list": []}

    @flow.step(flow.input)
    async def large(run):
        return {"list": [], "filling": "x" * THRESHOLD}

    for i in range(3):
        flow.step(small, slug=f"small_{i}")(mutate)
        flow.step(large, slug=f"large_{i}")(mutate)
        flow.step(flow.input, slug=f"input_{i}")(mutate)

    await work(flow)
    run = await client.start(flow, {"list": [], "filling": "x" * THRESHOLD})
    result = await run.result()
    assert seen == [0] * 9
    assert all(value["list"] == ["more"] for value in result.values())


async def test_a_large_value_is_stored_once_for_all_who_take_it(client, work, database):
    flow = Flow("flow")

    @flow.step(flow.input)
    async def page(run):
        return PAGE

    @flow.step(page)
    async def length(text):
        return len(text)

    @flow.step(page)
    async def title(text):
        return text[:9]

    await work(flow)
    run = await client.start(flow, None)
    assert await run.result() == {"length": len(PAGE), "title": "<p>über d"}
    (stored,) = await rows(database, "select raw_size from pgflow.output_blobs")
    assert stored.raw_size == len(PAGE.encode())
