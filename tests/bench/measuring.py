"""Percentiles, processes and pages that several benchmarks share."""

import pydoc
import sys
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from functools import cache
from importlib import import_module
from multiprocessing import get_context
from typing import TypeVar

import trio

T = TypeVar("T")


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of all is not above."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


async def in_process(function: Callable[..., T], *arguments: object) -> T:
    """Call a function of a module in a process of its own."""

    def call() -> T:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            return pool.submit(function, *arguments).result()

    return await trio.to_thread.run_sync(call)


@cache
def pages() -> tuple[str, ...]:
    """Real HTML, 10 MB of it: what pydoc makes of the modules of the standard library."""
    drawn = []
    for name in sorted(sys.stdlib_module_names):
        # Some of the others open a window or a browser.
        if name.startswith("_") or name in {"antigravity", "idlelib", "this", "turtledemo"}:
            continue
        with warnings.catch_warnings(), suppress(ImportError):
            warnings.simplefilter("ignore")
            drawn.append(pydoc.HTMLDoc().docmodule(import_module(name)))
    return tuple(drawn)


def html(size: int) -> str:
    """Real HTML of about so many characters: pages one after the other.

    From 10 MB on they come again, too far away for a compressor to notice.
    """
    whole = "".join(pages())
    return (whole * (size // len(whole) + 1))[:size]
