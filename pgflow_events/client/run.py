"""Runs that were started: what became of them, and what they gave."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeVar, overload
from uuid import UUID

import orjson

from blobstore import Blob, Blobs, NotSealed, Place
from pgflow_events.client.watch import Watch
from pgflow_events.core import runs as run_queries
from pgflow_events.core.runs import OutputRow, RunRow, RunStatus
from pgflow_events.errors import (
    Misuse,
    PgflowError,
    RunCancelled,
    RunFailed,
    StepSkipped,
    UnknownRun,
    UnknownStep,
)
from pgflow_events.flow.flow import Node, Step
from pgflow_events.flow.inline import has_only_nulls
from pgflow_events.flow.option_faults import quoted
from pgflow_events.flow.step import BlobNode, OptionalBlobNode, SkippableStep, ValueNode
from pgflow_events.misuse import need_trio
from pgflow_events.postgres.calls import Calls
from pgflow_events.texts import enumeration

Out = TypeVar("Out")

NO_REASON = "no reason was recorded"
WHY_SKIPPED = {
    "condition_unmet": "its condition was not met",
    "dependency_skipped": "a step before it was skipped",
    "handler_failed": "its attempts all failed",
}


class Reader:
    """Reads what became of runs, for all :class:`Run` objects of a client."""

    def __init__(self, calls: Calls, blobs: Blobs, watch: Watch) -> None:
        self._calls = calls
        self._blobs = blobs
        self._watch = watch

    async def row(self, run_id: UUID) -> RunRow:
        """The row of a run."""
        row = await self._calls.make(lambda connection: run_queries.find_run(connection, run_id))
        if row is None:
            raise UnknownRun(f"there is no run {run_id}")
        return row

    async def output(self, run_id: UUID, step_slug: str) -> OutputRow | None:
        """What became of a step; None if the run has no such step."""
        return await self._calls.make(
            lambda connection: run_queries.find_output(connection, run_id, step_slug)
        )

    async def errors(self, run_id: UUID) -> dict[str, str | None]:
        """The errors of the steps that failed, in their order."""
        return await self._calls.make(
            lambda connection: run_queries.find_errors(connection, run_id)
        )

    async def steps(self, run_id: UUID) -> list[str]:
        """The slugs of a run's steps, in their order.

        Raises:
            UnknownRun: There is no such run any more.
        """
        await self.row(run_id)
        return await self._calls.make(lambda connection: run_queries.find_steps(connection, run_id))

    async def values(self, run_id: UUID, refs: Mapping[str, UUID]) -> dict[str, Any]:
        """The outputs of these leaf steps that are blobs, by slug."""
        loaded = await self._blobs.load(refs.values())

        async def read(maps: Collection[str]) -> dict[str, Any]:
            return {
                slug: await loaded.get(ref, Place(run_id, slug), open_list=slug in maps)
                for slug, ref in refs.items()
            }

        try:
            return await read([])
        except NotSealed:  # or the list of a map, which SQL has made
            return await read(await self._maps(run_id))

    async def value(self, run_id: UUID, node: Node[Any], row: OutputRow) -> Any:
        """The output in a row."""
        if ref := row.output_blob_id:
            loaded = await self._blobs.load([ref])
            place = Place(run_id, node.slug)
            return await loaded.get(ref, place, open_list=_may_be_open(node, row))
        return self._inline(run_id, row)

    async def handle(self, run_id: UUID, node: Node[Any], row: OutputRow) -> Any:
        """The handle of the output in a row."""
        if ref := row.output_blob_id:
            loaded = await self._blobs.load([], [ref])
            return loaded.handle(ref, Place(run_id, node.slug), open_list=_may_be_open(node, row))
        return Blob.of(run_id, self._inline(run_id, row))

    async def _maps(self, run_id: UUID) -> list[str]:
        return await self._calls.make(lambda connection: run_queries.find_maps(connection, run_id))

    async def inline(self, run_id: UUID, json: str | None) -> dict[str, Any]:
        """The outputs of leaf steps that stand in the row of a run, if they may."""
        outputs: dict[str, Any] = parsed(json) or {}
        try:
            if outputs:
                self._blobs.admit_inline(run_id)
        except NotSealed:
            maps = await self._maps(run_id)
            if not all(slug in maps and has_only_nulls(outputs[slug]) for slug in outputs):
                raise
        return outputs

    def _inline(self, run_id: UUID, row: OutputRow) -> Any:
        """The value in a row, if it may stand there."""
        value = parsed(row.output)
        try:
            self._blobs.admit_inline(run_id)
        except NotSealed:
            if not (row.is_map and has_only_nulls(value)):
                raise
        return value

    async def cancel(self, run_ids: Sequence[UUID], reason: str | None) -> list[UUID]:
        """Cancel runs. Return the ids of those that had not ended before."""
        return await self._calls.make(
            lambda connection: run_queries.cancel_runs(connection, run_ids, reason)
        )

    async def ended(self, run_id: UUID, flow_slug: str) -> None:
        """Return when the run goes on no more."""
        await self._watch.wait(run_id, flow_slug)


def _may_be_open(node: Node[Any], row: OutputRow) -> bool:
    """Whether the output may be a list that is not sealed although its elements are."""
    return row.is_map or (isinstance(node.origin, ValueNode) and node.origin.feeds_map)


def parsed(json: str | None) -> Any:
    """The value in a row. SQL can store JSON that Python cannot read."""
    try:
        return orjson.loads(json or "null")
    except orjson.JSONDecodeError as error:
        raise PgflowError(f"the output can be read only in SQL: {error}") from None


class Run:
    """A run of a flow; :class:`Client` makes it.

    Attributes:
        id: The id of the run. One that the client made is a UUID of version 7: it has the time.
        flow_slug: The slug of the flow.
    """

    def __init__(self, reader: Reader, run_id: UUID, flow_slug: str) -> None:
        self._reader = reader
        self.id = run_id
        self.flow_slug = flow_slug

    def __repr__(self) -> str:
        return f"<Run {self.id} of {self.flow_slug}>"

    async def status(self) -> RunStatus:
        """Return ``"started"``, ``"completed"``, ``"failed"`` or ``"cancelled"``.

        Raises:
            UnknownRun: The run was deleted.
        """
        need_trio("Run.status()")
        return (await self._reader.row(self.id)).status

    async def cancel(self, reason: str | None = None) -> bool:
        """Cancel the run, and return whether this call did.

        It returns once that is committed. Nothing more of the run starts, and workers stop its
        handlers: docs/guide/flows.md says how. A run that has ended stays as it is.

        Args:
            reason: Why, for those that wait for the run or look at it. The first 1000 characters
                are stored.

        Raises:
            UnknownRun: The run was deleted.
            psycopg.errors.InsufficientPrivilege: The login is not that of the schema's owner, and
                the owner has not granted it the right to call ``pgflow.cancel_runs``.
        """
        need_trio("Run.cancel()")
        if await self._reader.cancel([self.id], reason):
            return True
        await self._reader.row(self.id)
        return False

    async def wait(self) -> None:
        """Wait until the run has completed, failed or been cancelled.

        A notification wakes it. Without notifications it looks each second.

        Raises:
            Misuse: The client is closed.
            psycopg.Error: The database refuses the client, for a reason that will not pass.
        """
        need_trio("Run.wait()")
        await self._reader.ended(self.id, self.flow_slug)

    async def result(self) -> dict[str, Any]:
        """Wait for the run, and return the outputs of its leaf steps by slug.

        Raises:
            RunFailed: The run has failed. The message says in which step, and why.
            RunCancelled: The run was cancelled; a kind of RunFailed.
            UnknownRun: The run was deleted.
            BlobError: An output cannot be read.
        """
        need_trio("Run.result()")
        await self.wait()
        row = await self._reader.row(self.id)
        if row.status in ("failed", "cancelled"):
            raise await self._failure()
        refs = {slug: UUID(ref) for slug, ref in (row.output_blobs_refs or {}).items()}
        inline = await self._reader.inline(self.id, row.output)
        return inline | await self._reader.values(self.id, refs)

    @overload
    async def output(self, step: Step[Out]) -> Out: ...
    @overload
    async def output(self, step: BlobNode[Out]) -> Blob[Out]: ...
    @overload
    async def output(self, step: SkippableStep[Out]) -> Out | None: ...
    @overload
    async def output(self, step: OptionalBlobNode[Out]) -> Blob[Out] | None: ...
    async def output(
        self, step: Step[Any] | BlobNode[Any] | SkippableStep[Any] | OptionalBlobNode[Any]
    ) -> Any:
        """Wait for the run, and return the output of one of its steps.

        Args:
            step: A step. ``step.blob`` gives a handle, by which to read a large output in pieces.
                A step that may be skipped gives None if it was.

        Raises:
            RunFailed: The run has failed, and this step had not completed.
            RunCancelled: The run was cancelled, and this step had not completed.
            StepSkipped: The step was skipped with one before it.
            UnknownStep: The run has no such step. The message lists its steps.
            UnknownRun: The run was deleted.
            BlobError: The output cannot be read.
        """
        need_trio("Run.output()")
        node = step.or_none if isinstance(step, SkippableStep) else step
        if not isinstance(node, Node):
            raise Misuse(f"output() takes a step itself, or step.blob, not {quoted(step)}")
        if node.flow.slug != self.flow_slug:
            raise await self._unknown(f"{node.slug!r} of flow {node.flow.slug!r}")
        await self.wait()
        row = await self._reader.output(self.id, node.slug)
        if row is None:
            raise await self._unknown(repr(node.slug))
        if row.status == "skipped" and node.is_optional:
            return None
        if row.status == "completed":
            read = self._reader.handle if node.takes_handle else self._reader.value
            return await read(self.id, node, row)
        if row.status == "skipped":
            why = WHY_SKIPPED.get(row.skip_reason or "", row.skip_reason or NO_REASON)
            raise StepSkipped(f"{self._name} skipped step {node.slug!r}: {why}")
        raise await self._failure()

    async def _unknown(self, step: str) -> UnknownStep:
        steps = await self._reader.steps(self.id)
        return UnknownStep(f"{self._name} has no step {step}; its steps: {enumeration(steps)}")

    async def _failure(self) -> RunFailed:
        row = await self._reader.row(self.id)
        if row.status == "cancelled":
            why = f": {row.cancel_reason}" if row.cancel_reason else ""
            return RunCancelled(f"{self._name} was cancelled{why}", self.id, row.cancel_reason)
        found = await self._reader.errors(self.id)
        errors = {slug: error or NO_REASON for slug, error in found.items()}
        if errors:
            failed = "; ".join(f"step {slug!r}: {error}" for slug, error in errors.items())
            return RunFailed(f"{self._name} failed in {failed}", self.id, errors)
        return RunFailed(f"{self._name} is {row.status}, and no step says why", self.id)

    @property
    def _name(self) -> str:
        return f"run {self.id} of {self.flow_slug!r}"
