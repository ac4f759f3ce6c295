"""Runs several jobs at the same time."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

import trio

T = TypeVar("T")
U = TypeVar("U")


async def together(jobs: Iterable[Callable[[], Awaitable[T]]]) -> list[T]:
    """Run jobs together. Returns their results in order, or raises the first error alone."""
    results: dict[int, T] = {}
    failures: list[Exception] = []

    async def do(place: int, job: Callable[[], Awaitable[T]]) -> None:
        try:
            results[place] = await job()
        except Exception as error:  # noqa: BLE001 - raised below
            failures.append(error)
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for place, job in enumerate(jobs):
            nursery.start_soon(do, place, job)
    if failures:
        raise failures[0]
    return [results[place] for place in sorted(results)]


async def beside(one: Callable[[], Awaitable[T]], other: Callable[[], Awaitable[U]]) -> tuple[T, U]:
    """Run two jobs together, as :func:`together` does."""
    jobs: list[Callable[[], Awaitable[Any]]] = [one, other]
    first, second = await together(jobs)
    return first, second
