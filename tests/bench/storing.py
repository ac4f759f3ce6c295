"""Ways to store what tasks return, and what each of them costs.

Tables are shaped like `step_tasks` and `output_blobs`: a value as jsonb in the row of its task, or
compressed in a row of another table that the task's row refers to. WAL is that of this session
alone (PostgreSQL 18 counts it), so that others may use the server at the same time.
"""

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from hashlib import sha256
from typing import Any, Protocol
from uuid import UUID

import orjson
import psycopg
import zstandard
from psycopg.types.json import Jsonb
from psycopg.types.numeric import Int8

from tests.bench.measuring import percentile

ROUNDS = 5
BATCH = 20  # values that are committed together

TABLES = """
drop table if exists pgflow_bench.tasks, pgflow_bench.blobs;
create table pgflow_bench.tasks (
  run_id uuid, step_slug text, task_index integer, message_id bigint, status text,
  attempts_count integer, output jsonb, output_blob_id uuid, worker_id uuid,
  queued_at timestamptz default now(), started_at timestamptz, completed_at timestamptz,
  primary key (run_id, step_slug, task_index)
) with (fillfactor = 70, autovacuum_enabled = off, toast.autovacuum_enabled = off);
create table pgflow_bench.blobs (
  id uuid primary key, run_id uuid, step_slug text, task_index integer, kind text, codec text,
  dictionary_id integer, content bytea, raw_size bigint, stored_size bigint, sha256 bytea,
  preview text, created_at timestamptz default now(), expires_at timestamptz
) with (autovacuum_enabled = off, toast.autovacuum_enabled = off);
alter table pgflow_bench.blobs alter content set storage external;
"""

QUEUE = """
insert into pgflow_bench.tasks (run_id, step_slug, task_index, message_id, status, attempts_count)
values (%b, 'page', 0, 1, 'queued', 1)
"""
COMPLETE = """
update pgflow_bench.tasks
set status = 'completed', output = %b, output_blob_id = %b, completed_at = now()
where run_id = %b and step_slug = 'page' and task_index = 0
"""
KEEP = """
insert into pgflow_bench.blobs
(id, run_id, step_slug, task_index, kind, codec, content, raw_size, stored_size, sha256, preview)
values (%b, %b, 'page', 0, %b, 'zstd', %b, %b, %b, %b, %b)
"""
READ = "select output, output_blob_id from pgflow_bench.tasks where run_id = %b"
LOAD = "select kind, content, raw_size, sha256 from pgflow_bench.blobs where id = %b"

USED = """
select
  pg_total_relation_size('pgflow_bench.tasks') + pg_total_relation_size('pgflow_bench.blobs'),
  (select w.wal_bytes::bigint from pg_stat_get_backend_wal(pg_backend_pid()) w)
"""

Connection = psycopg.Connection[Any]


class Codec(Protocol):
    """Makes values smaller, and gives them back."""

    def compress(self, raw: bytes) -> bytes: ...

    def decompress(self, content: bytes, raw_size: int) -> bytes: ...


class Zstd:
    """With the contexts of one thread, as a worker has them."""

    def __init__(self, level: int) -> None:
        self.compress = zstandard.ZstdCompressor(level=level, write_checksum=True).compress
        self._context = zstandard.ZstdDecompressor()

    def decompress(self, content: bytes, raw_size: int) -> bytes:
        assert zstandard.frame_content_size(content) == raw_size
        return self._context.decompress(content)


@dataclass(frozen=True)
class Cost:
    """Of a value, on average."""

    store_ms: float
    """With the share of a commit in 20."""
    read_ms: float
    """Until the handler could have it."""
    disk_bytes: float
    """Of tables, TOAST and indexes, beyond those of a task without output."""
    wal_bytes: float
    """Likewise."""


class Nothing:
    """A task without output: what the other ways are compared with."""

    def store(self, connection: Connection, run_id: UUID, value: Any) -> None:
        connection.execute(COMPLETE, [None, None, run_id])

    def read(self, connection: Connection, run_id: UUID) -> Any:
        return connection.execute(READ, [run_id], binary=True).fetchall()[0][0]


class Inline(Nothing):
    """As jsonb in the row of the task."""

    def store(self, connection: Connection, run_id: UUID, value: Any) -> None:
        connection.execute(COMPLETE, [Jsonb(value, dumps=orjson.dumps), None, run_id])


class Blob(Nothing):
    """Compressed, in a row that the row of the task refers to."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec

    def store(self, connection: Connection, run_id: UUID, value: Any) -> None:
        is_text = isinstance(value, str)
        kind, raw = ("text", value.encode()) if is_text else ("json", orjson.dumps(value))
        blob_id, content, digest = new_id(), self._codec.compress(raw), sha256(raw).digest()
        sizes, preview = (Int8(len(raw)), Int8(len(content))), raw[:80].decode("utf-8", "ignore")
        connection.execute(KEEP, [blob_id, run_id, kind, content, *sizes, digest, preview])
        connection.execute(COMPLETE, [None, blob_id, run_id])

    def read(self, connection: Connection, run_id: UUID) -> Any:
        ((_, blob_id),) = connection.execute(READ, [run_id], binary=True).fetchall()
        ((kind, content, size, digest),) = connection.execute(
            LOAD, [blob_id], binary=True
        ).fetchall()
        raw = self._codec.decompress(content, size)
        assert sha256(raw).digest() == digest
        return raw.decode() if kind == "text" else orjson.loads(raw)


def mean(costs: Sequence[Cost]) -> Cost:
    """Of values of which each costs as often as any other."""
    return Cost(*(sum(each) / len(costs) for each in zip(*map(astuple, costs), strict=True)))


def median(costs: Sequence[Cost]) -> Cost:
    """Of each figure."""
    return Cost(*(percentile(each, 0.5) for each in zip(*map(astuple, costs), strict=True)))


def compare(
    connection: Connection, values: Sequence[Any], ways: Mapping[str, Nothing]
) -> dict[str, Cost]:
    """Medians of some rounds in which the ways take turns."""
    costs: dict[str, list[Cost]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        floor = trial(connection, values, Nothing())
        for name, way in ways.items():
            cost = trial(connection, values, way)
            disk, wal = cost.disk_bytes - floor.disk_bytes, cost.wal_bytes - floor.wal_bytes
            costs[name].append(replace(cost, disk_bytes=disk, wal_bytes=wal))
    return {name: median(each) for name, each in costs.items()}


def trial(connection: Connection, values: Sequence[Any], way: Nothing) -> Cost:
    """Store the values as outputs of tasks, then read them."""
    connection.execute(TABLES)
    run_ids = [new_id() for _ in values]
    connection.cursor().executemany(QUEUE, [(run_id,) for run_id in run_ids])
    connection.commit()
    (disk, wal), began = used(connection), time.perf_counter()
    for first in range(0, len(values), BATCH):
        batch = slice(first, first + BATCH)
        with connection.transaction(), connection.pipeline():
            for run_id, value in zip(run_ids[batch], values[batch], strict=True):
                way.store(connection, run_id, value)
    stored, (disk_after, wal_after) = time.perf_counter(), used(connection)
    reading = time.perf_counter()
    read = [way.read(connection, run_id) for run_id in run_ids]
    ended = time.perf_counter()
    assert type(way) is Nothing or read == values
    spent = (stored - began) * 1e3, (ended - reading) * 1e3, disk_after - disk, wal_after - wal
    return Cost(*(each / len(values) for each in spent))


def used(connection: Connection) -> tuple[int, int]:
    """Bytes of the tables, and of WAL that this session wrote so far."""
    connection.execute("select pg_stat_force_next_flush()")
    connection.commit()
    row: tuple[int, int] = connection.execute(USED).fetchall()[0]
    connection.commit()
    return row


def new_id() -> UUID:
    """Ordered by time, as ids of runs and blobs are."""
    return UUID(int=time.time_ns() << 64 | random.getrandbits(64))
