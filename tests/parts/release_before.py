"""The release before roles were narrowed: its SQL, and the calls of its worker.

`release_before.sql.xz` has the files of `sql/` of that release (commit a0af4be), in the order in
which it applied them, each after a line `-- file: <path>`. It stays as it is.
"""

import lzma
import re
from collections.abc import Iterator
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from threading import Event, Thread
from typing import Any
from uuid import UUID, uuid4

import psycopg
from psycopg.types.json import Jsonb
from psycopg.types.numeric import Int4, Int8

from blobstore.postgres.ids import new_blob_id
from blobstore.values.codec import compress

FILE = Path(__file__).with_suffix(".sql.xz")
RECORD = """
create schema pgflow;
create table pgflow.schema_files (
  path text primary key,
  checksum text not null,
  applied_at timestamptz not null default clock_timestamp()
)
"""
# As it made the functions of queues.
WRITE_QUEUE_FUNCTIONS = "select pgflow.make_queue_functions(f.flow_slug) from pgflow.flows f"

OPTIONS = {"max_attempts": 3, "base_delay": 1, "timeout": 60, "blob_threshold": 8192}
STEPS = {"page": [], "stream": ["page"], "many": ["page"], "total": ["page", "stream", "many"]}
FLOW = {
    "flow_slug": "f",
    **OPTIONS,
    "steps": [{"step_slug": step, "deps_slugs": deps} for step, deps in STEPS.items()],
}
PAGE = b"<p>a page</p>"
CHUNK = compress([b"a" * 10], 10)
STORED, DIGEST = 2 * (len(CHUNK) + 20), sha256(b"a" * 20).digest()

# What its worker said, word for word.
COLUMNS = """
id, run_id, step_slug, task_index, kind, media_type, codec, dictionary_id, key_id, data_key,
store, chunk_size, elements, raw_size, stored_size, sha256, preview
"""
INSERT = f"""
insert into pgflow.output_blobs ({COLUMNS}, content)
values (%b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b::uuid[], %b, %b, %b, %b, %b)
on conflict (id) do nothing
"""
SELECT = f"""
select {COLUMNS}, case when %b then content end, forgotten_at is not null
from pgflow.output_blobs
where id = any(%b)
"""
SIZES = "select id, raw_size from pgflow.output_blobs where id = any(%b)"
OPEN = "select pgflow.open_blob(%b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b)"
WRITE = "select pgflow.write_chunk(%b, %b, %b, %b)"
READ = "select seq, content from pgflow.blob_chunks where blob_id = %b and seq = any(%b)"
LOCK_RUNS = "select from pgflow.runs where run_id = any(%b) order by run_id for no key update"
FINISH = "select pgflow.finish_blob(%b, %b, %b, %b, %b, %b)"
CLAIM_COLUMNS = """
  (c.task).flow_slug, (c.task).run_id, (c.task).step_slug, (c.task).task_index,
  (c.task).attempts_count, (c.task).timeout, (c.task).input::text, (c.task).blobs_refs,
  (c.task).input_bytes,
  c.next_due, c.refused, c.owed_tasks, c.owed_runs, c.next_bytes, c.lapsed
"""
CLAIM = f"select {CLAIM_COLUMNS} from pgflow.claim_tasks(%b, %b, %b, %b) c"
COMPLETE = f"""
select {CLAIM_COLUMNS}
from pgflow.complete_tasks(%b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b) c
"""
CHORES = (
    "select pgflow.fail_lapsed_tasks('{f}')",
    "select * from pgflow.forget_blobs(1000)",
    "select pgflow.ensure_blob_days()",
    "select flow_slug, step_slug, max(id) from pgflow.blob_dictionaries group by 1, 2",
    "select pg_notify(pgflow.channel('workers', ''), ''), pg_notification_queue_usage()",
)


def install(dsn: str) -> None:
    """Bring an empty database to that release, with roles."""
    (package,) = find_spec("pgmq").submodule_search_locations  # type: ignore[union-attr]
    text = lzma.decompress(FILE.read_bytes()).decode()
    files = re.split(r"^-- file: (\S+)\n", text, flags=re.MULTILINE)[1:]
    texts = dict(zip(files[::2], files[1::2], strict=True))
    with psycopg.connect(dsn) as connection:
        execute = connection.execute
        execute("set search_path = pg_catalog, pg_temp; set check_function_bodies = off")
        execute("create schema pgmq")
        execute((Path(package) / "sql/pgmq.sql").read_bytes())
        execute(RECORD)
        for path, text in texts.items():
            for needed in re.findall(r"^-- needs (\S+)$", text, re.MULTILINE):
                execute(texts[needed].encode())
            execute(text.encode())
            execute(
                "insert into pgflow.schema_files (path, checksum) values (%s, %s)",
                [path, sha256(text.encode()).hexdigest()],
            )


class OldWorker(Thread):
    """A worker of that release as far as the database sees it, in one session for all its life.

    Attributes:
        errors: What the server said no to, but for a deadlock, after which it tried again.
        warnings: How many chores were refused for a right, and calls that lost a function.
        done: How many tasks it has completed.
    """

    def __init__(self, dsn: str) -> None:
        super().__init__()
        self._conninfo = dsn
        self._id = uuid4()
        self._stopping = Event()
        self.ready = Event()
        self.errors: list[psycopg.Error] = []
        self.warnings = self.done = 0

    def stop(self) -> None:
        """Have it leave, and wait for that."""
        self._stopping.set()
        self.join(30)

    def run(self) -> None:
        """Work until told to stop."""
        try:
            with psycopg.connect(self._conninfo, autocommit=True) as session:
                self._work(session)
        except psycopg.Error as error:
            self.errors.append(error)
        self.ready.set()

    def _work(self, session: psycopg.Connection[Any]) -> None:
        session.execute("select pgflow.define_flow(%s)", [Jsonb(FLOW)])
        session.execute("select pgflow.take_seat(%s, '{f}', 'here', 1)", [self._id])
        session.execute("set lock_timeout = '20s'")
        (channel,) = session.execute("select pgflow.channel('tasks', 'f')").fetchone() or ("",)
        session.execute(f"listen {channel}".encode())
        self.ready.set()
        while not self._stopping.is_set():
            claimed = self._again(session, self._claim)
            for task in claimed:
                self._again(session, self._complete, task)
            for chore in CHORES:
                self._again(session, self._tidy, chore)
            if not claimed:  # until the next start, or a moment later
                list(session.notifies(timeout=0.05, stop_after=1))
        session.execute("select pgflow.leave_seat(%s)", [self._id])

    def _tidy(self, session: psycopg.Connection[Any], chore: str) -> None:
        try:
            session.execute(chore.encode())
        except psycopg.errors.InsufficientPrivilege:
            self.warnings += 1  # and it tries again a minute later

    def _again(self, session: psycopg.Connection[Any], call: Any, *arguments: Any) -> Any:
        """Make a call; once more, as that release does, if it began before the migration."""
        while True:
            try:
                return call(session, *arguments)
            except psycopg.errors.DeadlockDetected:
                continue
            except psycopg.errors.UndefinedFunction:
                # It waited for a table, and a function that it calls was dropped meanwhile.
                self.warnings += 1
                if self.warnings > 1:
                    raise

    def _claim(self, session: psycopg.Connection[Any]) -> list[Any]:
        parameters = [["f"], Int4(10), self._id, Int8(1 << 28)]
        with session.cursor(binary=True) as cursor:
            *tasks, _ = cursor.execute(CLAIM, parameters, prepare=True).fetchall()
        return tasks

    def _complete(self, session: psycopg.Connection[Any], task: Any) -> None:
        _, run_id, step, index, attempt, _, _, refs, *_ = task
        self._load(session, [UUID(ref) for ref in refs.values()])
        blob_id = new_blob_id(run_id)
        if step == "stream":
            self._open(session, blob_id, run_id, attempt)
        with session.transaction():
            for row in self._rows(step, run_id, blob_id):
                session.execute(INSERT, row)
            if step == "stream":
                session.execute(LOCK_RUNS, [[run_id]])
                session.execute(FINISH, [blob_id, Int4(2), Int8(20), Int8(STORED), DIGEST, None])
            output, stored = (Jsonb(1), None) if step == "total" else (None, blob_id)
            with session.cursor(binary=True) as cursor:
                *_, last = cursor.execute(
                    COMPLETE,
                    [
                        *([run_id], [step], [Int4(index)], [Int4(attempt)], [output], [stored]),
                        *([None], [False], ["f"], Int4(0), self._id, Int8(0)),
                    ],
                    prepare=True,
                ).fetchall()
        _, refused, owed_tasks, owed_runs, *_ = last[9:]
        session.execute(
            "select pgflow.notify_owed(%s::text[], %s::text[])", [owed_tasks or [], owed_runs or []]
        )
        self.done += not refused

    def _load(self, session: psycopg.Connection[Any], ids: list[UUID]) -> None:
        with session.cursor(binary=True) as cursor:
            rows = cursor.execute(SELECT, [True, ids]).fetchall()
            assert len(rows) == len(ids)
            for row in rows:
                if row[12]:
                    assert len(cursor.execute(SIZES, [row[12]]).fetchall()) == 2
                if row[11]:
                    assert len(cursor.execute(READ, [row[0], [0, 1]]).fetchall()) == 2

    def _open(
        self, session: psycopg.Connection[Any], blob_id: UUID, run_id: UUID, attempt: int
    ) -> None:
        session.execute(
            OPEN,
            [
                *(blob_id, run_id, "stream", Int4(0), Int4(attempt), "bytes", None, "zstd"),
                *(None, None, None, Int4(10), False),
            ],
        )
        for seq in range(2):
            chunk = CHUNK + blob_id.bytes + seq.to_bytes(4, "big")
            session.execute(WRITE, [blob_id, Int4(seq), chunk, False])

    def _rows(self, step: str, run_id: UUID, blob_id: UUID) -> Iterator[list[object]]:
        def row(id_: UUID, kind: str, content: bytes, elements: Any = None) -> list[object]:
            size, digest = Int8(len(content)), sha256(content).digest()
            return [
                *(id_, run_id, step, Int4(0), kind, None, "none", None, None, None, None, None),
                *(elements, size, size, digest, None, content),
            ]

        if step == "page":
            yield row(blob_id, "text", PAGE)
        elif step == "many":
            elements = [new_blob_id(run_id) for _ in range(2)]
            yield from (row(element, "text", PAGE) for element in elements)
            yield row(blob_id, "list", b"[null,null]", elements)
