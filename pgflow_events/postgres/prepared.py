"""Keeps psycopg's record of the prepared statements of a session true.

psycopg records a statement as prepared when it sends PREPARE. If that is wrong, each later use of
the statement fails. It can be wrong in four ways:

- the server skips a PREPARE after an error in the same pipeline;
- a statement is lost if it was prepared between psycopg's decision to deallocate all and the
  deallocation;
- psycopg does not look at the answer to a query that it knows already, even to DISCARD ALL;
- in a pipeline, other queries have been sent by the time that answer arrives.

Names are never used twice, so a statement that only the server knows does no harm.
"""

import re
from collections.abc import Sequence

from psycopg import pq
from psycopg._preparing import Key, Prepare, PrepareManager
from psycopg._queries import PostgresQuery

DEALLOCATES = re.compile(rb"\s*(?:deallocate|discard)\b", re.IGNORECASE)


class PreparedStatements(PrepareManager):
    """psycopg's cache of the prepared statements of a connection."""

    def __init__(self) -> None:
        super().__init__()
        self._unanswered: set[bytes] = set()
        self._doubtful: set[bytes] = set()

    def get(self, query: PostgresQuery, prepare: bool | None = None) -> tuple[Prepare, bytes]:
        """Tell whether a query is prepared. None counts as prepared before a deallocation."""
        if None in self._to_flush or self._names.get(self.key(query)) in self._doubtful:
            return Prepare.NO, b""
        return super().get(query, prepare)

    def maybe_add_to_cache(self, query: PostgresQuery, prep: Prepare, name: bytes) -> Key | None:
        """Note a query, and have its answer looked at, even if the query is known already."""
        super().maybe_add_to_cache(query, prep, name)
        if DEALLOCATES.match(query.query):  # in a pipeline, queries follow before the answer
            self._names.clear()
        elif prep is Prepare.SHOULD:
            self._unanswered.add(name)
        return None if self.prepare_threshold is None else self.key(query)

    def validate(
        self, key: Key, prep: Prepare, name: bytes, results: Sequence[pq.abc.PGresult]
    ) -> None:
        """Look at the answer to a query."""
        super().validate(key, prep, name, results)
        self._unanswered.discard(name)
        self._doubtful.discard(name)

    def sync(self) -> None:
        """Note that a Sync is sent: an error before it does not stop the queries after it.

        So a statement that was prepared before it, and has no answer yet, must not be used after.
        """
        self._doubtful |= self._unanswered

    def forget(self) -> None:
        """Forget all statements, after an error: the server may have skipped later PREPAREs."""
        for each in (self._names, self._to_flush, self._unanswered, self._doubtful):
            each.clear()
        if self._prepared_idx:  # the server may have some
            self._to_flush.append(None)
