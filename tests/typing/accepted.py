"""What both type checkers accept, and what they infer. Importing it defines the flows, too."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Generic, Literal, NotRequired, TypedDict, TypeVar, assert_type

from blobstore import Blob
from pgflow_events.client.client import Client
from pgflow_events.client.run import Run
from pgflow_events.flow.flow import Context, Flow, Node, Step
from pgflow_events.flow.step import (
    BlobNode,
    EachNode,
    OptionalBlobNode,
    OptionalNode,
    StepFunction,
    ValueNode,
)

T = TypeVar("T")


class Website(TypedDict):
    url: str
    depth: NotRequired[int]


class Page(TypedDict):
    html: str


class Sentiment(TypedDict):
    score: float


class Batch(TypedDict, Generic[T]):
    items: list[T]


class Detailed(Sentiment):
    words: list[str]


# The flow of the README: input, async and plain steps, a join, options.

analyze = Flow("analyze_website", input=Website, max_attempts=3, base_delay=5, timeout=60)


@analyze.step(analyze.input)
async def website(run: Website) -> Page:
    return {"html": run["url"]}


@analyze.step(website, timeout=30, max_attempts=5, base_delay=0, blob_threshold=None)
async def sentiment(page: Page) -> Sentiment:
    return {"score": len(page["html"])}


@analyze.step(website, slug="shortened")
def summary(page: Page) -> str:
    return page["html"]


@analyze.step(analyze.input, sentiment, summary)
async def save(run: Website, mood: Sentiment, text: str) -> bool:
    return bool(run["url"] and mood["score"] and text)


@analyze.step(analyze.context, website)
async def first(context: Context, page: Page) -> int:
    return context.attempt + len(page)


@analyze.step(website, analyze.context)
def last(page: Page, context: Context) -> int:
    return context.attempt + len(page)


@analyze.step()
async def tick() -> None: ...


@analyze.step()
def tock() -> None: ...


# Every kind of result that can be stored.

kinds = Flow("kinds", input=str)


@kinds.step(kinds.input)
async def typed_dict_result(_: str) -> Sentiment:
    return {"score": 1}


@kinds.step(kinds.input)
def subclass_result(text: str) -> Detailed:
    return {"score": 1, "words": [text]}


@kinds.step(kinds.input)
def bool_result(text: str) -> bool:
    return bool(text)


@kinds.step(kinds.input)
async def float_result(text: str) -> float:
    return len(text) / 2


@kinds.step(kinds.input)
async def list_result(text: str) -> list[str]:
    return text.split()


@kinds.step(kinds.input)
def dict_result(text: str) -> dict[str, list[int]]:
    return {text: [1]}


@kinds.step(kinds.input)
async def union_result(text: str) -> int | str:
    return text or 0


@kinds.step(kinds.input)
async def optional_result(text: str) -> Page | None:
    return {"html": text} if text else None


@kinds.step(kinds.input)
def optional_text(text: str) -> str | None:
    return text or None


@kinds.step(kinds.input)
async def bytes_result(text: str) -> bytes:
    return text.encode()


@kinds.step(kinds.input)
async def literal_result(_: str) -> Literal["yes", "no"]:
    return "yes"


@kinds.step(kinds.input)
def mapping_result(text: str) -> Mapping[str, int]:
    return {text: 1}


@kinds.step(kinds.input)
async def nested_result(text: str) -> dict[str, list[Page] | None] | list[int]:
    return {text: [{"html": text}]}


@kinds.step(kinds.input)
async def generic_result(text: str) -> Batch[str]:
    return {"items": [text]}


@kinds.step(kinds.input)
async def any_result(_: str) -> Any: ...


@kinds.step(kinds.input)
def plain_any_result(_: str) -> Any: ...


# An Any in a handler's signature leaves the rest of it as it is.


@kinds.step(kinds.input)
async def any_inside(text: str) -> dict[str, Any]:
    return {text: text}


@kinds.step(kinds.input)
def plain_any_inside(text: str) -> list[Any]:
    return [text]


@kinds.step(any_inside, any_result)
async def takes_any(table: dict[str, Any], value: Any) -> int:
    return len([table, value])


@kinds.step(any_inside, any_result)
def plain_takes_any(table: dict[str, Any], value: Any) -> int:
    return len([table, value])


# Large values: streams, files, handles.


@kinds.step(kinds.input, media_type="text/csv", keep_output=3600)
async def stream_result(text: str) -> AsyncIterator[bytes]:
    yield text.encode()


@kinds.step(kinds.input)
async def generator_result(text: str) -> AsyncGenerator[bytes, None]:
    yield text.encode()


@kinds.step(kinds.input)
async def async_path_result(text: str) -> Path:
    return Path(text)


@kinds.step(kinds.input)
def path_result(text: str) -> Path:
    return Path(text)


@kinds.step(kinds.input)
def plain_stream_result(text: str) -> AsyncIterator[bytes]:
    return kinds_stream(text)


async def kinds_stream(text: str) -> AsyncIterator[bytes]:
    yield text.encode()


@kinds.step(list_result.blob)
async def handle_result(words: Blob[list[str]]) -> Blob[list[str]]:
    return words


@kinds.step(optional_text.blob)
def plain_handle_result(text: Blob[str | None]) -> Blob[str | None]:
    return text


@kinds.step(kinds.input, by_element=True, media_type=None, keep_output=None)
def elements_result(text: str) -> list[bytes]:
    return [text.encode()]


@kinds.step(kinds.input, cpu_bound=True)
def computed_result(text: str) -> int:
    return len(text)


@kinds.step(stream_result, async_path_result, handle_result)
async def takes_values(one: bytes, other: bytes, words: list[str]) -> int:
    return len(one) + len(other) + len(words)


@kinds.step(kinds.input.blob, stream_result.blob, handle_result.blob, typed_dict_result.blob)
async def takes_handles(
    run: Blob[str], one: Blob[bytes], words: Blob[Sequence[object]], mood: Blob[Sentiment]
) -> float:
    assert_type(await run.value(), str)
    assert_type(await one.read(0, 10), bytes)
    async with one.open() as stream:
        assert_type([piece async for piece in stream], list[bytes])
    return len(await words.value()) + (await mood.value())["score"]


@kinds.step(kinds.input.blob, stream_result)
def takes_a_handle_and_a_value(run: Blob[str], text: bytes) -> int:
    return run.size + len(text)


# A parameter may accept more than its node gives.


@kinds.step(subclass_result)
async def accepts_base(mood: Sentiment) -> float:
    return mood["score"]


@kinds.step(list_result)
async def accepts_sequence(words: Sequence[object]) -> int:
    return len(words)


@kinds.step(dict_result)
def accepts_mapping(table: Mapping[str, Sequence[float]]) -> int:
    return len(table)


@kinds.step(list_result)
async def accepts_optional(words: list[str] | None) -> int:
    return len(words or ())


@kinds.step(union_result)
async def accepts_wider_union(value: int | str | None) -> str:
    return str(value)


@kinds.step(literal_result)
def accepts_any_text(answer: str) -> str:
    return answer


@kinds.step(optional_result, optional_text)
async def accepts_nothing_too(page: Page | None, text: str | None) -> bool:
    return page is None and text is None


@kinds.step(generic_result)
async def accepts_generic(batch: Batch[str]) -> list[str]:
    return batch["items"]


@kinds.step(any_result)
def accepts_any(value: int) -> int:
    return value


@kinds.step(list_result, bytes_result)
async def accepts_the_rest(*values: object) -> int:
    return len(values)


@kinds.step(list_result)
async def has_a_default(words: list[str], most: int = 3) -> list[str]:
    return words[:most]


# What is no function is a handler as well.


class Multiply:
    def __init__(self, factor: int) -> None:
        self.factor = factor

    def __call__(self, number: int) -> int:
        return self.factor * number

    async def later(self, number: int) -> float:
        return self.factor * number


def add(one: int, other: int) -> int:
    return one + other


def same(value: T) -> T:
    return value


numbers = Flow("numbers", input=int)
called_object = numbers.step(numbers.input, slug="called_object")(Multiply(2))
bound_method = numbers.step(numbers.input)(Multiply(2).later)
partial_function = numbers.step(numbers.input, slug="partial_function")(partial(add, 1))
generic_function = numbers.step(numbers.input)(same)

# Inputs: none declared, and those that are no class.

untyped = Flow("untyped")
texts = Flow("texts", input=list[str])
tables = Flow("tables", input=dict[str, Any])
maybe: Flow[str | None] = Flow("maybe")


@untyped.step(untyped.input)
async def from_untyped(run: Website) -> str:
    return run["url"]


@untyped.step(untyped.input, from_untyped)
async def also_from_untyped(run: list[int], text: str) -> int:
    return run[0] + len(text)


@untyped.step(untyped.input.each)
async def map_of_untyped(element: int) -> int:
    return element


@untyped.step(map_of_untyped, run_if=untyped.input.contains({}))
async def skippable_of_untyped(elements: list[int]) -> int:
    return sum(elements)


@kinds.step(
    any_result,
    any_inside,
    run_if=kinds.input.contains("a") & any_inside.contains({}),
    exhausted="skip",
)
def skippable_of_any(value: int, _: dict[str, Any]) -> int:
    return value


@texts.step(texts.input)
async def from_texts(run: list[str]) -> str:
    return run[0]


@tables.step(tables.input)
async def from_tables(run: dict[str, Any]) -> int:
    return len(run)


@maybe.step(maybe.input)
async def from_maybe(run: str | None) -> str:
    return run or ""


# Maps: a handler takes an element, and a step that depends on the map takes the list.

crawl = Flow("crawl", input=Website)


@crawl.step(crawl.input)
async def links(site: Website) -> list[str]:
    return [site["url"]]


@crawl.step(links.each, timeout=30)
async def page(url: str) -> Page:
    return {"html": url}


@crawl.step(page)
async def index(pages: list[Page]) -> int:
    return len(pages)


@crawl.step(page.blob)
async def index_by_handle(pages: Blob[list[Page]]) -> int:
    return pages.size


@crawl.step(page.each)
def title(page: Page) -> str:
    return page["html"]


@crawl.step(links.each, crawl.context)
def map_with_context(url: str, context: Context) -> int:
    return len(url) + context.attempt


@crawl.step(links.each, crawl.input, crawl.context)
def map_with_input_and_context(url: str, site: Website, context: Context) -> None: ...


@crawl.step(links.each.blob)
async def map_by_handle(url: Blob[str]) -> Blob[str]:
    return url


@crawl.step(links.each)
async def map_of_streams(url: str) -> AsyncIterator[bytes]:
    yield url.encode()


@crawl.step(links.each)
def map_of_files(url: str) -> Path:
    return Path(url)


@crawl.step(links.each)
def map_of_any(url: str) -> Any: ...


@crawl.step(links.each, lost="none")
async def perhaps(url: str) -> int:
    return len(url)


@crawl.step(perhaps.each, crawl.context, lost="none", tolerate=0.05)
def perhaps_again(length: int | None, context: Context) -> dict[str, Any]:
    return {"length": length, "attempt": context.attempt}


@crawl.step(perhaps)
async def takes_the_lost(lengths: list[int | None]) -> int:
    return sum(length or 0 for length in lengths)


@texts.step(texts.input.each)
async def root_map(text: str) -> int:
    return len(text)


@texts.step(texts.input.each, texts.input)
async def root_map_with_input(text: str, run: list[str]) -> float:
    return len(text) / len(run)


# Steps that may be skipped, and the None that stands for their outputs.


@crawl.step(links, run_if=links.contains(["home"]))
async def skipped(links: list[str]) -> str:
    return links[0]


@crawl.step(skipped.or_none)
async def takes_none(text: str | None) -> bool:
    return text is None


@crawl.step(skipped.or_none.blob)
async def takes_handle_or_none(text: Blob[str] | None) -> int:
    return text.size if text else 0


@crawl.step(links, run_unless=crawl.input.contains({"depth": 0}), unmet="skip-cascade")
def skipped_with_all_below(links: list[str]) -> list[str]:
    return links


@crawl.step(skipped_with_all_below.each, exhausted="skip")
async def skipped_map(link: str) -> dict[str, Any]:
    return {link: link}


@crawl.step(skipped_map.or_none, run_if=crawl.input.contains({}), exhausted="skip-cascade")
def takes_none_for_a_map(tables: list[dict[str, Any]] | None) -> int:
    return len(tables or ())


@crawl.step(links, run_if=links.contains([]), run_unless=links.contains(["x"]), unmet="fail")
def never_skipped(links: list[str]) -> Path:
    return Path(links[0])


@crawl.step(links, exhausted="fail", start_delay=30)
def not_skipped_either(links: list[str]) -> int:
    return len(links)


@crawl.step(links, run_if=links.contains([]), unmet="fail", exhausted="skip")
def skipped_in_the_end(links: list[str]) -> int:
    return len(links)


@crawl.step(links.each, run_if=links.contains([]), lost="none", exhausted="skip")
async def skipped_and_lost(link: str) -> int:
    return len(link)


@crawl.step(map_of_any)
async def takes_any_of_a_map(values: list[int]) -> int:
    return len(values)


@crawl.step(never_skipped, not_skipped_either)
async def takes_no_none(content: bytes, number: int) -> int:
    return len(content) + number


# Many nodes: checked up to eight.

wide = Flow("wide", input=int)
parts = [wide.step(wide.input, slug=f"part_{number}")(Multiply(number)) for number in range(9)]


@wide.step()
async def text() -> str:
    return ""


@kinds.step(
    kinds.input,
    kinds.context,
    typed_dict_result,
    list_result,
    optional_result,
    bytes_result,
    mapping_result,
    accepts_base,
)
async def eight(  # noqa: PLR0917 - one for each node
    a: str,
    b: Context,
    c: Sentiment,
    d: list[str],
    e: Page | None,
    f: bytes,
    g: Mapping[str, int],
    h: float,
) -> int:
    return b.attempt + len([a, c, d, e, f, g, h])


@wide.step(*parts)
def nine(*values: int) -> int:
    return sum(values)


@wide.step(wide.input, *parts)
def one_and_nine(run: int, *values: int) -> int:
    return run + sum(values)


@wide.step(text, *parts[:2], slug="two", timeout=1)
async def text_and_two(text: str, one: int, other: int) -> str:
    return text * (one + other)


async def the_result_has_the_type_of_what_the_handler_returns(run: Run) -> None:
    assert_type(await run.output(website), Page)
    assert_type(await run.output(sentiment), Sentiment)
    assert_type(await run.output(summary), str)
    assert_type(await run.output(save), bool)
    assert_type(await run.output(first), int)
    assert_type(await run.output(last), int)
    assert_type(await run.output(typed_dict_result), Sentiment)
    assert_type(await run.output(subclass_result), Detailed)
    assert_type(await run.output(bool_result), bool)
    assert_type(await run.output(float_result), float)
    assert_type(await run.output(list_result), list[str])
    assert_type(await run.output(dict_result), dict[str, list[int]])
    assert_type(await run.output(union_result), int | str)
    assert_type(await run.output(optional_result), Page | None)
    assert_type(await run.output(optional_text), str | None)
    assert_type(await run.output(bytes_result), bytes)
    assert_type(await run.output(literal_result), Literal["yes", "no"])
    assert_type(await run.output(mapping_result), Mapping[str, int])
    assert_type(await run.output(nested_result), dict[str, list[Page] | None] | list[int])
    assert_type(await run.output(generic_result), Batch[str])
    assert_type(await run.output(accepts_generic), list[str])
    assert_type(await run.output(called_object), int)
    assert_type(await run.output(bound_method), float)
    assert_type(await run.output(partial_function), int)
    assert_type(await run.output(generic_function), int)
    assert_type(await run.output(any_result), Any)
    assert_type(await run.output(plain_any_result), Any)
    assert_type(await run.output(any_inside), dict[str, Any])
    assert_type(await run.output(plain_any_inside), list[Any])
    assert_type(await run.output(takes_any), int)
    assert_type(await run.output(plain_takes_any), int)
    assert_type(await run.output(eight), int)
    assert_type(await run.output(nine), int)
    assert_type(await run.output(text_and_two), str)
    assert_type(await run.output(also_from_untyped), int)
    assert_type(await run.output(stream_result), bytes)
    assert_type(await run.output(generator_result), bytes)
    assert_type(await run.output(async_path_result), bytes)
    assert_type(await run.output(path_result), bytes)
    assert_type(await run.output(plain_stream_result), bytes)
    assert_type(await run.output(handle_result), list[str])
    assert_type(await run.output(plain_handle_result), str | None)
    assert_type(await run.output(elements_result), list[bytes])
    assert_type(await run.output(stream_result.blob), Blob[bytes])
    assert_type(await run.output(handle_result.blob), Blob[list[str]])
    nothing: list[Step[None]] = [tick, tock]
    assert_type(await run.output(nothing[0]), None)


async def the_result_of_a_map_is_a_list(run: Run) -> None:
    assert_type(await run.output(page), list[Page])
    assert_type(await run.output(title), list[str])
    assert_type(await run.output(map_with_context), list[int])
    assert_type(await run.output(map_with_input_and_context), list[None])
    assert_type(await run.output(map_by_handle), list[str])
    assert_type(await run.output(map_of_streams), list[bytes])
    assert_type(await run.output(map_of_files), list[bytes])
    assert_type(await run.output(perhaps), list[int | None])
    assert_type(await run.output(perhaps_again), list[dict[str, Any] | None])
    assert_type(await run.output(root_map), list[int])
    assert_type(await run.output(root_map_with_input), list[float])
    assert_type(await run.output(map_of_untyped), list[int])
    assert_type(await run.output(never_skipped), bytes)
    assert_type(await run.output(not_skipped_either), int)


async def the_result_of_a_step_that_may_be_skipped_can_be_none(run: Run) -> None:
    assert_type(await run.output(skipped), str | None)
    assert_type(await run.output(skipped_map), list[dict[str, Any]] | None)
    assert_type(await run.output(skipped.or_none.blob), Blob[str] | None)


async def a_step_is_a_node_of_its_result_and_of_wider_types(run: Run) -> None:
    pages: list[Step[Page]] = [website]
    moods: list[Step[Sentiment]] = [typed_dict_result, subclass_result]
    eithers: list[Node[int | str]] = [first, summary, kinds.input]
    steps: list[Step[object]] = [pages[0], moods[0], save]
    assert_type(await run.output(steps[0]), object)
    assert_type(eithers[0], Node[int | str])


def a_node_gives_the_handle_of_its_value() -> None:
    assert_type(website.blob, BlobNode[Page])
    assert_type(stream_result.blob, BlobNode[bytes])
    assert_type(handle_result.blob, BlobNode[list[str]])
    assert_type(analyze.input.blob, BlobNode[Website])
    wider: list[Node[Blob[Sentiment]]] = [subclass_result.blob, typed_dict_result.blob]
    assert_type(wider[0], Node[Blob[Sentiment]])


def a_step_that_may_be_skipped_gives_none_too() -> None:
    assert_type(skipped.or_none, OptionalNode[str])
    assert_type(skipped_with_all_below.or_none, OptionalNode[list[str]])
    assert_type(skipped_map.or_none, OptionalNode[list[dict[str, Any]]])
    assert_type(takes_none_for_a_map.or_none, OptionalNode[int])
    assert_type(skipped_in_the_end.or_none, OptionalNode[int])
    assert_type(skipped_and_lost.or_none, OptionalNode[list[int | None]])
    assert_type(skipped.or_none.blob, OptionalBlobNode[str])
    texts_or_none: Node[list[str] | None] = skipped_with_all_below.or_none
    assert texts_or_none is not None
    assert_type(skippable_of_untyped.or_none, OptionalNode[int])
    assert_type(skippable_of_any.or_none, OptionalNode[int])
    assert_type(links.each, EachNode[str])
    assert_type(skipped_map.each, EachNode[dict[str, Any]])
    assert_type(skipped_with_all_below(["a"]), list[str])


def a_flow_has_the_type_of_its_input() -> None:
    assert_type(analyze, Flow[Website])
    assert_type(analyze.input, ValueNode[Website])
    assert_type(analyze.context, Node[Context])
    assert_type(analyze.steps, Mapping[str, Step[Any]])
    assert_type(untyped, Flow[Any])
    assert_type(texts, Flow[list[str]])
    assert_type(tables, Flow[dict[str, Any]])
    assert_type(maybe, Flow[str | None])
    assert_type(maybe.input, ValueNode[str | None])


async def a_step_is_called_like_its_function(context: Context) -> None:
    assert_type(website, StepFunction[[Website], Awaitable[Page], Page])
    assert_type(await website({"url": "https://example.org"}), Page)
    assert_type(summary({"html": ""}), str)
    assert_type(await save({"url": ""}, {"score": 1}, ""), bool)
    assert_type(await first(context, {"html": ""}), int)
    assert_type(partial_function(1), int)
    assert_type(await bound_method(1), float)
    assert_type(nine(1, 2, 3), int)
    await tick()
    tock()


async def a_run_is_started_with_the_input_of_its_flow(client: Client) -> None:
    run = await client.start(analyze, Website(url="https://example.org"))
    assert_type(run, Run)
    await client.start(texts, ["one", "two"])
    await client.start(maybe, None)
    await client.start(untyped, 1)
    await client.start("known_by_its_slug", {"any": "value"})
    await client.start(texts, ["one"], delay=30)
    await client.start_many("known_by_its_slug", [1], delay=0.5)
    await client.start("known_by_its_slug", 1, at=datetime(2026, 12, 24, tzinfo=UTC))
    assert_type(await run.result(), dict[str, Any])
