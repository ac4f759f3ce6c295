"""A process whose worker sleeps over each task that it claims: it is there to be killed."""

import sys

import trio

from pgflow_events import Context, Flow, Settings, Worker

flow = Flow("rescue", timeout=600)


@flow.step(flow.context)
async def step(context: Context) -> None:
    print("asleep", flush=True)  # noqa: T201
    try:
        await trio.sleep_forever()
    finally:
        if context.stopped:
            print(context.stopped, flush=True)  # noqa: T201


async def main() -> None:
    dsn, *pooled = sys.argv[1:]
    settings = Settings(
        slots=1, check_interval=3600, grace=3600, listen_dsn=dsn if pooled else None
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(Worker([flow], dsn, settings=settings).run)
        print("ready", flush=True)  # noqa: T201


trio.run(main)
