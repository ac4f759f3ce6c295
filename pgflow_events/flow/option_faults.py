"""What may be wrong with the options of a flow or step, and what the user may have meant.

The flow adds the names of the flow and the step.
"""

from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches

from pgflow_events.flow.nodes import Node
from pgflow_events.texts import unambiguous

_LEAST = {
    "max_attempts": 1,
    "base_delay": 0,
    "timeout": 1,
    "blob_threshold": 0,
    "keep_output": 0,
    "start_delay": 0,
}
# What PostgreSQL's type integer holds.
_MOST = 2**31 - 1
_LONGEST_TYPE = 200  # characters of a media type
_LONGEST_QUOTE = 200  # characters of a value in a message
_DATA = (str, bytes, int, float, list, dict, set, tuple)

# What other libraries call our options.
_MEANT = {
    "max_attempts": "attempts tries max_tries retry retries max_retries retry_limit num_retries",
    "base_delay": "delay retry_delay backoff retry_backoff retry_delay_seconds wait interval",
    "timeout": "time_limit timeout_seconds timeout_s deadline start_to_close_timeout max_runtime",
    "blob_threshold": "threshold inline_limit max_inline",
    "keep_output": "keep ttl retention result_ttl keep_result expire expires result_expires",
    "media_type": "content_type mime mime_type mimetype type",
    "by_element": "elements by_elements per_element map each",
    "cpu_bound": "cpu process processes in_process pool executor",
    "slug": "name step_name task_name id key",
    "input": "input_type input_schema schema model payload",
}
_NODES = {"after", "depends_on", "dependencies", "deps", "needs", "requires", "upstream", "inputs"}


def name_faults(given: Collection[str], known: Collection[str]) -> Iterator[str]:
    """Name the options that do not exist, and those that the user may have meant."""
    unknown = [name for name in given if name not in known]
    for name in unknown:
        yield f"there is no option {_clipped(name)}{_hint(name, known)}"
    if unknown:
        yield f"the options are {', '.join(known)}"


def range_faults(options: Mapping[str, object]) -> Iterator[str]:
    """Name the options that are not whole numbers within their range."""
    for name, value in options.items():
        # In Python, True is an int. Here it is a mistake.
        if isinstance(value, bool) or not isinstance(value, int):
            yield f"{name} is a whole number, not {quoted(value)}"
        elif not _LEAST[name] <= value <= _MOST:
            yield f"{name} is {_LEAST[name]} to {_MOST}, not {quoted(value)}"


def kind_faults(media_type: object, **switches: object) -> Iterator[str]:
    """Say if the media type is not one, and which switches are neither True nor False."""
    if media_type is not None and not is_media_type(media_type):
        yield f"media_type is a text such as 'text/html', not {quoted(media_type)}"
    for name, value in switches.items():
        if not isinstance(value, bool):
            yield f"{name} is True or False, not {quoted(value)}"


def input_faults(kind: object) -> Iterator[str]:
    """Say if this is data and not a type. What else is a type, only type checkers can decide."""
    if isinstance(kind, (*_DATA, Node)):
        yield f"input is the type of the input, such as dict, not {quoted(kind)}"


def is_media_type(value: object) -> bool:
    """Whether it is a type and a subtype, such as `text/html`, with or without parameters."""
    return (
        type(value) is str
        and 0 < len(value) <= _LONGEST_TYPE
        and all(map(bool, value.split(";")[0].partition("/")))
        and value.isascii()
        and value.isprintable()
    )


def quoted(value: object) -> str:
    """A value as a message quotes it. It is cut if it is long, and its repr may raise."""
    try:
        return _clipped(value)
    except Exception:  # noqa: BLE001 - it is the user's: a repr may fail, or have 5,000 digits
        return f"a value of type {type(value).__name__}"


def _clipped(value: object) -> str:
    text = unambiguous(repr(value))
    return text if len(text) <= _LONGEST_QUOTE else f"{text[: _LONGEST_QUOTE - 1]}…"


def _hint(name: str, known: Collection[str]) -> str:
    if name in _NODES:
        return " (the steps that it follows are given first, without a name)"
    meant = [option for option in known if name in _MEANT.get(option, "").split()]
    near = meant or get_close_matches(name, known, n=1)
    return f" (did you mean {near[0]}?)" if near else ""
