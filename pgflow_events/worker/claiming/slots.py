"""How many handlers run at a time, and how many tasks are claimed ahead of brief ones."""

from math import inf

import trio

from pgflow_events.core.tasks import ClaimedTask

MOST = 128  # tasks at hand, with those claimed ahead: two commits, each of enough outcomes
AHEAD = 0.02  # seconds that a task claimed ahead may be expected to wait
PATIENCE = 0.25  # seconds after which a task that waits for a slot is given back
REST = 0.1  # seconds without an outcome after which nothing is known of the next handlers
SHARE = 1 / 32  # part of the newest attempt in the mean


class Slots:
    """Lets no more handlers run than there are slots.

    Brief handlers end before the next claim is answered. So tasks are claimed ahead of them, as
    many as will not wait for longer than `AHEAD`. Nothing is claimed ahead of slow handlers,
    because another worker may be idle.

    Args:
        slots: How many handlers may run at a time.
    """

    def __init__(self, slots: int) -> None:
        self._count = slots
        self.most_ahead = max(MOST - slots, 0)
        """How many tasks are claimed ahead at most."""
        self._inside = set[int]()
        """The tasks that run, by address."""
        self._queue = trio.lowlevel.ParkingLot()
        self._mean = 1.0  # seconds of an attempt; slow until it is known
        self._last = -inf

    def ahead(self) -> int:
        """How many tasks may be claimed now, beyond the free slots."""
        if self._mean > AHEAD or trio.current_time() > self._last + REST:
            return 0
        return int(min(self.most_ahead, self._count * AHEAD / max(self._mean, 1e-6)))

    def enter(self, task: ClaimedTask) -> bool:
        """Take a slot for a task, if one is free."""
        if len(self._inside) >= self._count:
            return False
        self._inside.add(id(task))
        return True

    async def enter_by(self, until: float, task: ClaimedTask) -> bool:
        """Wait for a slot, up to a time of trio's clock. Return whether the task has one."""
        with trio.move_on_at(until):
            while not self.enter(task):
                await self._queue.park()
            return True
        return False

    def leave(self, task: ClaimedTask, began: float, now: float) -> None:
        """Free the slot of a task, if it has one, after an attempt that began then."""
        self._inside.discard(id(task))
        self._last = now
        self._mean += (now - began - self._mean) * SHARE
        if self._queue:
            self._queue.unpark()
