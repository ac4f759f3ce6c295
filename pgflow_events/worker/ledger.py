"""The ledger: every task that a worker has at hand, once, and what became of the rest."""

from collections.abc import Collection, Iterable, Sequence

import trio

from pgflow_events.core.tasks import ClaimedTask, Outcome
from pgflow_events.handlers.blocking import Open


class Ledger:
    """Owns the list of the tasks that were claimed and have no outcome that is committed.

    A task is entered when it is claimed. It is closed when its attempt has an outcome. It is struck
    out when that outcome is committed, or when the task is given back. Tasks are told apart by
    their addresses: an outcome names the very task that was claimed.

    Attributes:
        completed: Attempts whose output was committed, so far.
        failed: Attempts whose error was committed.
        released: Tasks given back.
    """

    def __init__(self) -> None:
        self.completed = self.failed = self.released = 0
        self._at_hand: dict[int, ClaimedTask] = {}
        self._open: dict[int, tuple[ClaimedTask, float]] = {}
        self._changed = trio.Event()

    @property
    def at_hand(self) -> list[ClaimedTask]:
        """The tasks that were claimed, and whose outcome is not known to be committed."""
        return list(self._at_hand.values())

    @property
    def open(self) -> Open:
        """Those of them that have no outcome yet; it changes with the ledger."""
        return self._open

    @property
    def uncommitted(self) -> int:
        """How many of them have an outcome."""
        return len(self._at_hand) - len(self._open)

    def enter(self, tasks: Sequence[ClaimedTask]) -> None:
        """Note tasks that were claimed just now."""
        now = trio.current_time()
        for task in tasks:
            self._at_hand[id(task)] = task
            self._open[id(task)] = task, now
        self._changed.set()

    def close(self, task: ClaimedTask) -> float | None:
        """Note that an attempt has an outcome, which is still to be committed.

        Returns:
            When it was claimed; None if it had an outcome before.
        """
        entry = self._open.pop(id(task), None)
        self._changed.set()
        return entry[1] if entry else None

    def count(self, outcomes: Sequence[Outcome], refused: Collection[int]) -> None:
        """Strike out outcomes that were committed; those at the places `refused` do not count."""
        self._strike(outcome.task for outcome in outcomes)
        accepted = [outcome for n, outcome in enumerate(outcomes) if n not in refused]
        failed = sum(outcome.error is not None for outcome in accepted)
        self.failed += failed
        self.completed += len(accepted) - failed
        self._changed.set()

    def give_back(self, tasks: Sequence[ClaimedTask], released: int) -> None:
        """Strike out tasks given back; `released` of them had not been settled meanwhile."""
        self._strike(tasks)
        self.released += released

    def _strike(self, tasks: Iterable[ClaimedTask]) -> None:
        for task in tasks:
            self._at_hand.pop(id(task), None)
            self._open.pop(id(task), None)

    async def change(self) -> None:
        """Wait for the next change. For one task at a time."""
        self._changed = trio.Event()
        await self._changed.wait()

    def __str__(self) -> str:
        """In words, as `3 completed, 1 failed`."""
        counts = {
            "completed": self.completed,
            "failed": self.failed,
            "given back": self.released,
        }
        return ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)
