"""Conditions of real flows: whatever the sizes of the values are, and wherever they are kept."""

from typing import Any

import pytest

from pgflow_events import Flow

PAGE = "<p>Ärger im Büro</p>" * 1000


def takes_any(*_: object) -> int:
    return 1


def looking(slug: str, lang: str, listed: list[str]) -> Flow[Any]:
    """A flow whose conditions look into an object and a list, which may be blobs."""
    flow: Flow[Any] = Flow(slug)
    page = flow.step(slug="page")(lambda: {"lang": lang, "html": "".join(listed)})
    words = flow.step(slug="words")(lambda: listed)
    english = page.contains({"lang": "en"})
    flow.step(page, run_if=english, slug="english")(takes_any)
    flow.step(page.blob, words, run_if=english & words.contains(["news"]), slug="both")(takes_any)
    flow.step(words.blob, run_unless=words.contains(["faq"]), slug="no_faq")(takes_any)
    flow.step(words, run_if=words.contains(["end"]), slug="far")(takes_any)
    return flow


@pytest.mark.parametrize(
    ("lang", "links", "ran"),
    [
        ("en", ["home", "news"], {"english", "both", "no_faq", "far"}),
        ("en", ["faq"], {"english", "far"}),
        ("de", ["news"], {"no_faq", "far"}),
        ("de", ["news", "faq"], {"far"}),
    ],
)
async def test_a_condition_sees_outputs_of_any_size(client, work, lang, links, ran):
    for name, html in ("inline", "short"), ("blob", PAGE):
        flow = looking(name, lang, [*links, html, "end"])
        await work(flow)
        run = await client.start(flow, None)
        assert (await run.result()).keys() == ran


@pytest.mark.parametrize("html", ["short", PAGE], ids=["inline", "blob"])
async def test_a_condition_sees_an_input_of_any_size(client, work, html):
    flow: Flow[Any] = Flow("flow")
    deep, flat = flow.input.contains({"depth": 1}), flow.input.contains({"depth": 0})
    first = flow.step(run_if=deep, slug="first")(takes_any)
    flow.step(run_if=flat, slug="never")(takes_any)
    flow.step(first.or_none, run_unless=flat, slug="later")(takes_any)
    flow.step(first.or_none, run_if=flat & first.contains(1), slug="not_later")(takes_any)
    await work(flow)
    run = await client.start(flow, {"depth": 1, "html": html})
    assert (await run.result()).keys() == {"later"}
    assert await run.output(first) == 1


async def test_a_map_over_a_list_that_was_skipped_gives_an_empty_list(client, work):
    flow: Flow[Any] = Flow("flow")
    links = flow.step(flow.input, run_if=flow.input.contains({"a": 1}), slug="links")(lambda _: [1])
    each = flow.step(links.each, slug="each")(lambda number: number + 1)
    flow.step(each.each, flow.input, slug="again")(lambda number, _: number + 1)
    flow.step(each, slug="length")(len)
    await work(flow)
    for value, result in ({"a": 1}, {"again": [3], "length": 1}), ({}, {"again": [], "length": 0}):
        run = await client.start(flow, value)
        assert await run.result() == result
        assert await run.output(each) == [2] * len(result["again"])


async def test_a_branch_below_a_cascade_ends_and_another_goes_on(client, work):
    flow: Flow[Any] = Flow("flow")
    page = flow.step(slug="page")(lambda: 1)
    top = flow.step(page, run_if=page.contains(2), unmet="skip-cascade", slug="top")(takes_any)
    below = flow.step(top.or_none, page, slug="below")(takes_any)
    mapped = flow.step(below, slug="listed")(lambda _: [1])
    flow.step(mapped.each, slug="each")(takes_any)
    flow.step(page, slug="beside")(takes_any)
    await work(flow)
    run = await client.start(flow, None)
    assert await run.result() == {"beside": 1}


@pytest.mark.parametrize("html", ["short", PAGE], ids=["inline", "blob"])
async def test_a_map_may_be_skipped_by_what_its_list_contains(client, work, html):
    flow: Flow[Any] = Flow("flow")
    words = flow.step(flow.input, slug="words")(lambda word: [html, word])
    each = flow.step(words.each, run_if=words.contains(["go"]), slug="each")(len)
    flow.step(each.or_none, slug="sizes")(lambda sizes: sizes)
    await work(flow)
    for word, sizes in ("go", [len(html), 2]), ("stop", None):
        run = await client.start(flow, word)
        assert await run.result() == {"sizes": sizes}
        assert await run.output(each) == sizes


async def test_a_map_that_loses_too_much_is_skipped_if_it_may_be(client, work):
    flow: Flow[Any] = Flow("flow", max_attempts=1)
    numbers = flow.step(flow.input, slug="numbers")(lambda most: list(range(most)))
    half = flow.step(numbers.each, lost="none", tolerate=0.5, exhausted="skip", slug="half")(
        lambda number: 1 // (number % 2)
    )
    flow.step(half.or_none, slug="kept")(lambda kept: kept)
    await work(flow)
    for most, kept in (4, [None, 1, None, 1]), (3, None), (0, []):
        run = await client.start(flow, most)
        assert await run.result() == {"kept": kept}
