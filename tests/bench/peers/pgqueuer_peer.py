"""PgQueuer on asyncpg, its recommended driver. A payload of bytes; done jobs go to a log."""

import asyncio

import asyncpg
import talk
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries


async def set_up() -> None:
    """Create its tables."""
    await Queries(AsyncpgDriver(await asyncpg.connect(talk.URL))).install()


async def work() -> None:
    """Until the end."""
    talk.ready_to_work()
    queuer = PgQueuer(AsyncpgDriver(await asyncpg.connect(talk.URL)))

    @queuer.entrypoint("job")
    async def job(job: Job) -> None:
        talk.started(int(job.payload))

    @queuer.entrypoint("first")
    async def first(job: Job) -> None:
        page = talk.first(int(job.payload))
        await queuer.qm.queries.enqueue("second", page.encode())

    @queuer.entrypoint("second")
    async def second(job: Job) -> None:
        talk.second(job.payload.decode())

    await queuer.run(**talk.OPTIONS)


async def enqueue() -> None:
    """Enqueue jobs as the driver wishes."""
    queries = Queries(AsyncpgDriver(await asyncpg.connect(talk.URL)))
    name = "job" if talk.ORDER["scenario"] in {"wake", "drain"} else "first"
    for command in talk.commands():
        if command.bulk:
            payloads = [str(number).encode() for number in command.numbers]
            await queries.enqueue([name] * len(payloads), payloads, [0] * len(payloads))
        for number in () if command.bulk else command.paced():
            await queries.enqueue(name, str(number).encode())


if __name__ == "__main__":
    asyncio.run({"setup": set_up, "work": work, "enqueue": enqueue}[talk.ROLE]())
