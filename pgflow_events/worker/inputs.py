"""Loads the arguments of handlers: from blobs, and from the tasks themselves."""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

import orjson
import psycopg
import trio

from blobstore import Blob, Blobs, Loaded, NotSealed, Place
from blobstore.keys.places import ANY_LIST
from pgflow_events.core.tasks import ClaimedTask
from pgflow_events.errors import PermanentError, PgflowError
from pgflow_events.flow.flow import Context, Node, Step
from pgflow_events.flow.inline import has_only_nulls
from pgflow_events.flow.nodes import ValueNode
from pgflow_events.postgres.passing import Verdict, reason, verdict_of
from pgflow_events.texts import counted

Refs = Sequence[tuple[UUID, Node[Any]]]

log = logging.getLogger("pgflow_events.handlers")


class Inputs:
    """Resolves the nodes of steps to values.

    Args:
        blobs: Loads the inputs that are blobs.
    """

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs

    async def load_together(self, wanted: Collection[Refs], deadline: float) -> Loaded | None:
        """All blobs of some tasks, loaded together; None if loading fails or takes too long."""
        with trio.move_on_at(deadline):
            try:
                return await self._load([ref for refs in wanted for ref in refs])
            except Exception as error:  # noqa: BLE001 - each task will load its own, and see it
                what = counted(len(wanted), "task")
                log.warning("cannot load the inputs of %s: %s", what, reason(error))
        return None

    async def load(self, refs: Refs) -> Loaded:
        """The blobs of one task.

        Raises:
            PermanentError: The database will never return them.
            PgflowError: The database does not return them now.
        """
        try:
            return await self._load(refs)
        except psycopg.Error as error:
            failure = PermanentError if verdict_of(error) is Verdict.NEVER else PgflowError
            raise failure(f"the input cannot be loaded: {reason(error)}") from error

    async def _load(self, refs: Refs) -> Loaded:
        return await self._blobs.load(
            [ref for ref, node in refs if not node.takes_handle],
            [ref for ref, node in refs if node.takes_handle],
        )

    async def arguments(
        self,
        step: Step[Any],
        task: ClaimedTask,
        loaded: Loaded | None,
        context: Callable[[], Context],
    ) -> list[Any]:
        """The arguments for the handler of a step, in the order of its nodes."""
        inline = _inline_inputs(task)
        arguments: list[Any] = []
        for node in step.nodes:
            if node is node.flow.context:
                arguments.append(context())
            elif loaded is None or node.slug not in task.blobs_refs:
                arguments.append(self._inline_value(node, task, inline))
            else:
                arguments.append(await _loaded_value(node, task, loaded))
        return arguments

    def _inline_value(self, node: Node[Any], task: ClaimedTask, inline: Mapping[str, Any]) -> Any:
        if node.is_optional and node.slug not in inline:  # the step was skipped
            return None
        value = inline[node.slug]
        try:
            self._blobs.admit_inline(task.run_id)
        except NotSealed:
            # What a map gives may have nothing to encrypt.
            empty = value is None if node.is_element else has_only_nulls(value)
            if not (empty and _is_map(node.origin)):
                raise
        return Blob.of(task.run_id, value) if node.takes_handle else value


async def _loaded_value(node: Node[Any], task: ClaimedTask, loaded: Loaded) -> Any:
    ref, place, origin = task.refs[node.slug], _place(node, task), node.origin
    open_list = not node.is_element and (
        _is_map(origin) or (isinstance(origin, ValueNode) and origin.feeds_map)
    )
    if node.takes_handle:
        return loaded.handle(ref, place, open_list=open_list)
    return await loaded.get(ref, place, open_list=open_list)


def _place(node: Node[Any], task: ClaimedTask) -> Place:
    """The place that the value of a node must have, if it is a blob."""
    whole = Place(task.run_id, node.origin.slug)
    if not node.is_element:
        return whole
    if _is_map(node.origin):
        return whole._replace(task_index=task.task_index)
    return whole.element(ANY_LIST, task.task_index)


def _is_map(node: Node[Any]) -> bool:
    return isinstance(node, Step) and node.is_map


def blobs_asked_for(step: Step[Any] | None, task: ClaimedTask) -> Refs:
    """The blobs that the handler of a step asks for, each with the node that asks."""
    refs = task.refs
    return [
        (refs[node.slug], node)
        for node in (step.nodes if step else ())
        if node.slug in refs and node is not node.flow.context
    ]


def _inline_inputs(task: ClaimedTask) -> dict[str, Any]:
    """The inputs that are not blobs. SQL can store JSON that Python cannot read."""
    try:
        inputs: dict[str, Any] = orjson.loads(task.input)
    except orjson.JSONDecodeError as error:
        raise PermanentError(f"the input cannot be read: {error}") from None
    return inputs
