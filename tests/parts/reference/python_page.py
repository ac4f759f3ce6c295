"""docs/reference/python.md: every public name, from the docstrings."""

import ast
import inspect
import sys
from collections.abc import Iterator
from dataclasses import is_dataclass
from itertools import pairwise
from typing import Any

import blobstore.errors
import pgflow_events
from pgflow_events import embedded, errors, telemetry
from pgflow_events.client import client
from pgflow_events.flow import flow
from pgflow_events.worker import worker

from .docstrings import entries, items, markdown, paragraphs
from .signatures import called, docstring, fields, source_of

INTRODUCTION = """# Python reference

`make reference` writes this page from the docstrings: edit those.
Every name is imported from `pgflow_events`.
[flows.md](../guide/flows.md) explains how to define flows.
[values.md](../guide/values.md) explains how values are stored.
"""

GROUPS = {
    "Flows": [
        "Flow",
        "Step",
        "SkippableStep",
        "StepOptions",
        "Node",
        "EachNode",
        "Condition",
        "Context",
    ],
    "Workers": ["Worker", "Settings", "TaskEvent", "Hook", "log_task"],
    "Clients": ["connect", "Client", "Run"],
    "Values": ["Blob", "KeyRing", "ObjectStore"],
    "The database": ["migrate", "migrate_now", "EmbeddedServer"],
    "Errors": [
        "PgflowError",
        "DefinitionError",
        "FlowMismatch",
        "SettingsError",
        "MigrationError",
        "DatabaseTooNew",
        "EmbeddedError",
        "UnknownFlow",
        "UnknownRun",
        "RunExists",
        "UnknownStep",
        "StepSkipped",
        "RunFailed",
        "RunCancelled",
        "Misuse",
        "PermanentError",
        "HandlerTimeout",
        "HandlerCrashed",
    ],
    "Errors about values": [
        "BlobError",
        "ValueRefused",
        "ValueTooLarge",
        "NotAList",
        "BlobMisuse",
        "BlobDamaged",
        "NotSealed",
        "BlobMissing",
        "BlobForgotten",
        "BlobUnavailable",
        "KeyMissing",
        "KeyRingError",
    ],
}
# What a module says and shows at its head, at the head of its group.
HEADS = {
    "Flows": flow.__doc__,
    "Workers": worker.__doc__,
    "Clients": client.__doc__,
    "The database": embedded.__doc__,
    "Errors": errors.__doc__,
    "Errors about values": blobstore.errors.__doc__,
}

# Programs call these; what else is shown is made by them.
CALLED = {"Flow", "Worker", "Settings", "KeyRing", "ObjectStore", "EmbeddedServer"}
# What only the packages themselves call.
INNER = {
    "Blob": {"of"},
    "EmbeddedServer": {"conninfo", "place", "start_again"},
    "KeyRing": {"new_key", "open", "reseal", "seal", "unwrap"},
    "ObjectStore": {"blobs", "discard", "get", "put"},
    "Settings": {"of"},
    "Step": {"origin"},
    "Node": {"origin"},
}


def page() -> str:
    """The page."""
    blocks = [INTRODUCTION.rstrip(), *markdown(pgflow_events.__doc__ or "")]
    for title, names in GROUPS.items():
        blocks.append(f"## {title}")
        blocks += markdown(HEADS[title] or "") if title in HEADS else []
        for name in names:
            blocks += named(name, getattr(pgflow_events, name))
    return "\n\n".join(blocks) + "\n"


def named(name: str, thing: Any) -> Iterator[str]:
    """What is said of a name."""
    yield f"### {name}"
    if not inspect.isclass(thing):
        yield from function(name, thing) if inspect.isfunction(thing) else alias(name)
    elif issubclass(thing, Exception):
        bases = ", ".join(base.__name__ for base in thing.__bases__)
        yield code(f"class {name}({bases})")
        yield from markdown(thing.__doc__ or "", leave_out="Args")
    else:
        yield from of_class(name, thing)


def of_class(name: str, cls: type) -> Iterator[str]:
    """A class, its fields and its methods."""
    own = {node.name: node for node in source_of(cls).body if hasattr(node, "name")}
    listed = is_dataclass(cls)
    constructor = own.get("__init__")
    with_call = name in CALLED and constructor is not None
    yield code(called(name, constructor, is_class=True) if with_call else f"class {name}")
    yield from markdown(cls.__doc__ or "", leave_out="Attributes" if listed else "")
    if listed:
        yield "Fields:"
        yield field_list(cls)
    for node in methods(cls):
        if node.name not in INNER.get(name, ()):
            yield from method(name, node)


def field_list(cls: type) -> str:
    """The fields of a dataclass, with what the docstring of the class or their own says."""
    said: dict[str, str] = {}
    for section, paragraph in paragraphs(cls.__doc__ or ""):
        said |= entries(paragraph) if section == "Attributes" else {}
    module = sys.modules[cls.__module__]
    return items((text, doc or said.get(name, "")) for name, text, doc in fields(cls, module))


def methods(cls: type) -> Iterator[Any]:
    """The public methods and properties that are described, those of bases too."""
    seen = set()
    for part in cls.__mro__:
        if not part.__module__.startswith(("pgflow_events", "blobstore")):
            continue
        for node in source_of(part).body:
            if is_described(node) and node.name not in seen:
                seen.add(node.name)
                yield node


def is_described(node: ast.stmt) -> bool:
    """Whether it is a public method with a docstring."""
    is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    return is_function and not node.name.startswith("_") and bool(ast.get_docstring(node))


def method(owner: str, node: Any) -> Iterator[str]:
    """A method or a property."""
    decorators = {ast.unparse(decorator) for decorator in node.decorator_list}
    name = f"{owner}.{node.name}"
    yield f"#### {name}"
    if "property" in decorators:
        yield code(f"{node.name}: {ast.unparse(node.returns)}")
    else:
        is_static = bool(decorators & {"classmethod", "staticmethod"})
        yield code(called(name if is_static else node.name, node))
    yield from markdown(ast.get_docstring(node) or "")


def function(name: str, thing: Any) -> Iterator[str]:
    """A function."""
    yield code(called(name, source_of(thing)))
    yield from markdown(thing.__doc__)


def alias(name: str) -> Iterator[str]:
    """A type that is an assignment, with the text below it."""
    body = ast.parse(inspect.getsource(telemetry)).body
    for statement, following in pairwise(body):
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == name:
            yield code(ast.unparse(statement))
            yield from markdown(docstring(following))


def code(text: str) -> str:
    """A block of Python."""
    return f"```python\n{text}\n```"
