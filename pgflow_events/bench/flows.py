"""The flows of the benchmarks.

A handler only calls `note` with the number of its run. The number is the run's input.
"""

from collections.abc import Callable
from functools import partial

import trio

from pgflow_events.flow.flow import Flow

Note = Callable[[int], object]

CHILDREN = 100


def no_note(run: int) -> None:
    """Do nothing, for scenarios that need no notes."""


def single(slug: str, note: Note = no_note, *, pause: float | None = None) -> Flow[int]:
    """One step, which sleeps for `pause` seconds."""
    flow = Flow(slug, input=int)

    @flow.step(flow.input)
    async def only(run: int) -> int:
        note(run)
        if pause is not None:
            await trio.sleep(pause)
        return run

    return flow


def four_steps(slug: str, note: Note = no_note) -> Flow[int]:
    """Step a, then b and c in parallel, then d. Only d calls the note."""
    flow = Flow(slug, input=int)

    @flow.step(flow.input)
    async def a(run: int) -> int:
        return run

    @flow.step(a)
    async def b(run: int) -> int:
        return run

    @flow.step(a)
    async def c(run: int) -> int:
        return run

    @flow.step(b, c)
    async def d(run: int, _: int) -> int:
        note(run)
        return run

    return flow


def fan_out(slug: str, root: Note, child: Note, join: Note) -> Flow[int]:
    """A root, its many dependents, and a step that depends on all of these."""
    flow = Flow(slug, input=int)

    @flow.step(flow.input, slug="root")
    async def begin(run: int) -> int:
        root(run)
        return run

    async def one(run: int) -> int:
        child(run)
        return run

    children = [flow.step(begin, slug=f"child_{number}")(one) for number in range(CHILDREN)]
    first = iter(children)

    @flow.step(*(next(first) for _ in range(9)), *first, slug="join")
    async def end(*runs: int) -> int:
        join(runs[0])
        return runs[0]

    return flow


# The flows that other processes run, by slug.
FLOWS: dict[str, Callable[[str], Flow[int]]] = {
    "bench_noop": single,
    "bench_brief": partial(single, pause=0.001),
    "bench_chain": four_steps,
    "bench_growth": single,
    "bench_slow_disk": single,
}
