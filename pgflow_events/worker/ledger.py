"""What a worker has at hand, and what became of the rest."""

from collections.abc import Collection, Iterable, Sequence
from uuid import UUID

import trio

from pgflow_events.core.tasks import ClaimedTask, Outcome

Lease = tuple[UUID, str, int, int]


class Tally:
    """Owns the list of the tasks that were claimed and have no outcome that is committed.

    Attributes:
        running: How many tasks have no outcome at all.
        completed: Attempts whose output was committed, so far.
        failed: Attempts whose error was.
        released: Tasks given back.
    """

    def __init__(self) -> None:
        self.running = self.completed = self.failed = self.released = 0
        self._at_hand: dict[Lease, ClaimedTask] = {}
        self._changed = trio.Event()

    @property
    def at_hand(self) -> list[ClaimedTask]:
        """The tasks that were claimed, and whose outcome is not known to be committed."""
        return list(self._at_hand.values())

    @property
    def uncommitted(self) -> int:
        """How many of these have an outcome."""
        return len(self._at_hand) - self.running

    def take(self, tasks: Sequence[ClaimedTask]) -> None:
        """Note tasks that were claimed."""
        self._at_hand.update((lease(task), task) for task in tasks)
        self.running += len(tasks)
        self._changed.set()

    def put_down(self) -> None:
        """Note that a task has an outcome, which is still to be committed."""
        self.running -= 1
        self._changed.set()

    def count(self, outcomes: Sequence[Outcome], refused: Collection[int]) -> None:
        """Note outcomes that were committed, but for those at the places that were refused."""
        self._forget(outcome.task for outcome in outcomes)
        accepted = [outcome for n, outcome in enumerate(outcomes) if n not in refused]
        failed = sum(outcome.error is not None for outcome in accepted)
        self.failed += failed
        self.completed += len(accepted) - failed
        self._changed.set()

    def give_back(self, tasks: Sequence[ClaimedTask], released: int) -> None:
        """Note that these were given back; some may have been settled, and were not released."""
        self._forget(tasks)
        self.released += released

    def _forget(self, tasks: Iterable[ClaimedTask]) -> None:
        for task in tasks:
            self._at_hand.pop(lease(task), None)

    async def change(self) -> None:
        """Wait for the next change. For one task at a time."""
        self._changed = trio.Event()
        await self._changed.wait()

    def __str__(self) -> str:
        """In words, as ``3 completed, 1 failed``."""
        counts = {
            "completed": self.completed,
            "failed": self.failed,
            "given back": self.released,
        }
        return ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)


def lease(task: ClaimedTask) -> Lease:
    """What tells this attempt from all others."""
    return task.run_id, task.step_slug, task.task_index, task.attempt
