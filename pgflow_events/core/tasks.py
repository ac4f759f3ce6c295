"""Tasks in the SQL core: claim, settle and release them. One function for each of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import NamedTuple
from uuid import UUID

from psycopg import AsyncCursor
from psycopg.rows import TupleRow, scalar_row
from psycopg.types.json import Jsonb
from psycopg.types.numeric import Int4, Int8

from blobstore import Inline, Stored
from pgflow_events.postgres.connection import Connection


class ClaimedTask(NamedTuple):
    """A task that this worker may work on until its attempt's timeout."""

    flow_slug: str
    run_id: UUID
    step_slug: str
    task_index: int
    attempt: int
    timeout: int
    """Seconds the attempt may take."""
    input: str
    """The JSON of `{"run": input of the run, dependency: its output}`, without what is a blob. A
    task of a map has `"dependency.each"` or `"run.each"` for its element."""
    blobs_refs: dict[str, str]
    """The ids of what is a blob, under the same keys."""
    input_bytes: int = 0
    """Bytes of these blobs that the handler loads into memory."""

    def __str__(self) -> str:
        """The attempt, for the log. Of a map, it has the index of the element."""
        index = f"[{self.task_index}]" if self._has_element else ""
        step = f"{self.flow_slug}.{self.step_slug}{index}"
        return f"{step} of run {self.run_id}, attempt {self.attempt}"

    @property
    def _has_element(self) -> bool:
        # A text with this in it only makes the log say that the index is 0.
        return (
            self.task_index > 0
            or EACH in self.input
            or any(slug.endswith(".each") for slug in self.blobs_refs)
        )

    @property
    def refs(self) -> dict[str, UUID]:
        """`blobs_refs`, with ids as such."""
        return {slug: UUID(ref) for slug, ref in self.blobs_refs.items()}


@dataclass(frozen=True, slots=True)
class Claim:
    """The answer to a call that may claim."""

    tasks: list[ClaimedTask]
    next_due: float | None
    """Seconds until the next message becomes visible; 0 if one is, None without messages."""
    refused: list[int]
    """Indexes of the outcomes that came too late: another attempt owns the task, or all is over."""
    owed_tasks: list[str]
    """Flows whose workers are still to be woken."""
    owed_runs: list[str]
    """Flows with runs that ended."""
    next_bytes: int | None = None
    """`input_bytes` of the first task that is visible and was not claimed."""
    lapsed: bool = False
    """Whether tasks wait for :func:`fail_lapsed_tasks`."""


class Outcome(NamedTuple):
    """What became of an attempt: an output, or an error."""

    task: ClaimedTask
    output: Inline | Stored | None
    error: str | None = None
    permanent: bool = False
    """Whether a failure is for good, however many attempts are left."""
    until: float = inf
    """By trio's clock, when the attempt is about to lapse, and its task to be claimed again."""
    facts: dict[str, dict[str, bool]] | None = None
    """What the output contains of the patterns of other steps, if SQL cannot read it."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A task that no worker can claim, because its input cannot be read."""

    task: ClaimedTask
    """The task, without its input; `attempt` is the last one that was counted."""
    sqlstate: str
    message: str
    """The error of the server."""


EACH = '.each": '  # as PostgreSQL writes the key of an element

CLAIM_COLUMNS = """
  (c.task).flow_slug, (c.task).run_id, (c.task).step_slug, (c.task).task_index,
  (c.task).attempts_count, (c.task).timeout, (c.task).input::text, (c.task).blobs_refs,
  (c.task).input_bytes,
  c.next_due, c.refused, c.owed_tasks, c.owed_runs, c.next_bytes, c.lapsed
"""

CLAIM = f"select {CLAIM_COLUMNS} from {{}}(%b, %b, %b, true) c order by (c.task).msg_id"

COMPLETE_TASKS = f"""
select {CLAIM_COLUMNS}
from pgflow.complete_tasks(%b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b) c
"""


async def claim_tasks(
    connection: Connection, function: str, qty: int, worker_id: UUID, max_bytes: int
) -> Claim:
    """Claim up to `qty` visible tasks of a flow that load no more than `max_bytes`.

    Args:
        connection: Where no transaction is open: the commit does not wait for the disk.
        function: The function that claims from the flow's queue, as `task_channels` names it.
        qty: How many tasks to claim at most; 0 only looks when the next one is due.
        worker_id: The worker that claims.
        max_bytes: How many bytes of blobs the tasks may load together.
    """
    cursor = await connection.execute(
        CLAIM.format(function).encode(),
        [Int4(qty), worker_id, Int8(max_bytes)],
        prepare=True,
        binary=True,
    )
    return await read_claim(cursor)


async def complete_tasks(
    connection: Connection,
    outcomes: Sequence[Outcome],
    flow_slugs: Sequence[str],
    *,
    qty: int,
    worker_id: UUID,
    max_bytes: int,
) -> AsyncCursor[TupleRow]:
    """Settle these outcomes, and claim tasks of these flows in the same commit.

    The answer is for :func:`read_claim`, when the transaction is over.
    """
    tasks = [outcome.task for outcome in outcomes]
    return await connection.execute(
        COMPLETE_TASKS,
        [
            [task.run_id for task in tasks],
            [task.step_slug for task in tasks],
            [task.task_index for task in tasks],
            [task.attempt for task in tasks],
            [inline_json(outcome.output) for outcome in outcomes],
            [blob_id(outcome.output) for outcome in outcomes],
            [outcome.error for outcome in outcomes],
            [outcome.permanent for outcome in outcomes],
            list(flow_slugs),
            Int4(qty),
            worker_id,
            Int8(max_bytes),
            facts_json(outcomes),
        ],
        prepare=True,
        binary=True,
    )


async def read_claim(cursor: AsyncCursor[TupleRow]) -> Claim:
    """Read an answer: each row is a task, except for the last row, which sums up."""
    *tasks, last = await cursor.fetchall()
    next_due, refused, owed_tasks, owed_runs, next_bytes, lapsed = last[9:]
    return Claim(
        [ClaimedTask(*row[:9]) for row in tasks],
        next_due,
        [place - 1 for place in refused or ()],
        owed_tasks or [],
        owed_runs or [],
        next_bytes,
        lapsed,
    )


async def fail_lapsed_tasks(connection: Connection, flow_slugs: Sequence[str]) -> int:
    """Fail tasks of these flows whose last attempt has lapsed. Return how many runs they had."""
    cursor = connection.cursor(row_factory=scalar_row)
    await cursor.execute("select pgflow.fail_lapsed_tasks(%s)", [list(flow_slugs)])
    count: int = await cursor.fetchone() or 0
    return count


async def unreadable_tasks(connection: Connection, flow_slug: str, qty: int) -> list[Unreadable]:
    """The tasks among the first `qty` visible ones of a flow whose inputs cannot be read."""
    cursor = await connection.execute(
        "select * from pgflow.unreadable_tasks(%s, %s)", [flow_slug, Int4(qty)]
    )
    return [
        Unreadable(ClaimedTask(flow_slug, run_id, step, index, attempt, 0, "{}", {}), *why)
        for run_id, step, index, attempt, *why in await cursor.fetchall()
    ]


async def fail_unreadable(
    connection: Connection, unreadable: Sequence[Unreadable], worker_id: UUID
) -> Claim:
    """Fail for good tasks that no worker can claim. The answer says which wake-ups are owed."""
    outcomes = [
        Outcome(each.task, None, f"the input cannot be read: {each.message}", permanent=True)
        for each in unreadable
    ]
    cursor = await complete_tasks(connection, outcomes, [], qty=0, worker_id=worker_id, max_bytes=0)
    return await read_claim(cursor)


async def release_tasks(
    connection: Connection, tasks: Sequence[ClaimedTask], worker_id: UUID
) -> int:
    """Give back claimed tasks that are not settled; their attempts do not count.

    From then on no outcome of these attempts may be sent: the next attempt has the same number.

    Returns:
        How many tasks were given back.
    """
    cursor = connection.cursor(row_factory=scalar_row)
    await cursor.execute(
        "select pgflow.release_tasks(%s::uuid[], %s::text[], %s::integer[], %s::integer[], %s)",
        [
            [task.run_id for task in tasks],
            [task.step_slug for task in tasks],
            [task.task_index for task in tasks],
            [task.attempt for task in tasks],
            worker_id,
        ],
    )
    released: int = await cursor.fetchone() or 0
    return released


async def stopped_tasks(
    connection: Connection, tasks: Sequence[ClaimedTask], worker_id: UUID
) -> list[tuple[ClaimedTask, str]]:
    """Those of these claimed tasks that are the worker's own no more, and why."""
    cursor = await connection.execute(
        "select place, why from pgflow.stopped_tasks(%s::uuid[], %s::text[], %s::integer[],"
        " %s::integer[], %s)",
        [
            [task.run_id for task in tasks],
            [task.step_slug for task in tasks],
            [task.task_index for task in tasks],
            [task.attempt for task in tasks],
            worker_id,
        ],
    )
    return [(tasks[place - 1], why) for place, why in await cursor.fetchall()]


def inline_json(output: Inline | Stored | None) -> Jsonb | None:
    """The output as a parameter, if it is stored in the row."""
    return Jsonb(output.json, dumps=_as_it_is) if isinstance(output, Inline) else None


def facts_json(outcomes: Sequence[Outcome]) -> list[Jsonb | None] | None:
    """The facts of outcomes as a parameter; None if no facts are given, as in most calls."""
    facts = [Jsonb(outcome.facts) if outcome.facts else None for outcome in outcomes]
    return facts if any(facts) else None


def blob_id(output: Inline | Stored | None) -> UUID | None:
    """The output's id, if it is a blob."""
    return output.id if isinstance(output, Stored) else None


def _as_it_is(json: bytes) -> bytes:
    """The JSON unchanged, because it is encoded already."""
    return json
