"""The ledger: every task that a worker has at hand, and counts of those that it had."""

from collections.abc import Collection, Iterable, Sequence

import trio

from pgflow_events.core.tasks import ClaimedTask, Outcome
from pgflow_events.handlers.blocking import Open


class Ledger:
    """Owns the list of tasks that were claimed and whose outcome is not committed yet.

    A task is entered when it is claimed. It is closed when its attempt has an outcome. It is struck
    out when that outcome is committed, or when the task is given back. Tasks are identified by
    object: an outcome refers to the very object that was claimed.

    Attributes:
        completed: Attempts whose output was committed.
        failed: Attempts whose error was committed.
        released: Tasks given back.
        stopped: Attempts that were stopped, because the task was this worker's no more.
        stops: Why attempts at hand are stopped, by the address of their task. Mostly it is empty.
    """

    def __init__(self) -> None:
        self.completed = self.failed = self.released = self.stopped = 0
        self._at_hand: dict[int, ClaimedTask] = {}
        self._open: dict[int, tuple[ClaimedTask, float]] = {}
        self.stops: dict[int, str] = {}
        self._changed = trio.Event()

    @property
    def at_hand(self) -> list[ClaimedTask]:
        """The claimed tasks whose outcome is not known to be committed."""
        return list(self._at_hand.values())

    @property
    def open(self) -> Open:
        """The tasks at hand that have no outcome yet; a view that changes with the ledger."""
        return self._open

    @property
    def uncommitted(self) -> int:
        """How many tasks at hand have an outcome."""
        return len(self._at_hand) - len(self._open)

    def enter(self, tasks: Sequence[ClaimedTask]) -> None:
        """Enter tasks that were claimed just now."""
        now = trio.current_time()
        for task in tasks:
            self._at_hand[id(task)] = task
            self._open[id(task)] = task, now
        self._changed.set()

    def put_off(self, task: ClaimedTask) -> float:
        """Let the timeout of a task count from now, as it had to wait. Return the time."""
        now = trio.current_time()
        if id(task) in self._open:
            self._open[id(task)] = task, now
        return now

    def close(self, task: ClaimedTask) -> float | None:
        """Note that an attempt has an outcome, which is still to be committed.

        Returns:
            The time of its claim; None if the attempt had an outcome before.
        """
        entry = self._open.pop(id(task), None)
        self._changed.set()
        return entry[1] if entry else None

    def stop(self, task: ClaimedTask, why: str) -> bool:
        """Note that the task is this worker's no more. False if the attempt is over already."""
        if id(task) not in self._open or id(task) in self.stops:
            return False
        self.stops[id(task)] = why
        return True

    def drop(self, task: ClaimedTask) -> None:
        """Strike out a task whose attempt was stopped, and has no outcome."""
        self._strike([task])
        self.stopped += 1
        self._changed.set()

    def count(self, outcomes: Sequence[Outcome], refused: Collection[int]) -> None:
        """Strike out committed outcomes. Those at the places `refused` do not count."""
        self._strike(outcome.task for outcome in outcomes)
        accepted = [outcome for n, outcome in enumerate(outcomes) if n not in refused]
        failed = sum(outcome.error is not None for outcome in accepted)
        self.failed += failed
        self.completed += len(accepted) - failed
        self._changed.set()

    def give_back(self, tasks: Sequence[ClaimedTask], released: int) -> None:
        """Strike out tasks given back. Of these, `released` had not been settled before."""
        self._strike(tasks)
        self.released += released

    def _strike(self, tasks: Iterable[ClaimedTask]) -> None:
        for task in tasks:
            self._at_hand.pop(id(task), None)
            self._open.pop(id(task), None)
            self.stops.pop(id(task), None)

    async def change(self) -> None:
        """Wait for the next change. Only one task may wait at a time."""
        self._changed = trio.Event()
        await self._changed.wait()

    def __str__(self) -> str:
        """The counts in words, such as `3 completed, 1 failed`."""
        counts = {
            "completed": self.completed,
            "failed": self.failed,
            "given back": self.released,
            "stopped": self.stopped,
        }
        return ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)
