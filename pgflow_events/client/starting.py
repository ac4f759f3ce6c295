"""Stores inputs, and starts runs with them."""

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import trio

from blobstore import Blobs, Inline, NotAList, Owner, Stored, ValueRefused
from blobstore.values.contract import is_wide
from pgflow_events.core import runs as run_queries
from pgflow_events.core.runs import Moment
from pgflow_events.flow.conditions import Facts, contains
from pgflow_events.flow.flow import Flow
from pgflow_events.flow.inline import input_threshold
from pgflow_events.handlers.failures import refusals_of
from pgflow_events.postgres.connection import Connection
from pgflow_events.postgres.passing import passes, reason
from pgflow_events.postgres.pool import Pool

log = logging.getLogger("pgflow_events.client")

QUEUE_IS_FULL = "54000"  # that of notifications; there is no code of its own
NO_LIST = "root map steps"  # in the error by which start_flows() refuses an input


@dataclass(frozen=True, slots=True)
class Entry:
    """What the input of a flow must be.

    Attributes:
        slug: The flow.
        threshold: The bytes beyond which the input is a blob. None if only the slug is known.
        feeds_map: Whether a map goes over it.
        watchers: The patterns that conditions look for in it, as `ValueNode.watchers` has them.
    """

    slug: str
    threshold: int | None = None
    feeds_map: bool = False
    watchers: Mapping[str, Mapping[str, Any]] | None = None

    @classmethod
    def of(cls, flow: Flow[Any]) -> "Entry":
        """What the flow itself says."""
        return cls(flow.slug, input_threshold(flow), flow.feeds_map, flow.input.watchers)

    def check(self, inputs: Sequence[object]) -> None:
        """Refuse inputs that are no lists where a map goes over them.

        Raises:
            NotAList: An input is no list.
        """
        kinds = [type(value) for value in inputs if type(value) is not list]
        if self.feeds_map and kinds:
            raise NotAList(f"{self.no_list}, not of type {kinds[0].__qualname__[:60]}")

    @property
    def no_list(self) -> str:
        """What is wrong with an input that is no list."""
        return f"the input of {self.slug!r} must be a list, because a map goes over it"

    def facts(self, value: object) -> Facts | None:
        """What an input that SQL cannot read contains of the patterns."""
        if not self.watchers:
            return None
        if isinstance(value, Path | AsyncIterator):
            value = b""  # bytes contain no pattern, whichever they are
        return {
            slug: {word: contains(value, pattern) for word, pattern in patterns.items()}
            for slug, patterns in self.watchers.items()
        }


class Starter:
    """Starts runs, for a client.

    Args:
        pool: The connections.
        blobs: Stores the inputs that are not small.
    """

    def __init__(self, pool: Pool, blobs: Blobs) -> None:
        self._pool = pool
        self._blobs = blobs

    async def start(
        self,
        flow: Flow[Any] | str,
        run_ids: Sequence[UUID],
        inputs: Sequence[Any],
        begins: Moment,
    ) -> None:
        """Start the runs: in one round trip if all inputs are small, otherwise with their blobs.

        Raises:
            NotAList: A map goes over the input, and it is no list.
            ValueRefused: An input cannot be stored.
        """
        entry = Entry(flow) if isinstance(flow, str) else Entry.of(flow)
        entry.check(inputs)
        with refusals_of("the input"):
            forms = [await self._inline(entry, value) for value in inputs]
        small = [form for form in forms if form]
        if len(small) < len(inputs):
            await self._start_large(entry, run_ids, inputs, forms, begins)
            return
        try:
            await self._start_small(entry.slug, run_ids, small, begins)
        except psycopg.errors.RaiseException as error:
            if NO_LIST not in str(error):
                raise
            raise NotAList(entry.no_list) from error

    async def _inline(self, entry: Entry, given: object) -> Inline | None:
        try:
            return await self._blobs.inline(given, threshold=entry.threshold)
        except ValueRefused:
            # A list that a map goes over may have bytes. It is looked at again when that is known.
            may_be_stored = entry.feeds_map or entry.threshold is None
            if type(given) is list and may_be_stored:
                return None
            raise

    async def _start_large(
        self,
        entry: Entry,
        run_ids: Sequence[UUID],
        inputs: Sequence[Any],
        forms: Sequence[Inline | None],
        begins: Moment,
    ) -> None:
        async with self._pool.connection() as connection, connection.transaction():
            if entry.threshold is None:
                found = await run_queries.find_entry(connection, entry.slug)
                entry = Entry(entry.slug, None, *found)
                entry.check(inputs)
            with refusals_of("the input"):
                values = [
                    form or await self._store(connection, entry, run_id, given)
                    for run_id, given, form in zip(run_ids, inputs, forms, strict=True)
                ]
            blobs = [value for value in values if isinstance(value, Stored)]
            await self._blobs.save_inputs(connection, blobs)
            facts = [
                await self._facts(entry, given) if isinstance(value, Stored) else None
                for given, value in zip(inputs, values, strict=True)
            ]
            await run_queries.start_flows(
                connection, entry.slug, values, run_ids, begins, facts=facts
            )

    async def _store(
        self, connection: Connection, entry: Entry, run_id: UUID, given: object
    ) -> Inline | Stored:
        return await self._blobs.encode(
            given,
            Owner(run_id),
            threshold=entry.threshold,
            feeds_map=entry.feeds_map,
            connection=connection,
        )

    async def _facts(self, entry: Entry, given: object) -> Facts | None:
        if entry.watchers and is_wide(given):
            return await trio.to_thread.run_sync(entry.facts, given)
        return entry.facts(given)

    async def _start_small(
        self, slug: str, run_ids: Sequence[UUID], inputs: Sequence[Inline], begins: Moment
    ) -> None:
        try:
            async with self._pool.connection() as connection:
                await run_queries.start_flows_and_notify(connection, slug, inputs, run_ids, begins)
        except psycopg.Error as error:
            # Others are the first commit's alone: of an id that is there already, for one.
            may_be_second = passes(error) or error.sqlstate == QUEUE_IS_FULL
            if not (may_be_second and await self._have_started(run_ids)):
                raise
            told = reason(error)
            log.warning("could not wake the workers of %s: %s", slug, told, extra={"flow": slug})

    async def _have_started(self, run_ids: Sequence[UUID]) -> bool:
        """Whether the runs are there, which all start in one commit; False if nobody can tell."""
        try:
            async with self._pool.connection() as connection:
                found = await run_queries.find_run(connection, run_ids[0]) if run_ids else None
        except psycopg.Error:
            return False
        return found is not None
