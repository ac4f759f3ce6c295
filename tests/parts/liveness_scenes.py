"""What the tests of liveness share: a flow whose handler waits, and what is said of the ring."""

import subprocess

import trio

from pgflow_events import Flow

from .observing import rows, until

LISTENING = "%%take_seat%%"
WATCHING = "%%await_seat%%"
# Others of the pool are between two calls.
SESSIONS = {
    "listens": f"query like '{LISTENING}'",
    "watches": f"query like '{WATCHING}'",
    "works": f"query not like '{LISTENING}' and query not like '{WATCHING}'",
}
TERMINATE = """
select pg_terminate_backend(pid, 5000) from pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid()
"""
# The seats that somebody waits for, and all seats that there are.
RING = """
select
  array(
    select distinct w.seat from pgflow.worker_seats w join pg_locks l
    on (l.classid::bigint << 32 | l.objid::bigint) = pgflow.seat_key(w.seat)
    where l.locktype = 'advisory' and not l.granted order by 1
  ) as watched,
  array(select w.seat from pgflow.worker_seats w order by 1) as seats,
  array(select w.worker_id from pgflow.live_workers w where w.alive order by 1) as alive
"""


class Gate:
    """A flow whose handler waits for the gate to be opened."""

    def __init__(self, **options) -> None:
        self.flow = Flow("rescue", **{"timeout": 600, **options})
        self.attempts: list[int] = []
        self.running, self.open = trio.Event(), trio.Event()
        self.flow.step(self.flow.context, slug="step")(self._step)

    async def _step(self, context):
        self.attempts.append(context.attempt)
        self.running.set()
        await self.open.wait()
        return context.attempt


async def whole(dsn: str, *workers: object) -> None:
    """Return when these workers are alive, no others are known, and each of several is watched."""
    ids = sorted(worker.id for worker in workers) if workers else None

    async def is_whole() -> bool:
        (ring,) = await rows(dsn, RING)
        watched = ring.seats if len(ring.seats) > 1 else []
        return (
            len(ring.alive) == len(ring.seats)
            and ring.watched == watched
            and ids in (None, ring.alive)
        )

    await until(is_whole)


async def asleep(process: "subprocess.Popen[str]") -> None:
    """Return when the process has a task."""
    assert await trio.to_thread.run_sync(process.stdout.readline) == "asleep\n"


async def attempts(dsn: str) -> list[int]:
    found = await rows(dsn, "select attempts_count from pgflow.step_tasks order by run_id")
    return [row.attempts_count for row in found]
