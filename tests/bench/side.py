"""A process of one side of `turns.py`: its server, its workers, or its client.

It runs in the virtual environment of that side's checkout, so it uses only what every release has.
It ends with its standard input.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import trio

from pgflow_events import EmbeddedServer, Flow, Settings, Worker, connect


def chain(slug: str, steps: int, tell: Any) -> "Flow[int]":
    """A flow of steps, one after the other; each tells when its handler starts."""
    flow = Flow(slug, input=int)
    last = flow.input
    for number in range(steps):
        last = flow.step(last, slug=f"step_{number}")(telling(number, tell))
    return flow


def telling(number: int, tell: Any) -> Any:
    async def handler(run: int) -> int:
        tell(number)
        return run

    return handler


def serve(settings: dict[str, str]) -> None:
    """Run a server, and say where its migrated database is."""
    with (
        tempfile.TemporaryDirectory(prefix="pgflow-turns-") as folder,
        EmbeddedServer(Path(folder), settings=settings) as server,
    ):
        # The attribute was called conninfo in older checkouts.
        dsn = str(getattr(server, "dsn", None) or getattr(server, "conninfo", ""))
        command = [Path(sys.executable).with_name("pgflow-events"), "migrate"]
        environment = {**os.environ, "PGFLOW_DSN": dsn}
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        say(dsn)
        sys.stdin.read()


def work(dsn: str, address: str, workers: int, flows: int, slots: int) -> None:
    """Run workers, and send a datagram when a handler of the flows `one` and `four` starts."""
    sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sender.connect(address)

    def tell(number: int) -> None:
        at = time.monotonic()
        sender.send(f"{number} {at}".encode())

    async def main() -> None:
        made = [chain("one", 1, tell), chain("four", 4, tell), chain("many", 1, lambda _: None)]
        made += [chain(f"other_{n}", 1, lambda _: None) for n in range(flows - len(made))]
        async with trio.open_nursery() as nursery:
            settings = Settings(slots=slots, connections=2)
            team = [Worker(made, dsn, settings=settings, hooks=[]) for _ in range(workers)]
            for worker in team:
                await nursery.start(worker.run)
            say("ready")
            await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
            for worker in team:
                worker.stop()

    trio.run(main)


def start(dsn: str) -> None:
    """Start a run for each line, and say when the call began, and when it returned."""

    async def main() -> None:
        async with connect(dsn) as client:
            say("ready")
            while line := await trio.to_thread.run_sync(sys.stdin.readline):
                began = time.monotonic()
                await client.start("one", int(line))
                say(f"{began} {time.monotonic()}")

    trio.run(main)


def say(what: str) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    {"serve": serve, "work": work, "start": start}[sys.argv[1]](**json.loads(sys.argv[2]))
