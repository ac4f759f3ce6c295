"""The calls of the SQL core on one connection, as the tests make them."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb

WORKER = UUID(int=7)

CLAIM = """
select (c.task).*, c.next_due, c.refused, c.owed_tasks, c.owed_runs from pgflow.claim_tasks(
  %s, %s, %s
) c
"""
COMPLETE = CLAIM.replace("claim_tasks", "complete_tasks").replace("%s", "%s, " * 8 + "%s", 1)


@dataclass(frozen=True)
class Outcome:
    """What became of an attempt; `attempt` None: whichever it is."""

    run_id: UUID
    step_slug: str
    attempt: int | None = 1
    output: Any = None
    blob: UUID | None = None
    error: str | None = None
    permanent: bool = False


@dataclass(frozen=True)
class Claim:
    """The rows of a claim, and what its last row sums up."""

    tasks: list[Any]
    next_due: float | None
    refused: list[int] | None
    owed_tasks: list[str] | None
    owed_runs: list[str] | None

    @property
    def steps(self) -> list[str]:
        return [task.step_slug for task in self.tasks]


class Core:
    """The SQL core on a connection whose rows are named tuples."""

    def __init__(self, db: psycopg.Connection[Any]) -> None:
        self.db = db

    def rows(self, query: str, *params: Any) -> list[Any]:
        return self.db.execute(query, params or None).fetchall()

    def row(self, query: str, *params: Any) -> Any:
        (row,) = self.rows(query, *params)
        return row

    def value(self, query: str, *params: Any) -> Any:
        return self.row(query, *params)[0]

    def flow(self, *steps: str, slug: str = "f", **options: int) -> None:
        """Define a flow; a step "d<b,c" waits for b and c."""
        names = "".join(f", {name} => {value}" for name, value in options.items())
        self.rows(f"select pgflow.create_flow(%s{names})", slug)
        for step in steps:
            self.step(step, slug=slug)

    def step(self, step: str, slug: str = "f", **options: int) -> None:
        name, _, deps = step.partition("<")
        names = "".join(f", {name} => {value}" for name, value in options.items())
        self.rows(
            f"select pgflow.add_step(%s, %s, %s{names})",
            slug,
            name,
            deps.split(",") if deps else [],
        )

    def start(self, value: Any = None, slug: str = "f") -> UUID:
        return self.value("select run_id from pgflow.start_flow(%s, %s)", slug, Jsonb(value))

    def start_many(self, count: int, slug: str = "f") -> list[UUID]:
        inputs = [Jsonb(n) for n in range(count)]
        return [
            row.run_id
            for row in self.rows("select * from pgflow.start_flows(%s, %s)", slug, inputs)
        ]

    def poll(self, qty: int = 10, slug: str = "f") -> list[Any]:
        return self.rows("select * from pgflow.poll_for_tasks(%s, 1, %s, 0)", slug, qty)

    def complete(self, run_id: UUID, step_slug: str, output: Any = None) -> Any:
        query = "select * from pgflow.complete_task(%s, %s, 0, %s)"
        return self.row(query, run_id, step_slug, Jsonb(output))

    def fail(self, run_id: UUID, step_slug: str, error: str = "boom") -> Any:
        return self.row("select * from pgflow.fail_task(%s, %s, 0, %s)", run_id, step_slug, error)

    def claim(self, qty: int = 10, flows: tuple[str, ...] = ("f",)) -> Claim:
        return self._claim(CLAIM, list(flows), qty, WORKER)

    def settle(self, *outcomes: Outcome, qty: int = 0, flows: tuple[str, ...] = ("f",)) -> Claim:
        """Call complete_tasks(), of which the tests need one task a step."""
        return self._claim(
            COMPLETE,
            [o.run_id for o in outcomes],
            [o.step_slug for o in outcomes],
            [0 for _ in outcomes],
            [o.attempt for o in outcomes],
            [None if o.error or o.blob else Jsonb(o.output) for o in outcomes],
            [o.blob for o in outcomes],
            [o.error for o in outcomes],
            [o.permanent for o in outcomes],
            list(flows),
            qty,
            WORKER,
        )

    def _claim(self, query: str, *params: Any) -> Claim:
        *tasks, last = self.rows(query, *params)
        assert last.run_id is None
        assert all(task.run_id for task in tasks)
        return Claim(tasks, last.next_due, last.refused, last.owed_tasks, last.owed_runs)

    def lapse(self, slug: str = "f") -> None:
        """Let every message be visible now, as if its time had passed."""
        self.db.execute(f"update pgmq.q_{slug} set vt = clock_timestamp()")

    def run(self, run_id: UUID) -> Any:
        return self.row("select * from pgflow.runs where run_id = %s", run_id)

    def task(self, run_id: UUID, step_slug: str) -> Any:
        query = "select * from pgflow.step_tasks where run_id = %s and step_slug = %s"
        return self.row(query, run_id, step_slug)

    def tasks(self, run_id: UUID) -> dict[str, str]:
        """The status of each step's task."""
        query = "select step_slug, status from pgflow.step_tasks where run_id = %s"
        return dict(self.rows(query, run_id))

    def states(self, run_id: UUID) -> dict[str, str]:
        """The status of each step."""
        query = "select step_slug, status from pgflow.step_states where run_id = %s"
        return dict(self.rows(query, run_id))

    def queued(self, slug: str = "f") -> list[int]:
        return [row.msg_id for row in self.rows(f"select msg_id from pgmq.q_{slug} order by 1")]

    def archived(self, slug: str = "f") -> list[int]:
        return [row.msg_id for row in self.rows(f"select msg_id from pgmq.a_{slug} order by 1")]

    def hidden_for(self, message_id: int, slug: str = "f") -> float:
        """Seconds until a message becomes visible."""
        query = f"""
          select extract(epoch from vt - clock_timestamp())::float from pgmq.q_{slug}
          where msg_id = %s
        """
        return self.value(query, message_id)

    def blob(self, run_id: UUID, blob_id: UUID) -> UUID:
        """Store a small blob of kind text, as a worker does before it completes a task."""
        self.db.execute(
            """
            insert into pgflow.output_blobs (id, run_id, kind, codec, content, raw_size, sha256)
            values (%s, %s, 'text', 'none', 'page', 4, sha256('page'))
            """,
            [blob_id, run_id],
        )
        return blob_id

    def blobs(self) -> set[UUID]:
        return {row.id for row in self.rows("select id from pgflow.output_blobs")}
