"""Flows with maps, elements that are lost, and steps that are skipped."""

from typing import Any, TypedDict

from pgflow_events import Context, PermanentError
from tests.torture.behaviour import Given, attend, chance
from tests.torture.making import Told, make

LENGTHS = [0, 1, 2, 6, 15, 30]  # of lists
SIZES = [0, 20, 20_000]  # of an element: inline or a blob, and so the output
LOST = 7  # one in so many elements
SPOTS = 6


class Link(TypedDict):
    """An element, which knows its place."""

    place: int
    text: str


# A map of a map, and one that loses elements.
maps = make("torture_maps", timeout=2)


@maps.step(maps.context, maps.input)
async def links(context: Context, given: Given) -> list[Link]:
    await attend(context, given)
    return links_of(given)


@maps.step(links.each, maps.context, maps.input)
async def told(link: Link, context: Context, given: Given) -> Told:
    await attend(context, given, link["place"])
    return {"attempt": context.attempt, "value": link}


@maps.step(told.each, maps.context, maps.input)
async def sized(link: Told, context: Context, given: Given) -> list[int]:
    place = int(link["value"]["place"])
    await attend(context, given, place)
    return [place, len(link["value"]["text"])]


@maps.step(sized, maps.context, maps.input)
async def whole(sizes: list[list[int]], context: Context, given: Given) -> list[list[int]]:
    await attend(context, given)
    return sizes


@maps.step(links.each, maps.context, maps.input, lost="none", tolerate=0.5)
async def tried(link: Link, context: Context, given: Given) -> int:
    await attend(context, given, link["place"])
    if is_lost(link["place"]):
        raise PermanentError("this element was meant to be lost")
    return link["place"]


@maps.step(tried, maps.context, maps.input)
async def kept(places: list[int | None], context: Context, given: Given) -> list[int | None]:
    await attend(context, given)
    return places


# Steps that are skipped by their conditions, one of them with what depends on it, and a map that is
# skipped when an element fails for good while others are at work.
skips = make("torture_skips", timeout=2)


class Parity(TypedDict):
    """What conditions look at."""

    odd: bool


@skips.step(skips.context, skips.input)
async def parity(context: Context, given: Given) -> Parity:
    await attend(context, given)
    return {"odd": given["n"] % 2 == 1}


@skips.step(parity, skips.context, skips.input, run_if=parity.contains({"odd": True}))
async def odd(_: Parity, context: Context, given: Given) -> int:
    await attend(context, given)
    return given["n"]


@skips.step(
    parity,
    skips.context,
    skips.input,
    run_unless=parity.contains({"odd": True}),
    unmet="skip-cascade",
)
async def even(_: Parity, context: Context, given: Given) -> int:
    await attend(context, given)
    return given["n"]


@skips.step(even.or_none, skips.context, skips.input, start_delay=1)
async def below(number: int | None, context: Context, given: Given) -> int | None:
    await attend(context, given)
    return number


@skips.step(skips.context, skips.input)
async def spots(context: Context, given: Given) -> list[int]:
    await attend(context, given)
    return list(range(SPOTS))


@skips.step(spots.each, skips.context, skips.input, exhausted="skip")
async def seen(place: int, context: Context, given: Given) -> int:
    await attend(context, given, place)
    if place == 2 and is_given_up(given):
        raise PermanentError("this map was meant to be skipped")
    return place


@skips.step(odd.or_none, seen.or_none, skips.context, skips.input)
async def joined(
    number: int | None, places: list[int] | None, context: Context, given: Given
) -> list[Any]:
    await attend(context, given)
    return [number, places]


def links_of(given: Given) -> list[Link]:
    """What the maps go over."""
    luck = chance(given, "links")
    size = luck.choice(SIZES)
    return [{"place": place, "text": "é" * size} for place in range(luck.choice(LENGTHS))]


def is_lost(place: int) -> bool:
    """Whether this element is lost."""
    return place % LOST == LOST - 1


def is_given_up(given: Given) -> bool:
    """Whether the map of this run is skipped."""
    return given["n"] % 3 == 0


def output_of_maps(given: Given) -> dict[str, Any]:
    """What has to come of the maps."""
    found = links_of(given)
    return {
        "whole": [[link["place"], len(link["text"])] for link in found],
        "kept": [None if is_lost(link["place"]) else link["place"] for link in found],
    }


def output_of_skips(given: Given) -> dict[str, Any]:
    """What has to come of the steps that are not skipped."""
    is_odd = given["n"] % 2 == 1
    places = None if is_given_up(given) else list(range(SPOTS))
    joined = {"joined": [given["n"] if is_odd else None, places]}
    return joined if is_odd else joined | {"below": given["n"]}
