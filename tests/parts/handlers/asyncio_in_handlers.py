"""Prints what is told of handlers that call asyncio: each of what it gives to wait for."""

import asyncio
import json
from collections.abc import Awaitable, Callable

import trio

from pgflow_events.handlers.failures import describe


async def nothing() -> None: ...


async def in_timeout() -> None:
    async with asyncio.timeout(1):
        await nothing()


async def in_task_group() -> None:
    async with asyncio.TaskGroup():
        pass


async def in_lock() -> None:
    async with (lock := asyncio.Lock()):
        await lock.acquire()


async def asyncio_in_trio_in_asyncio() -> None:
    async def main() -> None:
        await trio.sleep(1)

    asyncio.run(main())


# Each of what asyncio gives to wait for.
FOREIGN: dict[str, Callable[[], Awaitable[object]]] = {
    "sleep": lambda: asyncio.sleep(1),
    "sleep(0)": lambda: asyncio.sleep(0),
    "gather": lambda: asyncio.gather(nothing()),
    "wait_for": lambda: asyncio.wait_for(nothing(), 1),
    "wait": lambda: asyncio.wait([nothing()]),
    "shield": lambda: asyncio.shield(nothing()),
    "to_thread": lambda: asyncio.to_thread(print),
    "create_task": lambda: asyncio.create_task(nothing()),
    "Queue.get": lambda: asyncio.Queue[int]().get(),
    "Event.wait": lambda: asyncio.Event().wait(),
    "Condition": lambda: asyncio.Condition().wait(),
    "open_connection": lambda: asyncio.open_connection("127.0.0.1", 1),
    "subprocess": lambda: asyncio.create_subprocess_exec("true"),
    "timeout": in_timeout,
    "TaskGroup": in_task_group,
    "Lock": in_lock,
    "run": asyncio_in_trio_in_asyncio,
}


async def handler(name: str) -> None:
    await FOREIGN[name]()


def told(name: str) -> str:
    try:
        trio.run(handler, name)
    except BaseException as error:  # noqa: BLE001 - asyncio raises what it likes
        return describe(error)
    return ""


if __name__ == "__main__":
    print(json.dumps({name: told(name) for name in FOREIGN}))  # noqa: T201 - for the test
