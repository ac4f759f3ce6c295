"""Decides which errors pass by themselves, by SQLSTATE, in one table.

psycopg's classes do not serve for this, because they group the codes as PEP 249 wants it. Its
`OperationalError` covers errors that a restart mends (class 08) and errors that never pass
(class 54).
"""

import logging
from collections.abc import Mapping
from enum import Enum

import psycopg
import trio

from pgflow_events.texts import joined


class Verdict(Enum):
    """What an error means for the call that met it."""

    AGAIN = "passes by itself: the call is made again"
    ELSEWHERE = "passes, but not in this session: the call is made again in another one"
    DOUBTFUL = "mostly the session is to blame: a few tries in others, and then as LATER"
    LATER = "passes when somebody mends it: the attempt fails, and the next one may succeed"
    NEVER = "the call cannot be done: its task fails for good"


AGAIN, ELSEWHERE, DOUBTFUL, LATER, NEVER = Verdict

# By code, or by the two characters of a class for its codes that have no line of their own.
SQLSTATES: dict[str, tuple[Verdict, str]] = {
    "02": (NEVER, "no data: what the call names is not there"),
    "03": (NEVER, "an SQL statement not yet complete: a fault of the caller"),
    "08": (ELSEWHERE, "the connection broke, or the way to the server did"),
    "09": (NEVER, "a triggered action refuses it"),
    "0A": (DOUBTFUL, "a plan that a migration made stale; or what the server cannot do at all"),
    "0B": (NEVER, "a transaction begun where none may begin: a fault of the caller"),
    "0F": (NEVER, "a large object that is not there"),
    "0L": (NEVER, "a grant that the grantor may not make"),
    "0P": (NEVER, "a role that is not valid"),
    "0Z": (NEVER, "GET STACKED DIAGNOSTICS outside of a handler: a fault of a function"),
    "10": (NEVER, "XQuery: a fault of the caller"),
    "20": (NEVER, "no branch of a CASE: a fault of a function"),
    "21": (NEVER, "more than one row: the data are at fault"),
    "22": (NEVER, "a value that the type cannot hold"),
    "23": (NEVER, "a row that a constraint refuses"),
    "24": (NEVER, "a cursor in another state: a fault of the caller"),
    "25": (DOUBTFUL, "the session is in another transaction than the call believes"),
    "25006": (ELSEWHERE, "read-only: a standby, until it is promoted or another host takes over"),
    "25P03": (ELSEWHERE, "the session was ended, as its transaction was idle for too long"),
    "25P04": (ELSEWHERE, "the session was ended, as its transaction took too long"),
    "26": (DOUBTFUL, "a prepared statement that this session has lost, or never had"),
    "27": (NEVER, "a trigger changed the row that was being changed"),
    "28": (ELSEWHERE, "who may log in: passwords and roles are changed under way"),
    "2B": (NEVER, "something depends on what was to be dropped"),
    "2D": (NEVER, "a commit where none may be: a fault of a function"),
    "2F": (NEVER, "a function in SQL did what it may not"),
    "34": (DOUBTFUL, "a portal that this session has lost"),
    "38": (NEVER, "a function outside of SQL failed"),
    "39": (NEVER, "a function or trigger broke the rules of calling"),
    "3B": (NEVER, "a savepoint that is not there: a fault of the caller"),
    "3D": (ELSEWHERE, "the database is not there: it may be about to be restored"),
    "3F": (LATER, "a schema is missing: somebody has to migrate"),
    "40": (AGAIN, "two transactions were in each other's way, and this one was undone"),
    "40002": (NEVER, "a row that a deferred constraint refuses"),
    "42": (LATER, "a right, a table, a function is missing: somebody has to grant, or migrate"),
    "42P05": (DOUBTFUL, "the session has a prepared statement that the call knows nothing of"),
    "44": (NEVER, "a row that a view refuses"),
    "53": (AGAIN, "disk, memory or connections are short, until others give some back"),
    "53400": (LATER, "beyond a limit that the operator set: the same call meets it again"),
    "54": (NEVER, "larger, longer or deeper than PostgreSQL can hold"),
    "55": (DOUBTFUL, "not in the state for it: the server recovers, or is a standby"),
    "55006": (AGAIN, "somebody else is using it"),
    "55P02": (LATER, "a parameter that only the operator can change"),
    "55P03": (AGAIN, "somebody holds the lock for longer than lock_timeout"),
    "55P04": (LATER, "an enum's new value, before the migration that adds it has committed"),
    "57": (ELSEWHERE, "an operator intervenes: the server stops, starts, ends sessions"),
    "57014": (AGAIN, "cancelled: by an operator, or by statement_timeout, which may be load"),
    "58": (LATER, "a file cannot be read or written: the disk is broken, others may work"),
    "72": (AGAIN, "the snapshot was too old: the next one is not"),
    "F0": (LATER, "a configuration file is broken"),
    "HV": (LATER, "a foreign server"),
    "P0": (NEVER, "a function or a trigger raised it on purpose"),
    "XX": (LATER, "a page or an index is damaged, or PostgreSQL has a bug: others may work"),
}
UNKNOWN = (LATER, "a code of an extension or of a trigger: who raised it may change his mind")

# For errors without a SQLSTATE, psycopg's own and Python's: the first class that fits counts.
CLASSES: tuple[tuple[type[Exception], Verdict, str], ...] = (
    (psycopg.OperationalError, ELSEWHERE, "the connection broke, or none can be opened"),
    (psycopg.InterfaceError, ELSEWHERE, "the connection was closed by another task"),
    (psycopg.InternalError, DOUBTFUL, "an answer that does not fit the question"),
    (psycopg.DataError, NEVER, "a value that psycopg cannot pass on"),
    (psycopg.ProgrammingError, NEVER, "a call that psycopg cannot make of this"),
    (psycopg.NotSupportedError, NEVER, "a call that psycopg or this libpq cannot make"),
    (trio.TooSlowError, AGAIN, "no answer in time: the server or the way may be slow"),
    (OSError, AGAIN, "the process or the system is short of sockets or descriptors"),
    (MemoryError, LATER, "the process is short of memory, and may have some next time"),
    (Exception, LATER, "maybe a bug in this package: it costs an attempt, and no run"),
)

READ_ONLY = "25006"
STANDBY = "the server is a standby, or was made read-only"

PASSING = {AGAIN, ELSEWHERE, DOUBTFUL}
DAMAGED = ("58", "XX")


def verdict_of(error: Exception) -> Verdict:
    """What an error means for the call that met it."""
    if isinstance(error, psycopg.Error):
        if _has_ended_session(error):
            return ELSEWHERE
        if error.sqlstate:
            return verdict_of_state(error.sqlstate)
    return next(verdict for kind, verdict, _ in CLASSES if isinstance(error, kind))


def verdict_of_state(sqlstate: str) -> Verdict:
    """The same of a SQLSTATE."""
    verdict, _ = SQLSTATES.get(sqlstate) or SQLSTATES.get(sqlstate[:2]) or UNKNOWN
    return verdict


def passes(error: Exception) -> bool:
    """Whether the same call may succeed when it is repeated."""
    return verdict_of(error) in PASSING


def needs_another_session(error: Exception) -> bool:
    """Whether another session may answer differently, so that this one must not be used again."""
    return verdict_of(error) in {ELSEWHERE, DOUBTFUL}


def is_answer(error: Exception) -> bool:
    """Whether the server raised the error in a session that goes on, so that it is at work."""
    if not isinstance(error, psycopg.Error):
        return False
    return error.sqlstate is not None and not _has_ended_session(error)


def is_silence(error: Exception) -> bool:
    """Whether there is no connection, so that no other call gets an answer either."""
    return passes(error) and not is_answer(error) and not isinstance(error, trio.TooSlowError)


def _has_ended_session(error: psycopg.Error) -> bool:
    """Whether the server ended the session with this error, for example because it was idle."""
    return error.diag.severity_nonlocalized in {"FATAL", "PANIC"}


def blames_data(sqlstate: str) -> bool:
    """Whether an error in reading a record blames the record itself.

    A missing right or table fails the reading of every record: no task must fail for that.
    """
    return sqlstate.startswith(DAMAGED) or verdict_of_state(sqlstate) is NEVER


def reason(error: Exception) -> str:
    """The text of an error, without the server's details, which quote from the row."""
    if isinstance(error, MemoryError):
        return "there is no memory"
    told = error.diag.message_primary if isinstance(error, psycopg.Error) else None
    line = joined(told or str(error) or type(error).__name__)
    return f"{line}: {STANDBY}" if is_read_only(error) else line


def is_read_only(error: Exception) -> bool:
    """Whether the server refuses writes."""
    return isinstance(error, psycopg.Error) and error.sqlstate == READ_ONLY


def report(
    log: logging.Logger, what: str, error: Exception, extra: Mapping[str, object] | None = None
) -> None:
    """Log what failed and why; with the traceback, if it may be a bug in this package."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    expected = isinstance(error, psycopg.Error | trio.TooSlowError | OSError | MemoryError)
    shown = None if expected else error
    log.error("%s: %s", what, reason(error), exc_info=shown, extra=extra)
