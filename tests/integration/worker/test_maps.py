"""Maps: a task for each element of a list, from the worker that makes the list to its consumer."""

from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import pytest

from blobstore import Blob
from blobstore.keys import KeyRing
from pgflow_events import Flow, RunFailed, Settings, connect

KEYS = KeyRing({"key": sha256(b"key").digest()})
SINCE = datetime(2020, 1, 1, tzinfo=UTC)
PAGE = "<p>Ärger im Büro</p>" * 1000


@pytest.fixture(params=[False, True], ids=["in clear", "sealed"])
def settings(request: pytest.FixtureRequest) -> Settings:
    return Settings(keys=KEYS, sealed_only=SINCE) if request.param else Settings()


LISTS: dict[str, list[Any]] = {
    "of every kind": [PAGE, b"bytes", PAGE.encode(), "text", 1, 2.5, None, True, {"a": [PAGE]}, []],
    "empty": [],
    "of one": ["only"],
    "of one null": [None],
    "of lists": [[PAGE, "x"], [], ["x"]],
    "of many": [f"https://example.org/{n}" for n in range(2500)],
}


@pytest.mark.parametrize("values", LISTS.values(), ids=LISTS)
async def test_each_element_goes_to_a_task_and_the_outputs_come_in_their_order(
    database, work, settings, values
):
    flow = Flow("flow")

    @flow.step()
    async def links() -> list[Any]:
        return values

    @flow.step(links.each)
    async def page(value: Any) -> Any:
        return value

    @flow.step(page)
    async def whole(pages: list[Any]) -> str:
        return repr(pages)

    @flow.step(page.blob)
    async def by_one(pages: Blob[list[Any]]) -> str:
        found = [element async for element in pages.items()]
        assert not values or repr(await pages.item(len(values) - 1)) == repr(values[-1])
        assert repr(await pages.value()) == repr(found)
        return repr(found)

    await work(flow, settings=settings)
    async with connect(database, settings=settings) as client:
        run = await client.start(flow, None)
        assert await run.result() == {"whole": repr(values), "by_one": repr(values)}


async def test_a_map_goes_over_a_map(database, work, settings):
    flow = Flow("flow")
    links = flow.step(slug="links")(lambda: ["a", "b", PAGE])
    twice = flow.step(links.each, slug="twice")(lambda text: [text, text])
    joined = flow.step(twice.each, flow.context, slug="joined")(
        lambda pair, context: [context.index, "".join(pair)]
    )
    flow.step(joined, slug="whole")(lambda texts: texts)

    await work(flow, settings=settings)
    async with connect(database, settings=settings) as client:
        assert await (await client.start(flow, 1)).result() == {
            "whole": [[0, "aa"], [1, "bb"], [2, PAGE * 2]]
        }


async def test_the_handle_of_an_element_gives_it_and_passes_it_on(database, work, settings):
    flow = Flow("flow")
    links = flow.step(slug="links")(lambda: [PAGE, "small", b"bytes", [PAGE]])

    @flow.step(links.each.blob)
    async def same(element: Blob[Any]) -> Any:
        return element

    @flow.step(same.each.blob)
    async def kind(element: Blob[Any]) -> list[Any]:
        return [element.kind, await element.value() == PAGE]

    flow.step(same, slug="whole")(repr)
    flow.step(kind, slug="kinds")(lambda kinds: kinds)
    await work(flow, settings=settings)
    async with connect(database, settings=settings) as client:
        assert await (await client.start(flow, None)).result() == {
            "whole": repr([PAGE, "small", b"bytes", [PAGE]]),
            "kinds": [["text", True], ["text", False], ["bytes", False], ["json", False]],
        }


async def failure_of(database: str, work: Any, flow: Flow[Any], **options: Any) -> str:
    """The error with which a run fails."""
    await work(flow, **options)
    async with connect(database) as client:
        run = await client.start(flow, None)
        with pytest.raises(RunFailed) as raised:
            await run.result()
        return str(raised.value)


async def test_the_log_names_the_element(work, client, caplog):
    flow = Flow("flow", max_attempts=1)
    links = flow.step(slug="links")(lambda: ["a", "b"])

    @flow.step(links.each)
    async def page(text: str) -> str:
        if text == "b":
            raise ValueError(text)
        return text

    await work(flow)
    await (await client.start(flow, None)).wait()
    assert any(
        record.message.startswith("flow.page[1] of run ") and "failed" in record.message
        for record in caplog.records
    )


REFUSED = {
    "a dict": ({"a": 1}, "map 'page' cannot go over what step 'links' returned: $ is of type dict"),
    "a text": (PAGE, "map 'page' cannot go over what step 'links' returned: $ is of type str"),
    "nothing": (
        None,
        "map 'page' cannot go over what step 'links' returned: $ is of type NoneType",
    ),
    "a NaN": ([1, 2, 3, float("nan")], "step 'links' returned what cannot be stored: $[3] is nan"),
    "too much": (["a", PAGE * 3], "$[1] takes 60,000 bytes or more, the cap is 50,000"),
}


@pytest.mark.parametrize(("value", "error"), REFUSED.values(), ids=REFUSED)
async def test_what_no_map_can_go_over_fails_the_run_at_once(database, work, value, error):
    flow, calls = Flow("flow"), []

    @flow.step()
    async def links() -> Any:
        calls.append(1)
        return value

    flow.step(links.each, slug="page")(lambda element: element)
    assert error in await failure_of(database, work, flow, settings=Settings(value_cap=50_000))
    assert calls == [1]


LANGUAGE = {"lang": "en", "text": PAGE}


@pytest.mark.parametrize("how", ["value", "handle", "bytes", "wide"])
async def test_a_condition_looks_into_an_output_that_sql_cannot_read(database, work, settings, how):
    flow = Flow("flow")

    @flow.step()
    async def first() -> Any:
        return {**LANGUAGE, "more": list(range(10_000 if how == "wide" else 1))}

    @flow.step(first.blob)
    async def page(blob: Blob[Any]) -> Any:
        return PAGE.encode() if how == "bytes" else blob if how == "handle" else await blob.value()

    skipped = ["german", "absent"] if how != "bytes" else ["english", "german"]
    english = flow.step(page, slug="english", run_if=page.contains({"lang": "en"}))(lambda _: 1)
    flow.step(page, slug="german", run_if=page.contains({"lang": "de"}))(lambda _: 2)
    flow.step(page, slug="absent", run_unless=page.contains({"lang": "en"}))(lambda _: 3)
    flow.step(english.or_none, slug="last")(repr)

    await work(flow, settings=settings)
    async with connect(database, settings=settings) as client:
        result = await (await client.start(flow, None)).result()
    assert set(result) == {"last", "german", "absent"} - {*skipped}
    assert result["last"] == ("None" if how == "bytes" else "1")
