"""What both type checkers must refuse: each line marked so, and no other line.

Never imported: much of it cannot be run.
"""

from collections.abc import AsyncIterator, Awaitable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, TypedDict, TypeVar

from blobstore import Blob
from pgflow_events.client.client import Client, connect
from pgflow_events.client.run import Run
from pgflow_events.flow.flow import Context, Flow, Node, Step

T = TypeVar("T")


class Website(TypedDict):
    url: str


class Page(TypedDict):
    html: str


class Sentiment(TypedDict):
    score: float


class Detailed(Sentiment):
    words: list[str]


@dataclass
class Mood:
    score: float


analyze = Flow("analyze_website", input=Website)
other = Flow("other", input=int)
untyped = Flow("untyped")


@analyze.step(analyze.input)
async def website(run: Website) -> Page:
    return {"html": run["url"]}


@analyze.step(website)
def summary(page: Page) -> str:
    return page["html"]


@analyze.step(website)
async def words(page: Page) -> list[str]:
    return page["html"].split()


@analyze.step(website)
async def maybe(page: Page) -> str | None:
    return page["html"] or None


@analyze.step(website)
async def mood(page: Page) -> Sentiment:
    return {"score": len(page)}


@analyze.step()
async def nothing() -> None: ...


# A parameter that does not accept what its node gives.


@analyze.step(analyze.input)  # rejected: the input is a Website
async def wrong_input(run: Page) -> int:
    return len(run)


@other.step(other.input)  # rejected: the input is an int
def wrong_plain_input(run: str) -> int:
    return len(run)


@analyze.step(website)  # rejected: an async dependency gives its result, not a str
async def wrong_result_of_async(page: str) -> int:
    return len(page)


@analyze.step(website)  # rejected: the same for a plain handler
def wrong_result_of_async_in_plain(page: str) -> int:
    return len(page)


@analyze.step(summary)  # rejected: a plain dependency gives a str
async def wrong_result_of_plain(page: Page) -> int:
    return len(page)


@analyze.step(words)  # rejected: the items are str
async def wrong_item(words: list[int]) -> int:
    return sum(words)


@analyze.step(maybe)  # rejected: it can be None
async def not_optional(text: str) -> int:
    return len(text)


@analyze.step(mood)  # rejected: a Sentiment need not have the words
async def narrower(mood: Detailed) -> float:
    return mood["score"]


@analyze.step(nothing)  # rejected: None is no str
def nothing_is_no_text(text: str) -> int:
    return len(text)


@untyped.step(untyped.input)
async def of_untyped(run: str) -> str:
    return run


@untyped.step(untyped.input, of_untyped)  # rejected: the second, although the first is Any
async def second_of_untyped(run: str, text: int) -> int:
    return len(run) + text


@analyze.step(website, summary)  # rejected: in the other order
async def swapped(text: str, page: Page) -> int:
    return len(text) + len(page)


@analyze.step(analyze.context, website)  # rejected: the context comes first
async def context_last(page: Page, context: Context) -> int:
    return len(page) + context.attempt


@analyze.step(website)  # rejected: the context was not asked for
async def context_not_asked_for(context: Context) -> int:
    return context.attempt


eight = analyze.step(analyze.input, website, summary, words, maybe, mood, nothing, analyze.context)


@eight  # rejected: the eighth is the context
async def wrong_eighth(  # noqa: PLR0917 - one for each node
    a: Website, b: Page, c: str, d: list[str], e: str | None, f: Sentiment, g: None, h: int
) -> int:
    return h


@untyped.step(untyped.input)
async def any_inside(run: dict[str, Any]) -> dict[str, Any]:
    return run


@untyped.step(any_inside)  # rejected: an Any inside does not make it an int
async def wrong_result_with_any_inside(table: int) -> int:
    return table


@untyped.step(any_inside, of_untyped)  # rejected: nor the next node
async def wrong_result_beside_any_inside(table: dict[str, Any], text: int) -> int:
    return len(table) + text


six = (of_untyped, of_untyped, of_untyped, of_untyped, of_untyped, of_untyped)
eight_beside_any = untyped.step(any_inside, *six, of_untyped)


@eight_beside_any  # rejected: nor the last of eight
async def wrong_eighth_beside_any_inside(  # noqa: PLR0917 - one for each node
    a: dict[str, Any], b: str, c: str, d: str, e: str, f: str, g: str, h: int
) -> int:
    return h


# Maps, and steps that may be skipped.


@analyze.step(words.each)
async def lengths(word: str) -> int:
    return len(word)


@analyze.step(words.each, lost="none")
async def perhaps(word: str) -> int:
    return len(word)


@analyze.step(words, run_if=words.contains(["good"]))
async def skippable(words: list[str]) -> str:
    return words[0]


@analyze.step(words, run_if=words.contains(["good"]), unmet="fail", exhausted="skip")
def skippable_too(words: list[str]) -> str:
    return words[0]


@analyze.step(summary.each)  # rejected: a text is no list
async def each_of_a_text(letter: str) -> int:
    return len(letter)


@analyze.step(mood.each)  # rejected: a dict is no list
async def each_of_a_dict(key: str) -> int:
    return len(key)


@analyze.step(analyze.input.each)  # rejected: the input is no list
async def each_of_the_input(run: Website) -> int:
    return len(run)


@analyze.step(words.each)  # rejected: the elements are str
async def wrong_element(word: int) -> int:
    return word


@analyze.step(words.each)  # rejected: the same for a plain handler
def plain_wrong_element(word: bytes) -> int:
    return len(word)


@analyze.step(words.each)  # rejected: an element, not the list
async def list_of_a_map(words: list[str]) -> int:
    return len(words)


@analyze.step(words.each)  # rejected: an element, not its handle
async def handle_of_an_element(word: Blob[str]) -> int:
    return word.size


@analyze.step(words.each.blob)  # rejected: its handle, not the element
async def element_of_a_handle(word: str) -> int:
    return len(word)


@analyze.step(lengths)  # rejected: a map gives a list
async def one_of_a_map(length: int) -> int:
    return length


@analyze.step(lengths)  # rejected: a list of int
def wrong_list_of_a_map(lengths: list[str]) -> int:
    return len(lengths)


@analyze.step(lengths.each)  # rejected: the elements of a map are what its handler returns
async def wrong_element_of_a_map(length: str) -> int:
    return len(length)


@analyze.step(perhaps)  # rejected: an element may be lost
async def forgets_the_lost(lengths: list[int]) -> int:
    return sum(lengths)


@analyze.step(perhaps.each)  # rejected: an element may be lost
async def forgets_a_lost_one(length: int) -> int:
    return length


@analyze.step(summary, words.each)  # rejected: the elements come first
async def elements_in_second_place(text: str, word: str) -> int:
    return len(text) + len(word)


@analyze.step(words.each, words.each)  # rejected: one list only
async def two_lists(one: str, other: str) -> int:
    return len(one) + len(other)


@analyze.step(words.each, analyze.input)  # rejected: the input is a Website
async def wrong_input_of_a_map(word: str, run: Page) -> int:
    return len(word) + len(run)


@analyze.step(words.each)  # rejected: it would come back as a list
async def tuple_of_a_map(word: str) -> tuple[str, int]:
    return word, 1


@analyze.step(skippable)  # rejected: it may be skipped
async def forgets_the_skipped(text: str) -> int:
    return len(text)


@analyze.step(summary, skippable)  # rejected: in second place, too
async def forgets_the_second(text: str, other: str) -> int:
    return len(text) + len(other)


@analyze.step(skippable.or_none)  # rejected: None is forgotten
async def forgets_none(text: str) -> int:
    return len(text)


@analyze.step(skippable_too.or_none)  # rejected: None is forgotten
def plainly_forgets_none(text: str) -> int:
    return len(text)


@analyze.step(skippable.or_none)  # rejected: the output is a str
async def wrong_or_none(text: int | None) -> int:
    return text or 0


@analyze.step(skippable.or_none.blob)  # rejected: there may be no handle
async def forgets_that_there_is_none(text: Blob[str]) -> int:
    return text.size


@analyze.step(summary.or_none)  # rejected: it is never skipped
async def never_none(text: str | None) -> int:
    return len(text or "")


analyze.step(words, run_if={"html": ""})  # rejected: a dict is no condition
analyze.step(words, run_unless=words)  # rejected: nor is a step
analyze.step(words, run_if=words.blob.contains([]))  # rejected: a handle contains nothing
analyze.step(words, run_if=words.each.contains([]))  # rejected: a condition is about the list
analyze.step(words, run_if=words.contains([]), unmet="ignore")  # rejected: no such word
analyze.step(words, exhausted="skip_cascade")  # rejected: no such word
analyze.step(words, lost="none")  # rejected: only a map may lose elements
analyze.step(words.each, tolerate=0.5)  # rejected: without lost
analyze.step(words.each, lost="skip")  # rejected: no such word
analyze.step(words.each, lost="none", tolerate="all")  # rejected: a share is a number
analyze.step(words, start_delay=0.5)  # rejected: whole seconds


# A wrong number of parameters.


@analyze.step(website)  # rejected: no parameter for it
async def missing() -> int:
    return 1


@analyze.step(website, summary)  # rejected: one parameter for two nodes
def one_missing(page: Page) -> int:
    return len(page)


@analyze.step(website)  # rejected: nothing gives the second parameter
async def extra(page: Page, text: str) -> int:
    return len(page) + len(text)


@analyze.step()  # rejected: nothing gives the parameter
def extra_without_nodes(page: Page) -> int:
    return len(page)


@analyze.step(website)  # rejected: arguments are given by position
async def by_keyword(*, page: Page) -> int:
    return len(page)


# What is no node, no option, no handler.


@analyze.step  # rejected: the parentheses are missing
async def bare(run: Website) -> int:
    return len(run)


def undecorated(run: Website) -> Page:
    return {"html": run["url"]}


analyze.step("website")  # rejected: a slug is no node
analyze.step(undecorated)  # rejected: a function is no node
analyze.step(website, undecorated)  # rejected: not in second place either
analyze.step(analyze)  # rejected: a flow is no node
analyze.step(website, retries=3)  # rejected: no such option
analyze.step(website, timeout="30")  # rejected: seconds are a number
analyze.step(website, timeout=1.5)  # rejected: whole seconds
analyze.step(website, slug=1)  # rejected: a slug is a str
analyze.step(website)("summary")  # rejected: a slug is no handler
Flow("x", max_attempts=None)  # rejected: a flow has nothing to inherit from
Flow("x", input="Website")  # rejected: a type, not its name
Flow("x", timeout="1m")  # rejected: seconds are a number
Flow(slug=1)  # rejected: a slug is a str


# A step is not its result.


def takes_text(text: str) -> None: ...


async def results(run: Run) -> None:
    takes_text(summary)  # rejected: the step, where its result is meant
    takes_text(await run.output(website))  # rejected: the result is a Page
    takes_text(await run.output(maybe))  # rejected: the result can be None
    takes_text(run.output(summary))  # rejected: it is to be awaited
    await run.output(analyze.input)  # rejected: the input is no step
    await run.output(undecorated)  # rejected: a function is no step
    takes_text(await run.output(skippable))  # rejected: it may be skipped
    await run.output(words.each)  # rejected: the output is the list
    await run.output(website.result)  # rejected: a step has no such attribute


async def starts(client: Client) -> None:
    await client.start(analyze, {"uri": ""})  # rejected: the input is a Website
    await client.start(analyze, "https://example.org")  # rejected: the input is a Website
    await client.start(analyze)  # rejected: an input is needed
    await client.start(analyze, {"url": ""}, delay="30")  # rejected: a number of seconds
    await client.start(analyze, {"url": ""}, at="2026-12-24")  # rejected: a datetime
    await client.start(website, {"url": ""})  # rejected: a step is no flow


as_text: Step[str] = website  # rejected: its result is a Page
as_detailed: Step[Detailed] = mood  # rejected: a Sentiment need not have the words
as_texts: Node[list[str | None]] = words  # rejected: lists are invariant
as_input: Flow[Page] = analyze  # rejected: its input is a Website


# A call is checked against the nodes.


async def calls(run: Website, page: Page) -> None:
    await website(page)  # rejected: takes the input
    await website({"uri": ""})  # rejected: the key is url
    await website()  # rejected: takes one argument
    await summary(page)  # rejected: a plain function's result is not awaited
    summary(page, page)  # rejected: takes one argument
    takes_text(website(run))  # rejected: not awaited
    takes_text(await website(run))  # rejected: the result is a Page
    summary("").upper()  # rejected: takes a Page


# What cannot be stored is no output.


@analyze.step(website)  # rejected: it would come back as a dict
async def dataclass_result(page: Page) -> Mood:
    return Mood(len(page))


@analyze.step(website)  # rejected: the same for a plain handler
def plain_dataclass_result(page: Page) -> Mood:
    return Mood(len(page))


@analyze.step(website)  # rejected: it would come back as a list
async def tuple_result(page: Page) -> tuple[str, int]:
    return page["html"], 1


@analyze.step(website)  # rejected: JSON has no sets
def set_result(page: Page) -> set[str]:
    return set(page["html"])


@analyze.step(website)  # rejected: one of the two cannot be stored
async def union_result(page: Page) -> str | Mood:
    return page["html"] or Mood(1)


@analyze.step(website)  # rejected: the keys of JSON are texts
def dict_result(page: Page) -> dict[int, str]:
    return {1: page["html"]}


@analyze.step(website)  # rejected: it may be anything
async def object_result(page: Page) -> object:
    return page


@analyze.step(website)  # rejected: it gives a coroutine of a coroutine
async def async_function_result(page: Page) -> Awaitable[str]:
    return nested(page)


async def nested(page: Page) -> str:
    return page["html"]


@analyze.step(website)  # rejected: a generator is no handler
def stream(page: Page) -> Iterator[str]:
    yield page["html"]


@analyze.step(website)  # rejected: a stream is one of bytes
async def async_stream(page: Page) -> AsyncIterator[str]:
    yield page["html"]


@analyze.step(website)  # rejected: a generator of bytes must be asynchronous
def plain_stream_of_bytes(page: Page) -> Iterator[bytes]:
    yield page["html"].encode()


@analyze.step(website)  # rejected: a path that leads to no file
async def pure_path(page: Page) -> PurePath:
    return PurePath(page["html"])


# A handle is not its value.


@analyze.step(website)  # rejected: the handle was not asked for
async def handle_of_a_value(page: Blob[Page]) -> int:
    return page.size


@analyze.step(website.blob)  # rejected: it gives the handle
async def value_of_a_handle(page: Page) -> int:
    return len(page)


@analyze.step(website.blob)  # rejected: the same for a plain handler
def plain_value_of_a_handle(page: Page) -> int:
    return len(page)


@analyze.step(summary.blob)  # rejected: the handle of a str
async def handle_of_another_type(text: Blob[bytes]) -> int:
    return text.size


@analyze.step(analyze.input.blob)  # rejected: the handle of a Website
def handle_of_another_input(run: Blob[Page]) -> int:
    return run.size


@analyze.step(words.blob, summary)  # rejected: the second is no handle
async def handle_in_the_wrong_place(words: Blob[list[str]], text: Blob[str]) -> int:
    return words.size + text.size


@analyze.step(summary)
async def file(text: str) -> Path:
    return Path(text)


@analyze.step(file)  # rejected: the bytes of the file, not its path
async def path_of_a_file(path: Path) -> int:
    return len(str(path))


@analyze.step(words.blob)
async def passed_on(words: Blob[list[str]]) -> Blob[list[str]]:
    return words


@analyze.step(passed_on)  # rejected: what a handle stands for, not the handle
async def handle_of_a_handle(words: Blob[list[str]]) -> int:
    return words.size


analyze.step(website, media_type=1)  # rejected: a media type is a str
analyze.step(website, by_element="yes")  # rejected: yes or no
analyze.step(website, cpu_bound="yes")  # rejected: yes or no
analyze.step(website, keep_output="1d")  # rejected: seconds are a number
Flow("x", keep_output=1.5)  # rejected: whole seconds


async def reads(blob: Blob[str]) -> None:
    takes_text(blob)  # rejected: the handle, where its value is meant
    takes_text(blob.value())  # rejected: it is to be awaited
    takes_text(await blob.bytes())  # rejected: bytes are no text
    await blob.read("0")  # rejected: a place is a number


async def opens() -> None:
    with connect(""):  # rejected: it is entered by `async with`
        ...
    await connect("")  # rejected: it is entered, not awaited
    connect("").start("flow", None)  # rejected: it is no client yet
