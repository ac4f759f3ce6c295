"""Flows that really run: from the start of a run to its result."""

from typing import Any, TypedDict

import psycopg
import pytest
import trio

from blobstore import Blobs
from pgflow_events import DefinitionError, Flow, Misuse, Worker

from ...parts.observing import logged

PAGE = "<p>" + "long and winding, " * 100_000


class Website(TypedDict):
    url: str


def analyze_website() -> Flow[Website]:
    flow = Flow("analyze_website", input=Website, base_delay=0)

    @flow.step(flow.input)
    async def website(run: Website) -> str:
        return f"<h1>{run['url']}</h1>{PAGE}"

    @flow.step(website)
    async def sentiment(page: str) -> float:
        return page.count("long") / len(page)

    @flow.step(website)
    def summary(page: str) -> str:
        return page[:20]

    @flow.step(flow.input, sentiment, summary)
    async def save(run: Website, mood: float, text: str) -> dict[str, Any]:
        return {"url": run["url"], "mood": mood, "text": text}

    return flow


async def test_a_run_goes_through_all_of_its_steps(client, work):
    flow = analyze_website()
    worker = await work(flow)
    run = await client.start(flow, {"url": "example"})
    result = await run.result()
    assert result["save"]["text"] == "<h1>example</h1><p>l"
    # website → sentiment, summary → save; fewer after a standstill, when a worker claims nothing
    assert 1 <= worker.handed_over <= 3


async def test_a_large_output_arrives_whole(client, work):
    flow = analyze_website()
    await work(flow)
    run = await client.start(flow, {"url": "example"})
    assert await run.output(flow.steps["website"]) == f"<h1>example</h1>{PAGE}"


async def test_a_server_that_refuses_at_the_start_is_told_at_once(database):
    worker = Worker([analyze_website()], f"{database} dbname=there_is_none")
    with trio.fail_after(5), pytest.raises(psycopg.OperationalError, match="does not exist"):
        await worker.run()


async def test_a_worker_runs_once_and_a_second_call_does_not_disturb_it(client, work):
    flow = analyze_website()
    worker = await work(flow)
    with pytest.raises(Misuse, match="a Worker runs once"):
        await worker.run()
    run = await client.start(flow, {"url": "example"})
    assert "save" in await run.result()


def test_a_flow_cannot_be_given_twice():
    with pytest.raises(DefinitionError, match="'analyze_website' is given twice"):
        Worker([analyze_website(), analyze_website()])


async def test_housekeeping_that_gets_no_memory_does_not_end_the_worker(
    client, work, caplog, monkeypatch
):
    async def use_dictionaries(*_):
        raise MemoryError

    monkeypatch.setattr(Blobs, "use_dictionaries", use_dictionaries)
    flow = Flow("flow")
    flow.step(slug="step")(lambda: 1)
    await work(flow)
    await logged(caplog, "could not tidy up: there is no memory")
    assert await (await client.start(flow, None)).result() == {"step": 1}
