"""Encodes what handlers return."""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import trio

from blobstore import Blob, Blobs, Inline, NotAList, Owner, Stored, ValueRefused
from blobstore.values.contract import is_wide
from pgflow_events.core.tasks import ClaimedTask
from pgflow_events.errors import PermanentError
from pgflow_events.flow.conditions import Facts, facts
from pgflow_events.flow.flow import Flow, Step
from pgflow_events.flow.inline import thresholds
from pgflow_events.handlers.failures import refused
from pgflow_events.texts import enumeration


class Outputs:
    """Turns the outputs of steps into what is stored.

    Args:
        blobs: Encodes values.
        flows: The flows of this worker, by slug.
    """

    def __init__(self, blobs: Blobs, flows: Mapping[str, Flow[Any]]) -> None:
        self._blobs = blobs
        self._flows = flows
        self._thresholds: dict[Step[Any], int] = {}

    async def encode(
        self, step: Step[Any], task: ClaimedTask, value: object
    ) -> tuple[Inline | Stored, Facts | None]:
        """Encode what the handler of a step returned, and say what it contains.

        Raises:
            PermanentError: A map goes over it, and it is no list.
            ValueRefused: It cannot be stored.
        """
        threshold = self._thresholds.get(step)
        try:
            output = await self._blobs.encode(
                value,
                Owner(task.run_id, task.step_slug, task.task_index, task.attempt, task.flow_slug),
                threshold=self._threshold(step) if threshold is None else threshold,
                by_element=step.by_element,
                # What a map gives is a list, whatever its tasks return.
                feeds_map=step.feeds_map and not step.is_map,
                is_element=step.is_map,
                media_type=step.media_type,
            )
        except NotAList as error:
            maps = enumeration([repr(slug) for slug in self._maps_over(step)])
            said = f"map {maps} cannot go over what step {step.slug!r} returned: {error}"
            raise PermanentError(said) from None
        except ValueRefused as error:
            raise refused(f"step {step.slug!r} returned what", error) from None
        if step.watchers and isinstance(output, Stored):
            return output, await self._facts(step, value)
        return output, None

    async def _facts(self, step: Step[Any], value: object) -> Facts | None:
        """What an output that SQL cannot read contains of the patterns of other steps."""
        if isinstance(value, Blob):
            value = await value.value()
        if isinstance(value, Path | AsyncIterator):
            value = b""  # bytes contain no pattern, whichever they are
        if is_wide(value):
            return await trio.to_thread.run_sync(facts, step, value)
        return facts(step, value)

    def _maps_over(self, step: Step[Any]) -> list[str]:
        """The maps that go over the output of a step."""
        steps = self._flows[step.flow.slug].steps.values()
        return [
            each.slug
            for each in steps
            if any(node.is_element and node.origin is step for node in each.nodes)
        ]

    def _threshold(self, step: Step[Any]) -> int:
        """The size in bytes above which the output becomes a blob. From now on, it is known."""
        flow = self._flows[step.flow.slug]
        self._thresholds |= {flow.steps[slug]: size for slug, size in thresholds(flow).items()}
        return self._thresholds[step]
