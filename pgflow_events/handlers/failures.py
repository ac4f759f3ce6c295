"""Turns an error that a handler raised into text, without trusting the error.

Handlers may raise anything: an error whose text is a page, never returns or raises another error,
or a group in which each group holds the next one twice. So errors are looked at in a thread, for a
limited time, and with as little use of their own code as possible.
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

TEXT_TIMEOUT = 2.0  # seconds that the text of an error may take
LONGEST_ERROR = 8000  # characters of an error that are kept
LONGEST_TRACEBACK = 20_000  # characters of a traceback that are logged
MOST_MEMBERS = 100  # members of a group that its description names

# Replaces the text of an error that may quote an encrypted value.
WITHHELD = "its text is in the log of the worker alone, as values are encrypted"

OURS = Path(__file__).parents[1], Path(blobstore.__file__).parent

# Not read as attributes, which a metaclass may have replaced.
_name_of = type.__dict__["__name__"].__get__
_exceptions_of = BaseExceptionGroup.exceptions.__get__

_threads = trio.CapacityLimiter(math.inf)


@dataclass(frozen=True, slots=True)
class Failure:
    """An error in text.

    Attributes:
        text: Its type and text, to be stored.
        bare: Its type and the place where it was raised, to be stored instead if the text may
            quote an encrypted value.
        permanent: Whether another attempt would be in vain.
        traceback: The text for the log.
    """

    text: str
    bare: str
    permanent: bool
    traceback: str


class Failed(Exception):
    """A handler failed in another process.

    Args:
        failure: The error in text.
    """

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.text)
        self.failure = failure


async def look_at(error: BaseException) -> Failure:
    """Turn an error into text, within some seconds.

    It can be cancelled at once; its thread is then left to end by itself.
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
    """Turn an error into text, however long that takes."""
    text = describe(error)
    bare = text if _is_ours(error) else describe(error, _place_of)
    return Failure(text, bare, _is_permanent(error), advised(_loggable(error) or text, text))


def advised(traceback: str, text: str) -> str:
    """A traceback with the advice that the error's text has and Python does not know."""
    missing = [known for known in ADVICE if known in text and known not in traceback]
    return "\n".join([traceback, *(known[2:-1] for known in missing)])


@contextmanager
def refusals_of(whose: str) -> Iterator[None]:
    """Name the source of a value that is refused in this block."""
    try:
        yield
    except ValueRefused as error:
        raise refused(whose, error) from None


def refused(whose: str, error: ValueRefused) -> ValueRefused:
    """The same refusal, with the source of the value."""
    return type(error)(f"{whose} cannot be stored: {error}")


def _is_group(error: BaseException) -> bool:
    """Whether an error is a group."""
    return issubclass(type(error), BaseExceptionGroup)


def _walk(error: BaseException) -> Iterator[BaseException]:
    """An error and, of a group, everything in it, without recursion: it may be deep.

    A group that is in several groups comes several times; only the first time with its members.
    """
    nested, seen = [error], set[int]()
    while nested:
        member = nested.pop()
        yield member
        if _is_group(member) and id(member) not in seen:
            seen.add(id(member))
            nested.extend(reversed(_exceptions_of(member)))


def _members(error: BaseException) -> Iterator[BaseException]:
    """The errors in a group and in its nested groups; an error that is not a group itself."""
    return (member for member in _walk(error) if not _is_group(member))


def _is_tangled(error: BaseException) -> bool:
    """Whether some group occurs more than once; a traceback would print each occurrence."""
    groups = [id(member) for member in _walk(error) if _is_group(member)]
    return len(groups) > len(set(groups))


def _is_permanent(error: BaseException) -> bool:
    """Whether another attempt would be in vain. Nurseries raise groups, so members count too."""
    return any(
        issubclass(kind, PermanentError | BlobError) and not issubclass(kind, BlobUnavailable)
        for kind in map(type, _members(error))
    )


def describe(error: BaseException, one: Callable[[BaseException], str] | None = None) -> str:
    """The text of an error for the database: `one` (default: `headline`) of it and of its members.

    In PostgreSQL, a text cannot hold U+0000 or lone surrogates. It should not hold megabytes.
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
    except BaseException as fault:  # noqa: BLE001 - the code of the error may raise anything
        return f"{name} (its text raised {_name_of(type(fault))})"


def _is_ours(error: BaseException) -> bool:
    """Whether the text of an error is ours, and so never quotes a value.

    The texts of refusals do not count: they name a place in a value by its keys.
    """
    kind = type(error)
    if not issubclass(kind, PgflowError | BlobError):
        return False
    if issubclass(kind, ValueRefused) and kind is not ValueTooLarge:
        return False
    files = list(files_of(error))  # empty if the error was never raised
    return not files or any(files[-1].is_relative_to(folder) for folder in OURS)


def _place_of(error: BaseException) -> str:
    """The type of one error, and the place where it was raised."""
    name = _name_of(type(error))
    frames = walk_tb(BaseException.__dict__["__traceback__"].__get__(error))
    for code, line in deque(((frame.f_code, line) for frame, line in frames), 1):
        name += f" in {code.co_name} ({Path(code.co_filename).name}:{line})"
    return f"{name}: {WITHHELD}"


def _loggable(error: BaseException) -> str:
    """The traceback of an error; empty if making it fails.

    Its middle is left out if it is long: the message of an error may hold a page.
    """
    try:
        text = frames_of(error) if _is_tangled(error) else traceback_of(error)
    except BaseException:  # noqa: BLE001 - the error's attributes may be anything
        return ""
    if len(text) > LONGEST_TRACEBACK:
        half = LONGEST_TRACEBACK // 2
        text = f"{text[:half]}\n[…]\n{text[-half:]}"
    return text.encode("utf-8", "replace").decode()
