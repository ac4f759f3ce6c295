"""Procrastinate with its asynchronous connector. A job that is done stays."""

import asyncio

import procrastinate
import talk

app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=talk.DSN))


@app.task(name="job")
async def job(n: int) -> None:
    talk.started(n)


@app.task(name="first")
async def first(n: int) -> None:
    await second.defer_async(page=talk.first(n))


@app.task(name="second")
async def second(page: str) -> None:
    talk.second(page)


async def set_up() -> None:
    """Create its tables."""
    async with app.open_async():
        await app.schema_manager.apply_schema_async()


async def work() -> None:
    """Until the end."""
    talk.ready_to_work()
    async with app.open_async():
        await app.run_worker_async(**talk.OPTIONS)


async def enqueue() -> None:
    """Defer jobs as the driver wishes."""
    task = job if talk.ORDER["scenario"] in {"wake", "drain"} else first
    async with app.open_async():
        for command in talk.commands():
            if command.bulk:
                await task.batch_defer_async(*({"n": number} for number in command.numbers))
            for number in () if command.bulk else command.paced():
                await task.defer_async(n=number)


if __name__ == "__main__":
    asyncio.run({"setup": set_up, "work": work, "enqueue": enqueue}[talk.ROLE]())
