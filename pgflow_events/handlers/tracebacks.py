"""The traceback of what a handler raised, from the handler on.

How the engine came to call the handler is of no use to who wrote it: frames of the engine and of
trio are left out where a traceback begins, and in each cause and each member of a group likewise.
"""

import contextlib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from traceback import FrameSummary, StackSummary, TracebackException, extract_tb

from blobstore import BlobError
from pgflow_events.errors import PgflowError

ENGINE = Path(__file__).parents[1]
EXAMPLES = tuple(f"{ENGINE / folder}/" for folder in ("demo", "bench"))  # they have handlers
CALLERS = ("blobstore", "trio", "outcome", "trio_parallel", "cloudpickle")
CALLING = (
    f"{ENGINE}/",
    *(
        f"{Path(spec.origin).parent}/"
        for name in CALLERS
        if (spec := find_spec(name)) and spec.origin
    ),
    contextlib.__file__,
)


def traceback_of(error: BaseException) -> str:
    """The whole text: causes, members and all."""
    told = TracebackException(type(error), error, error.__traceback__, compact=True)
    on_purpose = issubclass(type(error), PgflowError | BlobError)
    for part in _parts(told):
        _trim(part.stack, raised_on_purpose=on_purpose and part is told)
    return "".join(told.format()).rstrip()


def frames_of(error: BaseException) -> str:
    """The places alone, without what the error says."""
    stack = extract_tb(error.__traceback__)
    _trim(stack)
    return "".join(stack.format()).rstrip()


def _parts(told: TracebackException) -> Iterator[TracebackException]:
    """An error with its causes and members, and theirs; each once."""
    left, seen = [told], set[int]()
    while left:
        part = left.pop()
        if id(part) not in seen:
            seen.add(id(part))
            yield part
            near = (part.__cause__, part.__context__, *(part.exceptions or ()))
            left += [other for other in near if other is not None]


def _trim(stack: StackSummary, *, raised_on_purpose: bool = False) -> None:
    """Leave out the frames before the handler's first.

    Where there is none of the handler's, the error is the engine's own: if it was raised on
    purpose, its text says all, and else all frames are wanted.
    """
    first = next((n for n, frame in enumerate(stack) if not is_calling(frame)), None)
    del stack[: len(stack) if first is None and raised_on_purpose else first or 0]


def is_calling(frame: FrameSummary) -> bool:
    """Whether it is one of those by which a handler comes to be called."""
    name = frame.filename
    return name.startswith(CALLING) and not name.startswith(EXAMPLES)
