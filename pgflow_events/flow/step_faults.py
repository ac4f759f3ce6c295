"""What may be wrong with the definition of a step. The flow adds the names."""

from __future__ import annotations

import functools
import inspect
import re
import sys
from collections.abc import Callable, Container, Iterator
from typing import Any

from blobstore import Blob
from pgflow_events.flow.nodes import EachNode, FlowLike, Node
from pgflow_events.flow.option_faults import quoted
from pgflow_events.flow.step import SkippableStep, Step, called
from pgflow_events.texts import counted

SLUG = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

if sys.version_info >= (3, 14):
    import annotationlib

    # By default this evaluates annotations, which may name what only type checkers import.
    _signature = functools.partial(
        inspect.signature, annotation_format=annotationlib.Format.FORWARDREF
    )
else:
    _signature = inspect.signature


def slug_faults(
    slug: object, *, longest: int = 128, taken: Container[str] = (), is_name: bool = False
) -> Iterator[str]:
    """Say why this cannot be a slug.

    Args:
        slug: The value that the user gave.
        longest: The largest number of characters.
        taken: The slugs that the flow has already.
        is_name: Whether it is the name of the handler, because the user gave no slug.
    """
    if type(slug) is not str or not SLUG.fullmatch(slug):
        instead = "; the handler's name is not one: give a slug by slug='...'" if is_name else ""
        yield f"a slug is a str of letters A to Z, digits and underscores, no digit first{instead}"
    elif slug == "run":
        yield "the slug 'run' is taken by the input"
    elif len(slug) > longest:
        yield f"the slug has {len(slug)} characters: give one of at most {longest}"
    elif slug in taken:
        yield "the flow already has a step with this slug"


def node_faults(nodes: tuple[object, ...], flow: FlowLike) -> Iterator[str]:
    """Say which of these are not nodes of this flow, are given twice, or do not fit a map."""
    for position, node in enumerate(nodes):
        if isinstance(node, EachNode) and position > 0:
            yield f"{node!r} comes first: a map goes over one list"
        elif isinstance(node, SkippableStep):
            instead = f"name {node.slug}.or_none, and let the handler take None"
            yield f"{node!r} may be skipped: {instead}"
        elif not isinstance(node, (Node, EachNode)):
            yield f"{quoted(node)} is not a node: give the flow's input, its context, or a step"
        elif node.flow is not flow:
            yield f"{node!r} belongs to another flow"
        elif any(map(functools.partial(_is_same, node), nodes[:position])):
            yield f"{node!r} is given twice"
        elif isinstance(nodes[0], EachNode) and position > 0 and isinstance(node.origin, Step):
            yield f"{node!r} cannot stand beside {nodes[0]!r}: a map depends on one step at most"


def _is_same(node: Node[Any] | EachNode[Any], other: object) -> bool:
    return isinstance(other, Node) and other.origin is node.origin


def handler_faults(handler: object, arguments: int) -> Iterator[str]:
    """Say why this cannot be a handler with this number of arguments."""
    if not callable(handler):
        yield f"{quoted(handler)} cannot be called"
    elif isinstance(handler, (Step, SkippableStep)):
        yield f"{handler!r} is a step already; its function is its attribute 'handler'"
    elif any(map(_is_generator, called(handler))):
        yield "a generator cannot be a handler: return the output, or yield bytes in an async def"
    else:
        yield from _signature_faults(handler, arguments)


def handle_faults(handler: Callable[..., Any], nodes: tuple[Node[Any], ...]) -> Iterator[str]:
    """Say which parameters are annotated as handles although their node gives the value."""
    try:
        parameters = _signature(handler).parameters.values()
    except ValueError:  # Some functions written in C have no signature to be asked for.
        return
    for node, parameter in zip(nodes, parameters, strict=False):
        annotation = getattr(parameter.annotation, "__origin__", parameter.annotation)
        if isinstance(annotation, str):
            annotation = Blob if re.match(r"(\w+\.)*Blob\b", annotation) else None
        if annotation is Blob and not node.takes_handle:
            yield f"parameter {parameter.name!r} takes a Blob: name {node.slug}.blob to give it one"


def process_faults(step: Step[Any]) -> Iterator[str]:
    """Say why the handler of this step cannot be called in another process."""
    if not inspect.isfunction(step.handler) or "<" in step.handler.__qualname__:
        yield "a cpu_bound handler is a function at the top of a module, where its process finds it"
    if step.is_async or step.is_stream:
        yield "a cpu_bound handler is a plain function: there is no trio in its process"
    for node in step.nodes:
        if node.takes_handle or node is node.flow.context:
            yield f"{node!r} gives a cpu_bound handler something that its process cannot use"


def _signature_faults(handler: Callable[..., Any], arguments: int) -> Iterator[str]:
    try:
        signature = _signature(handler)
    except ValueError:  # Some functions written in C have no signature to be asked for.
        return
    try:
        signature.bind(*range(arguments))
    except TypeError as error:
        yield (
            f"the handler's parameters are ({', '.join(signature.parameters)}), and the step names"
            f" {counted(arguments, 'node')}: name one for each parameter ({error})"
        )


def _is_generator(function: object) -> bool:
    return inspect.isgeneratorfunction(function)
