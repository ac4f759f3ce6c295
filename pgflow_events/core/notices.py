"""Logs the notices that the database sends to a worker."""

import logging
from math import inf
from time import monotonic

from psycopg.errors import Diagnostic, UndefinedTable

AGAIN = 60.0  # seconds until the same is logged again

log = logging.getLogger("pgflow_events.notices")


class Notices:
    """Logs that a queue is lost. It is not an error, because the other flows go on."""

    def __init__(self) -> None:
        self._logged: dict[str, float] = {}

    def hear(self, notice: Diagnostic) -> None:
        """Log it, unless that was done within the last minute."""
        text, now = notice.message_primary or "", monotonic()
        if notice.sqlstate != UndefinedTable.sqlstate or now < self._logged.get(text, -inf) + AGAIN:
            return
        self._logged[text] = now
        log.warning("%s", text)
