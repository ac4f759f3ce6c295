"""Flows of all shapes, whose handlers note each attempt before they do anything."""

import hashlib
import os
from collections.abc import AsyncIterator, Mapping
from typing import Any

from blobstore import Blob
from pgflow_events import Context, Flow, PermanentError
from tests.torture.behaviour import Given, attend, attend_in_thread, chance
from tests.torture.making import MANY, Told, make
from tests.torture.map_flows import maps, skips

MIB = 1024 * 1024
PIECE = 256 * 1024
TEXT = (10_000, 120_000)  # bytes of a page
FILE = (MIB, 6 * MIB)  # of a file; a chunk is 4 MiB

FAN = 7
SMALL = "torture_small_"

# Fan-out and join.
fan = make("torture_fan", timeout=2)


@fan.step(fan.context, fan.input)
async def split(context: Context, given: Given) -> Told:
    await attend(context, given)
    return {"attempt": context.attempt, "value": [given["n"] + i for i in range(FAN)]}


def square(place: int) -> None:
    @fan.step(fan.context, fan.input, split, slug=f"square_{place}")
    async def step(context: Context, given: Given, numbers: Told) -> int:
        await attend(context, given)
        return int(numbers["value"][place]) ** 2

    squares.append(step)


squares: list[Any] = []
for each in range(FAN):
    square(each)


@fan.step(fan.context, fan.input, *squares, timeout=1)
async def total(context: Context, given: Given, *numbers: int) -> int:
    await attend(context, given)
    return sum(numbers)


# A chain, one step of which runs in a thread, and another waits before it is tried again.
chain = make("torture_chain", timeout=2)


@chain.step(chain.context, chain.input)
async def first(context: Context, given: Given) -> Told:
    await attend(context, given)
    return {"attempt": context.attempt, "value": 3 * given["n"]}


@chain.step(chain.context, chain.input, first)
def second(context: Context, given: Given, number: Told) -> int:
    attend_in_thread(context, given)
    return int(number["value"]) + 1


@chain.step(chain.context, chain.input, second, base_delay=1)
async def third(context: Context, given: Given, number: int) -> str:
    await attend(context, given)
    return f"{number}!"


# Blobs, and a list of them.
pages = make("torture_pages", timeout=2)


@pages.step(pages.context, pages.input)
async def page(context: Context, given: Given) -> str:
    await attend(context, given)
    return page_of(given)


@pages.step(pages.context, pages.input, page, by_element=True)
async def parts(context: Context, given: Given, text: str) -> list[str]:
    await attend(context, given)
    size = len(text) // 3
    return [text[:size], text[size : 2 * size], text[2 * size :]]


@pages.step(pages.context, pages.input, page)
async def digest(context: Context, given: Given, text: str) -> str:
    await attend(context, given)
    return sha256(text.encode())


@pages.step(pages.context, pages.input, parts, digest, page)
async def summary(
    context: Context, given: Given, pieces: list[str], digested: str, text: str
) -> Mapping[str, Any]:
    await attend(context, given)
    return {"sha256": digested, "whole": "".join(pieces) == text, "length": len(text)}


@pages.step(pages.context, pages.input, page.blob)
async def copy(context: Context, given: Given, text: Blob[str]) -> Blob[str]:
    await attend(context, given)
    return text


# A file in chunks, each a commit of its own.
files = make("torture_files", timeout=2)


@files.step(files.context, files.input)
async def file(context: Context, given: Given) -> AsyncIterator[bytes]:
    await attend(context, given)
    content = file_of(given)
    for start in range(0, len(content), PIECE):
        yield content[start : start + PIECE]


@files.step(files.context, files.input, file.blob)
async def hashed(context: Context, given: Given, content: Blob[bytes]) -> str:
    await attend(context, given)
    digested = hashlib.sha256()
    async with content.open() as stream:
        async for piece in stream:
            digested.update(piece)
    return digested.hexdigest()


# Runs that must fail, while a sibling is at work: for good at once, or when no attempt is left.
doomed = make("torture_doomed", timeout=1)


@doomed.step(doomed.context, doomed.input)
async def root(context: Context, given: Given) -> int:
    await attend(context, given)
    return given["n"]


@doomed.step(doomed.context, doomed.input, root, max_attempts=2)
async def fatal(context: Context, given: Given, number: int) -> None:
    await attend(context, given)
    if number % 2:
        raise PermanentError("this run was meant to fail")
    raise OSError("this attempt was meant to fail")


@doomed.step(doomed.context, doomed.input, root)
async def sibling(context: Context, given: Given, number: int) -> str:
    await attend(context, given)
    return "x" * 20_000


@doomed.step(doomed.context, fatal, sibling)
async def never(context: Context, nothing: None, text: str) -> None:
    raise AssertionError("a step ran that waits for one that failed")


# One that faults can use up the attempts of.
mortal = make("torture_mortal", max_attempts=2, timeout=1)


@mortal.step(mortal.context, mortal.input)
async def only(context: Context, given: Given) -> int:
    await attend(context, given)
    return 7 * given["n"]


# One whose tasks are done in plain SQL alone: no worker of this package knows it.
PLAIN = "torture_plain"
MAKE_PLAIN = f"""
select pgflow.create_flow('{PLAIN}', {MANY}, 0, 2);
select pgflow.add_step('{PLAIN}', 'add');
select pgflow.add_step('{PLAIN}', 'double', array['add']);
"""


def doubled(slug: str) -> Flow[Given]:
    """One of many small flows: two steps."""
    flow = make(slug, timeout=2)

    @flow.step(flow.context, flow.input)
    async def double(context: Context, given: Given) -> int:
        await attend(context, given)
        return 2 * given["n"]

    @flow.step(flow.context, flow.input, double)
    async def add(context: Context, given: Given, number: int) -> int:
        await attend(context, given)
        return number + 1

    return flow


SHAPES = (fan, chain, pages, files, doomed, mortal, maps, skips)
MORE = int(os.environ.get("TORTURE_FLOWS", len(SHAPES))) - len(SHAPES)
FLOWS = (*SHAPES, *(doubled(f"{SMALL}{n}") for n in range(MORE)))
globals().update({flow.slug: flow for flow in FLOWS})  # where the command `worker` looks for them
# How often each is started. The small ones together are started as often as the others together.
WEIGHTS = (50, 20, 12, 4, 5, 9, 6, 6, *(100 / MORE for _ in range(MORE)))


def flow_of(given: Given) -> Flow[Given]:
    """The flow of a run."""
    return chance(given, "flow").choices(FLOWS, WEIGHTS)[0]


def page_of(given: Given) -> str:
    """Some text that compresses as pages do."""
    luck = chance(given, "page")
    words = [f"<p>{luck.randrange(16**6):x}é" for _ in range(400)]
    size = luck.randrange(*TEXT)
    return "".join(luck.choices(words, k=size // 8))


def file_of(given: Given) -> bytes:
    """Bytes that cannot be compressed."""
    luck = chance(given, "file")
    return luck.randbytes(luck.randrange(*FILE))


def sha256(content: bytes) -> str:
    """The digest in hex."""
    return hashlib.sha256(content).hexdigest()
