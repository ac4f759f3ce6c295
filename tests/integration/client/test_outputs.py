"""What a client gets of maps, and of steps that were skipped."""

import re
from dataclasses import replace
from typing import Any

import pytest

from blobstore import Blob
from pgflow_events import Flow, PermanentError, RunFailed, StepSkipped

from ...parts.places import ROOT

PAGE = "<p>Ärger im Büro</p>" * 1000


@pytest.fixture
def names() -> dict[str, Any]:
    """The names that the Python of the page on maps defines. It calls `trio.run`."""
    page = (ROOT / "docs" / "guide" / "maps.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {"__name__": "docs.maps"}
    exec("\n".join(re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)), names)
    return names


async def test_the_page_on_maps_does_what_it_says(client, work, names):
    crawl: Flow[Any] = names["crawl"]
    crawl.options = replace(crawl.options, base_delay=0)
    await work(crawl)
    told = {}
    inputs = [{"url": "https://x", "lang": lang} for lang in ("en", "de")]
    for lang, run in zip(("en", "de"), await client.start_many(crawl, inputs), strict=True):
        assert await run.result() == {
            "again": "https://x/home",
            "reached": 2,
            "report": "https://x/home" + "?translated" * (lang == "de"),
        }
        assert await run.output(names["status"]) == [200, 200, None]
        assert [page["url"] for page in await run.output(names["page"])] == [
            f"https://x/{name}" for name in ("home", "news", "faq")
        ]
        told[lang] = await run.output(names["translated"])
        assert await run.output(names["thumbnail"]) is None
        with pytest.raises(StepSkipped) as skipped:
            await run.output(names["gallery"])
        assert str(skipped.value) == (
            f"run {run.id} of 'crawl_site' skipped step 'gallery': a step before it was skipped"
        )
    assert told == {"en": None, "de": "https://x/home?translated"}


def map_of(values: list[Any]) -> Flow[Any]:
    flow: Flow[Any] = Flow("flow")
    flow.step(flow.input, slug="values")(lambda _: values)
    flow.step(flow.steps["values"].each, slug="same")(lambda value: value)
    return flow


@pytest.mark.parametrize("values", [[], ["a", None, 1], [PAGE, b"bytes", {"a": PAGE}, 1]])
async def test_the_output_of_a_map_is_read_as_a_list_and_as_a_handle(client, work, values):
    flow = map_of(values)
    await work(flow)
    run = await client.start(flow, None)
    same: Any = flow.steps["same"]
    assert await run.output(same) == values
    assert await (await run.output(same.blob)).value() == values
    assert await run.result() == {"same": values}


async def test_there_is_no_handle_of_a_skipped_output(client, work):
    flow: Flow[Any] = Flow("flow")
    page = flow.step(flow.input, slug="page")(lambda run: run)
    found = flow.step(page, run_if=page.contains({"html": {}}), slug="found")(lambda page: PAGE)
    read: list[Any] = []

    @flow.step(found.or_none.blob, page)
    async def save(text: Blob[str] | None, _: object) -> int:
        read.append(text and await text.value())
        return 1

    await work(flow)
    for value, output in ({"html": {}}, PAGE), ({"html": 1}, None):
        run = await client.start(flow, value)
        assert await run.output(save) == 1
        handle = await run.output(found.or_none.blob)
        assert (handle and await handle.value()) == output
        assert await run.output(found) == output
        assert read.pop() == output


async def test_a_condition_that_fails_the_run_says_so(client, work):
    flow: Flow[Any] = Flow("flow")
    page = flow.step(flow.input, slug="page")(lambda run: {"status": 404, "html": PAGE})
    gone = page.contains({"status": 404})
    never = flow.step(page, run_unless=gone, unmet="fail", slug="never")(lambda _: 1)
    await work(flow)
    run = await client.start(flow, None)
    with pytest.raises(RunFailed) as failed:
        await run.output(never)
    assert failed.value.errors == {"never": "Condition not met"}


async def test_a_map_that_fails_tells_the_error_of_an_element(client, work):
    flow: Flow[Any] = Flow("flow")
    links = flow.step(flow.input, slug="links")(lambda _: ["a", "b", "c"])

    @flow.step(links.each)
    async def page(link: str) -> str:
        if link == "b":
            raise PermanentError(f"no page {link}")
        return link

    await work(flow)
    run = await client.start(flow, None)
    with pytest.raises(RunFailed) as failed:
        await run.output(page)
    assert failed.value.errors == {"page": "element 1: PermanentError: no page b"}
