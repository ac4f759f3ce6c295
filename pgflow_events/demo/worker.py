"""A process of the demo: the worker that runs its flows.

The first message names the database. The process answers when it is ready, and works until its
standard input ends. Then it reports the number of tasks that were handed over to it.
"""

import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import trio

from pgflow_events.demo.flows import FLOWS
from pgflow_events.postgres.pool import Pool
from pgflow_events.service import child
from pgflow_events.worker.worker import Worker

ENDS_WITHIN = 5.0  # seconds to finish the tasks at hand: the database may be gone


async def work(dsn: str) -> None:
    """Run the flows of the demo."""

    @asynccontextmanager
    async def resources() -> AsyncIterator[Mapping[str, Any]]:
        async with Pool(dsn, max_size=4) as pool:
            yield {"pool": pool}

    worker = Worker(FLOWS, dsn, resources=resources)
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.run)
        child.send({"ready": True})
        await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
        worker.stop()
        nursery.cancel_scope.deadline = trio.current_time() + ENDS_WITHIN
    child.send({"handed_over": worker.handed_over})


def main() -> None:
    """Work until the standard input ends."""
    # A proxy could not reach the demo's site on this machine.
    os.environ["no_proxy"] = f"127.0.0.1,{os.environ.get('no_proxy', '')}"
    trio.run(work, child.receive()["dsn"])


if __name__ == "__main__":
    main()
