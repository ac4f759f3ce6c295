"""What is told of an error that a handler raised, whatever the error does when it is asked.

Handlers may raise anything: an error whose text is a page, is never done or raises another error,
or a group in which each group holds the next one twice. So errors are looked at in a thread, for a
limited time, and as little as can be is asked of their classes.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from traceback import walk_tb

import trio

import blobstore
from blobstore import BlobError, BlobUnavailable, ValueRefused, ValueTooLarge
from pgflow_events.errors import PermanentError, PgflowError
from pgflow_events.handlers.tracebacks import frames_of, traceback_of
from pgflow_events.misuse import ADVICE, advice, files_of

TEXT_TIMEOUT = 2.0  # seconds an error may take to tell its text
LONGEST_ERROR = 8000  # characters of an error that are kept
LONGEST_TRACEBACK = 20_000  # characters of it that are logged
MOST_MEMBERS = 100  # of a group that are looked at to describe it

# In place of the text of an error that may quote a value which is sealed.
WITHHELD = "its text is in the log of the worker alone, as values are encrypted"

OURS = Path(__file__).parents[1], Path(blobstore.__file__).parent

# Not as an attribute, which a metaclass may have replaced.
_name_of = type.__dict__["__name__"].__get__
_exceptions_of = BaseExceptionGroup.exceptions.__get__

_threads = trio.CapacityLimiter(math.inf)


@dataclass(frozen=True, slots=True)
class Failure:
    """What is told of an error.

    Attributes:
        text: Its type and text, as it is stored.
        bare: Its type and where it was raised, as it is stored where its text may quote a value
            that is sealed.
        permanent: Whether another attempt would be in vain.
        traceback: What is logged.
    """

    text: str
    bare: str
    permanent: bool
    traceback: str


class Failed(Exception):
    """A handler failed in another process.

    Args:
        failure: What is told of it.
    """

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.text)
        self.failure = failure


async def look_at(error: BaseException) -> Failure:
    """Find out what is to be told of an error, within some seconds.

    Cancelled at once, with what it has called left to end by itself.
    """
    if type(error) is Failed:
        return error.failure
    reason = "took too long"
    try:
        with trio.move_on_after(TEXT_TIMEOUT):
            return await trio.to_thread.run_sync(
                failure_of, error, abandon_on_cancel=True, limiter=_threads
            )
    except (RuntimeError, MemoryError):  # no thread can be started
        reason = "could not be read"
    text = f"{_name_of(type(error))} (its text {reason})"
    return Failure(text, text, _is_permanent(error), text)


def failure_of(error: BaseException) -> Failure:
    """What is told of an error, however long it takes."""
    text = describe(error)
    bare = text if _is_ours(error) else describe(error, _place_of)
    return Failure(text, bare, _is_permanent(error), advised(_loggable(error) or text, text))


def advised(traceback: str, text: str) -> str:
    """A traceback with the advice that the error's text has and Python does not know."""
    missing = [known for known in ADVICE if known in text and known not in traceback]
    return "\n".join([traceback, *(known[2:-1] for known in missing)])


@contextmanager
def refusals_of(whose: str) -> Iterator[None]:
    """Say of a value that is refused in this block whose it is."""
    try:
        yield
    except ValueRefused as error:
        raise refused(whose, error) from None


def refused(whose: str, error: ValueRefused) -> ValueRefused:
    """The same refusal, which says whose the value is."""
    return type(error)(f"{whose} cannot be stored: {error}")


def _is_group(error: BaseException) -> bool:
    """Whether it has members."""
    return issubclass(type(error), BaseExceptionGroup)


def _walk(error: BaseException) -> Iterator[BaseException]:
    """An error and all that is in it, if it is a group: too deep for a recursion, maybe.

    What is in several groups comes several times, without its members from the second time on.
    """
    nested, seen = [error], set[int]()
    while nested:
        member = nested.pop()
        yield member
        if _is_group(member) and id(member) not in seen:
            seen.add(id(member))
            nested.extend(reversed(_exceptions_of(member)))


def _members(error: BaseException) -> Iterator[BaseException]:
    """The errors in a group, and in the groups in it; else the error."""
    return (member for member in _walk(error) if not _is_group(member))


def _is_tangled(error: BaseException) -> bool:
    """Whether a group is in several others, or several times in one: each would be printed."""
    groups = [id(member) for member in _walk(error) if _is_group(member)]
    return len(groups) > len(set(groups))


def _is_permanent(error: BaseException) -> bool:
    """Whether another attempt would be in vain. A nursery makes a group of what is raised in it."""
    return any(
        issubclass(kind, PermanentError | BlobError) and not issubclass(kind, BlobUnavailable)
        for kind in map(type, _members(error))
    )


def describe(error: BaseException, one: Callable[[BaseException], str] | None = None) -> str:
    """An error as it is stored: what `one` says of it (its headline), and of a group's members.

    A text cannot hold U+0000 and lone surrogates in PostgreSQL, and should not hold megabytes.
    """
    one = one or headline
    text = one(error)
    if _is_group(error):
        text += f" [{'; '.join(map(one, islice(_members(error), MOST_MEMBERS)))}]"
    storable = text[:LONGEST_ERROR].replace("\0", "\N{REPLACEMENT CHARACTER}")
    return storable.encode("utf-8", "replace").decode()


def headline(error: BaseException) -> str:
    """The type and text of one error."""
    name = _name_of(type(error))
    try:
        text = f"{error}"[:LONGEST_ERROR]
        said = f"{name}: {text}" if text.strip() else name
        return f"{said}{advice(error, text)}"[:LONGEST_ERROR]
    except BaseException as fault:  # noqa: BLE001 - an error whose text cannot be had
        return f"{name} (its text raised {_name_of(type(fault))})"


def _is_ours(error: BaseException) -> bool:
    """Whether its text is ours, which never quotes a value.

    Those of refusals name the place in a value by its keys.
    """
    kind = type(error)
    if not issubclass(kind, PgflowError | BlobError):
        return False
    if issubclass(kind, ValueRefused) and kind is not ValueTooLarge:
        return False
    files = list(files_of(error))  # none of one that was made to be told, not raised
    return not files or any(files[-1].is_relative_to(folder) for folder in OURS)


def _place_of(error: BaseException) -> str:
    """The type of one error, and where it was raised."""
    name = _name_of(type(error))
    frames = walk_tb(BaseException.__dict__["__traceback__"].__get__(error))
    for code, line in deque(((frame.f_code, line) for frame, line in frames), 1):
        name += f" in {code.co_name} ({Path(code.co_filename).name}:{line})"
    return f"{name}: {WITHHELD}"


def _loggable(error: BaseException) -> str:
    """Its traceback, without the middle if it is long: a page may stand in an error's message.

    Empty if it cannot be had.
    """
    try:
        text = frames_of(error) if _is_tangled(error) else traceback_of(error)
    except BaseException:  # noqa: BLE001 - the error's attributes may be anything
        return ""
    if len(text) > LONGEST_TRACEBACK:
        half = LONGEST_TRACEBACK // 2
        text = f"{text[:half]}\n[…]\n{text[-half:]}"
    return text.encode("utf-8", "replace").decode()
