"""This project, driven as the peers are."""

import talk
import trio

from pgflow_events import Flow, Settings, Worker, connect
from pgflow_events.schema.migrations import migrate_now


def job() -> Flow[int]:
    """A single step."""
    flow = Flow("job", input=int)

    @flow.step(flow.input)
    async def only(run: int) -> None:
        talk.started(run)

    return flow


def chain() -> Flow[int]:
    """Four steps: one, two side by side, one that waits for both."""
    flow = Flow("chain", input=int)

    @flow.step(flow.input)
    async def a(run: int) -> int:
        if talk.QUIET:
            talk.started(run)
        return run

    @flow.step(a)
    async def b(value: int) -> int:
        return value

    @flow.step(a)
    async def c(value: int) -> int:
        return value

    @flow.step(b, c)
    async def d(value: int, _: int) -> None:
        talk.started(value)

    return flow


def payload() -> Flow[int]:
    """Two steps, the first of which gives a page to the second."""
    flow = Flow("payload", input=int)

    @flow.step(flow.input)
    async def first(run: int) -> str:
        return talk.first(run)

    @flow.step(first)
    async def second(page: str) -> int:
        return talk.second(page)

    return flow


FLOWS = [job(), chain(), payload()]
SCENARIO_FLOWS = {"wake": "job", "drain": "job", "chain": "chain", "load": "chain"}


async def set_up() -> None:
    """Let a worker define the flows, and leave."""
    async with trio.open_nursery() as nursery:
        worker = Worker(FLOWS, talk.DSN)
        await nursery.start(worker.run)
        worker.stop()


async def work() -> None:
    """Until the end."""
    talk.ready_to_work()
    await Worker(FLOWS, talk.DSN, settings=Settings(**talk.OPTIONS)).run()


async def enqueue() -> None:
    """Start runs as the driver wishes."""
    flow = SCENARIO_FLOWS.get(talk.ORDER["scenario"], "payload")
    async with connect(talk.DSN) as client:
        for command in talk.commands():
            if command.bulk:
                await client.start_many(flow, list(command.numbers))
            for number in () if command.bulk else command.paced():
                await client.start(flow, number)


if __name__ == "__main__":
    if talk.ROLE == "setup":
        migrate_now(talk.DSN)
    trio.run({"setup": set_up, "work": work, "enqueue": enqueue}[talk.ROLE])
