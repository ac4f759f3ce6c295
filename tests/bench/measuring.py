"""Percentiles, processes and pages that several benchmarks share."""

import pydoc
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from multiprocessing import get_context
from typing import TypeVar

import trio

T = TypeVar("T")

MODULES = ("builtins", "turtle", "typing", "argparse", "decimal", "datetime", "unittest.mock")


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


def pages() -> list[str]:
    """Real HTML of many sizes: what pydoc makes of modules of the standard library."""
    return [pydoc.HTMLDoc().docmodule(import_module(name)) for name in MODULES]


def html(size: int) -> str:
    """Real HTML of about so many characters: pages one after the other, then again."""
    parts, length = [], 0
    drawn = pages()
    while length < size:
        parts.append(drawn[len(parts) % len(drawn)])
        length += len(parts[-1])
    return "".join(parts)[:size]
