"""The prepared statements of a session: what psycopg believes to be there, kept true.

psycopg notes a statement as prepared when it sends PREPARE, and each use of it fails for ever if
that was wrong. It is wrong in four ways. The server skips a PREPARE if something failed before it
in the same pipeline. What was prepared is lost if it was sent between psycopg's decision to
deallocate all and the deallocation. Of a query that psycopg knows already it does not look at the
answer, be it to DISCARD ALL; and in a pipeline others have been sent when that answer comes.

Names are never given twice, so a statement of which only the server knows is in nobody's way.
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
        """Tell whether a query is prepared; it is not while all are about to be deallocated."""
        if None in self._to_flush or self._names.get(self.key(query)) in self._doubtful:
            return Prepare.NO, b""
        return super().get(query, prepare)

    def maybe_add_to_cache(self, query: PostgresQuery, prep: Prepare, name: bytes) -> Key | None:
        """Note a query, and have the answer looked at, also if the query is known already."""
        super().maybe_add_to_cache(query, prep, name)
        if DEALLOCATES.match(query.query):  # what follows in a pipeline comes before the answer
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
        """Note that a Sync is sent: what is executed after it does not fail with what was before.

        What was prepared before it, and has no answer yet, may therefore not be used after it.
        """
        self._doubtful |= self._unanswered

    def forget(self) -> None:
        """Begin with none, as is due after each error: what was sent after it may not be there."""
        for each in (self._names, self._to_flush, self._unanswered, self._doubtful):
            each.clear()
        if self._prepared_idx:  # there may be some
            self._to_flush.append(None)
