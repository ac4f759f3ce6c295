"""The calls of the SQL core on one connection, as the tests make them."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb

from blobstore.postgres.ids import new_blob_id

WORKER = UUID(int=7)

CLAIM = """
select (c.task).*, c.next_due, c.refused, c.owed_tasks, c.owed_runs, c.next_bytes, c.lapsed
from pgflow.claim_tasks(%s, %s, %s, %s) c
"""
COMPLETE = CLAIM.replace("claim_tasks", "complete_tasks").replace("%s", "%s, " * 8 + "%s", 1)
START_TASKS = "select * from pgflow.start_tasks(%s, %s, %s) order by msg_id"


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
    next_bytes: int | None
    lapsed: bool

    @property
    def steps(self) -> list[str]:
        return [task.step_slug for task in self.tasks]


class Core:
    """The SQL core on a connection whose rows are named tuples."""

    def __init__(self, db: psycopg.Connection[Any], worker: UUID = WORKER) -> None:
        self.db = db
        self.worker = worker

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

    def start_tasks(self, message_ids: list[int], slug: str = "f") -> list[Any]:
        """Claim as pgflow's workers do, once they have read these messages."""
        return self.rows(START_TASKS, slug, message_ids, self.worker)

    def complete(self, run_id: UUID, step_slug: str, output: Any = None) -> Any:
        query = "select * from pgflow.complete_task(%s, %s, 0, %s)"
        return self.row(query, run_id, step_slug, Jsonb(output))

    def fail(self, run_id: UUID, step_slug: str, error: str = "boom") -> Any:
        return self.row("select * from pgflow.fail_task(%s, %s, 0, %s)", run_id, step_slug, error)

    def claim(
        self, qty: int = 10, flows: tuple[str, ...] = ("f",), max_bytes: int | None = None
    ) -> Claim:
        """Claim as a worker does, which fails what has lapsed and claims again."""
        claim = self._claim(CLAIM, list(flows), qty, self.worker, max_bytes)
        if claim.lapsed and self.value("select pgflow.fail_lapsed_tasks(%s)", list(flows)):
            return claim if claim.tasks else self.claim(qty, flows, max_bytes)
        return claim

    def settle(
        self,
        *outcomes: Outcome,
        qty: int = 0,
        flows: tuple[str, ...] = ("f",),
        max_bytes: int | None = None,
    ) -> Claim:
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
            self.worker,
            max_bytes,
        )

    def _claim(self, query: str, *params: Any) -> Claim:
        *tasks, last = self.rows(query, *params)
        assert last.run_id is None
        assert all(task.run_id for task in tasks)
        return Claim(tasks, *last[-6:])

    def lapse(self, slug: str = "f") -> None:
        """Let every message be visible now, as if its time had passed."""
        self.db.execute(f"update pgmq.q_{slug} set vt = clock_timestamp()")

    def lapse_of(self, run_id: UUID, step_slug: str, slug: str = "f") -> None:
        """Let the message of one task be visible now."""
        message_id = self.task(run_id, step_slug).message_id
        visible = f"update pgmq.q_{slug} set vt = clock_timestamp() where msg_id = %s"
        self.db.execute(visible, [message_id])

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

    def blob(
        self, run_id: UUID, step_slug: str, size: int = 4, elements: list[UUID | None] | None = None
    ) -> UUID:
        """Store a blob of a few bytes, as a worker does before it completes a task."""
        blob_id = new_blob_id(run_id)
        self.db.execute(
            """
            insert into pgflow.output_blobs (
              id, run_id, step_slug, kind, codec, elements, content, raw_size, stored_size, sha256
            )
            values (%s, %s, %s, %s, 'none', %s::uuid[], 'page', %s, 4, sha256('page'))
            """,
            [blob_id, run_id, step_slug, "list" if elements else "text", elements, size],
        )
        return blob_id

    def open(self, run_id: UUID, step_slug: str, attempt: int | None = 1) -> UUID | None:
        """Begin a blob in chunks; its id, or None if that is refused."""
        blob_id = new_blob_id(run_id)
        opened = self.value(
            """
            select pgflow.open_blob(
              %s, %s, %s, 0, %s, 'bytes', null, 'zstd', null, null, null, 100
            )
            """,
            blob_id,
            run_id,
            step_slug,
            attempt,
        )
        return blob_id if opened else None

    def write(self, blob_id: UUID, seq: int, content: bytes = b"chunk") -> bool:
        return self.value("select pgflow.write_chunk(%s, %s, %s)", blob_id, seq, content)

    def finish(self, blob_id: UUID, chunks: int, size: int = 4) -> UUID:
        finish = "select pgflow.finish_blob(%s, %s, %s, %s, sha256('page'), null)"
        self.rows(finish, blob_id, chunks, size, size)
        return blob_id

    def upload(self, run_id: UUID, step_slug: str, attempt: int = 1, chunks: int = 2) -> UUID:
        """Write a blob in chunks to its end."""
        blob_id = self.open(run_id, step_slug, attempt)
        assert blob_id
        for seq in range(chunks):
            assert self.write(blob_id, seq)
        return self.finish(blob_id, chunks)

    def read(self, blob_id: UUID) -> list[Any]:
        """What a worker asks of a blob, and of its chunks."""
        self.rows("select seq, content from pgflow.blob_chunks where blob_id = %s", blob_id)
        return self.rows("select * from pgflow.output_blobs where id = any(%s)", [blob_id])

    def delete(self, run_ids: list[UUID]) -> None:
        self.db.execute("delete from pgflow.runs where run_id = any(%s)", [run_ids])

    def blobs_of(self, run_id: UUID) -> set[UUID]:
        query = """
          select id from pgflow.output_blobs
          where id between pgflow.first_blob_id(%s) and pgflow.last_blob_id(%s)
        """
        return {row.id for row in self.rows(query, run_id, run_id)}

    def blobs(self) -> set[UUID]:
        return {row.id for row in self.rows("select id from pgflow.output_blobs")}

    def chunks(self) -> list[tuple[UUID, int]]:
        """The blob and number of each chunk."""
        stored = self.rows("select blob_id, seq from pgflow.blob_chunks order by blob_id, seq")
        return [tuple(row) for row in stored]
