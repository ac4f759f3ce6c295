"""The traceback of an error that a handler raised, from the handler on.

The author of a handler does not need to see how the engine called it. So the leading frames of the
engine and of trio are left out, also in each cause and each member of a group.
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
    """The whole text, with causes and members of groups."""
    told = TracebackException(type(error), error, error.__traceback__, compact=True)
    on_purpose = issubclass(type(error), PgflowError | BlobError)
    for part in _parts(told):
        _trim(part.stack, raised_on_purpose=on_purpose and part is told)
    return "".join(told.format()).rstrip()


def frames_of(error: BaseException) -> str:
    """The frames alone, without the text of the error."""
    stack = extract_tb(error.__traceback__)
    _trim(stack)
    return "".join(stack.format()).rstrip()


def _parts(told: TracebackException) -> Iterator[TracebackException]:
    """An error with all of its causes and members, at any depth; each once."""
    left, seen = [told], set[int]()
    while left:
        part = left.pop()
        if id(part) not in seen:
            seen.add(id(part))
            yield part
            near = (part.__cause__, part.__context__, *(part.exceptions or ()))
            left += [other for other in near if other is not None]


def _trim(stack: StackSummary, *, raised_on_purpose: bool = False) -> None:
    """Leave out the frames before the handler's first frame.

    Without a frame of the handler, the engine raised the error. If it did so on purpose, the text
    says everything and all frames are left out; otherwise all frames are kept.
    """
    first = next((n for n, frame in enumerate(stack) if not is_calling(frame)), None)
    del stack[: len(stack) if first is None and raised_on_purpose else first or 0]


def is_calling(frame: FrameSummary) -> bool:
    """Whether the frame belongs to the code that calls handlers."""
    name = frame.filename
    return name.startswith(CALLING) and not name.startswith(EXAMPLES)
