"""The state of a worker in words: for systemd, and for people who ask it."""

import trio

from pgflow_events.postgres.calls import Calls
from pgflow_events.worker.housekeeping import SelfCheck
from pgflow_events.worker.ledger import Ledger


class Health:
    """Says what a worker does, and what has been wrong with it for too long.

    Args:
        ledger: The tasks at hand.
        slots: How many tasks run at a time.
        calls: The calls to the database.
        check: The proof that notifications arrive.
    """

    def __init__(self, ledger: Ledger, slots: int, calls: Calls, check: SelfCheck) -> None:
        self._ledger, self._slots = ledger, slots
        self._calls, self._check = calls, check

    def status(self) -> str:
        """The line that systemd shows."""
        figures = f"{min(len(self._ledger.open), self._slots)} of {self._slots} slots in use"
        done = str(self._ledger)
        return f"{figures}; {done}" if done else figures

    def complaint(self, limit: float) -> str | None:
        """What has been wrong for over `limit` seconds. An idle worker learns it by self-checks."""
        late = trio.current_time() - limit
        if self._calls.silent_since < late:
            return "the database does not answer"
        return "the self-check is late" if self._check.due < late else None
