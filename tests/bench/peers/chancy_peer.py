"""Chancy: jobs, and workflows of jobs that pass nothing on. A job that is done stays a while.

The default executor calls plain functions in processes of its own; the asynchronous one calls
coroutines. So each handler is there twice.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import cache

import talk
from chancy import Chancy, Job, Queue, Worker
from chancy.plugin import Plugin
from chancy.plugins.leadership import Leadership
from chancy.plugins.workflow import Workflow, WorkflowPlugin

QUEUE = talk.OPTIONS.get("queue", {})
WORKFLOWS = talk.OPTIONS.get("workflows")
KIND = "coroutine" if "executor" in QUEUE else "plain"


def named(name: str, **arguments: object) -> Job:
    """A job that calls a function of this module."""
    return Job(func=f"chancy_peer.{KIND}_{name}", kwargs=arguments)


def plain_job(n: int) -> None:
    talk.started(n)


async def coroutine_job(n: int) -> None:
    talk.started(n)


def plain_step(n: int) -> None:
    if talk.QUIET:
        talk.started(n)


async def coroutine_step(n: int) -> None:
    plain_step(n)


def plain_first(n: int) -> None:
    client().sync_push(named("second", page=talk.first(n)))


async def coroutine_first(n: int) -> None:
    await client().push(named("second", page=talk.first(n)))


def plain_second(page: str) -> None:
    talk.second(page)


async def coroutine_second(page: str) -> None:
    talk.second(page)


@cache
def client() -> Chancy:
    """Who pushes from within a handler, opened when it first does."""
    return open_chancy()


def open_chancy(plugins: Sequence[Plugin] = ()) -> Chancy:
    """The application, which as shipped prints two lines a job."""
    log = logging.getLogger("chancy")
    log.setLevel(logging.WARNING)
    return Chancy(talk.URL, plugins=list(plugins), log=log)


def workflow(number: int) -> Workflow:
    """Four steps: one, two side by side, one that waits for both."""
    return (
        Workflow("chain")
        .add("a", named("step", n=number))
        .add("b", named("step", n=number), ["a"])
        .add("c", named("step", n=number), ["a"])
        .add("d", named("job", n=number), ["b", "c"])
    )


async def set_up() -> None:
    """Create its tables and the queue."""
    async with open_chancy() as chancy:
        await chancy.migrate()
        await chancy.declare(Queue("default", **QUEUE))


async def work() -> None:
    """Until the end."""
    talk.ready_to_work()
    # Only the leader starts workflows, and as shipped there is none for a minute.
    plugins = (
        [Leadership(poll_interval=1, timeout=2), WorkflowPlugin(**WORKFLOWS)] if WORKFLOWS else []
    )
    async with open_chancy(plugins) as chancy, Worker(chancy) as worker:
        await worker.wait_for_shutdown()


async def enqueue() -> None:
    """Push jobs or workflows as the driver wishes."""
    async with open_chancy() as chancy:
        push = pusher(chancy)
        for command in talk.commands():
            if command.bulk:
                await push(list(command.numbers))
            for number in () if command.bulk else command.paced():
                await push([number])


def pusher(chancy: Chancy) -> Callable[[list[int]], Awaitable[None]]:
    """What enqueues these numbers."""

    async def push_workflows(numbers: list[int]) -> None:
        for number in numbers:
            await WorkflowPlugin.push(chancy, workflow(number))

    async def push_jobs(numbers: list[int]) -> None:
        name = "job" if talk.ORDER["scenario"] in {"wake", "drain"} else "first"
        async for _ in chancy.push_many([named(name, n=number) for number in numbers]):
            pass

    return push_workflows if talk.ORDER["scenario"] in {"chain", "load"} else push_jobs


if __name__ == "__main__":
    asyncio.run({"setup": set_up, "work": work, "enqueue": enqueue}[talk.ROLE]())
