"""Which compression level, whether to train a dictionary, and from what size on a value is a blob.

Compressing is measured in memory, on the corpora of `corpus.py`. Storing is measured on tables
shaped like `step_tasks` and `output_blobs`: a value as jsonb in the row of its task, or compressed
in a row of another table that the task's row refers to. WAL is that of this session alone
(PostgreSQL 18 counts it), so that others may use the server at the same time.
"""

import random
import resource
import time
import timeit
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, replace
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

import orjson
import psycopg
import trio
import zstandard
from psycopg.types.json import Jsonb, set_json_loads
from psycopg.types.numeric import Int8

from blobstore.dictionaries import Dictionary, gain, train
from tests.bench import corpus
from tests.bench.measuring import in_process, percentile

KIB = 1024
LEVELS = (1, 3, 6, 9)
SIZES = [512 * 2**power for power in range(9)]  # to 128 KiB
THRESHOLDS = [KIB * 2**power for power in range(7)]  # to 64 KiB
ROUNDS = 5
VALUES = 240
BATCH = 20  # values that are committed together
DICTIONARIES = 100

TABLES = """
drop schema if exists bench_sizes cascade;
create schema bench_sizes;
create table bench_sizes.tasks (
  run_id uuid, step_slug text, task_index integer, message_id bigint, status text,
  attempts_count integer, output jsonb, output_blob_id uuid, worker_id uuid,
  queued_at timestamptz default now(), started_at timestamptz, completed_at timestamptz,
  primary key (run_id, step_slug, task_index)
) with (fillfactor = 70, autovacuum_enabled = off, toast.autovacuum_enabled = off);
create table bench_sizes.blobs (
  id uuid primary key, run_id uuid, step_slug text, task_index integer, kind text, codec text,
  dictionary_id integer, content bytea, raw_size bigint, stored_size bigint, sha256 bytea,
  preview text, created_at timestamptz default now(), expires_at timestamptz
) with (autovacuum_enabled = off, toast.autovacuum_enabled = off);
alter table bench_sizes.blobs alter content set storage external;
"""

QUEUE = """
insert into bench_sizes.tasks (run_id, step_slug, task_index, message_id, status, attempts_count)
values (%b, 'page', 0, 1, 'queued', 1)
"""
COMPLETE = """
update bench_sizes.tasks
set status = 'completed', output = %b, output_blob_id = %b, completed_at = now()
where run_id = %b and step_slug = 'page' and task_index = 0
"""
KEEP = """
insert into bench_sizes.blobs
(id, run_id, step_slug, task_index, kind, codec, content, raw_size, stored_size, sha256, preview)
values (%b, %b, 'page', 0, %b, 'zstd', %b, %b, %b, %b, %b)
"""
READ = "select output, output_blob_id from bench_sizes.tasks where run_id = %b"
LOAD = "select kind, content, raw_size, sha256 from bench_sizes.blobs where id = %b"

USED = """
select
  pg_total_relation_size('bench_sizes.tasks') + pg_total_relation_size('bench_sizes.blobs'),
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


async def measure(dsn: str) -> dict[str, Any]:
    """Ratios and speeds for each corpus; costs for each size, threshold and way."""
    result: dict[str, Any] = {}
    for each in corpus.corpora():
        result |= await trio.to_thread.run_sync(compressing, each)
    site = corpus.site()
    result |= gains() | await in_process(memory, train(site.training), site.held_out[0])
    with psycopg.connect(dsn) as connection:
        set_json_loads(orjson.loads, connection)
        for name, values in (("text", corpus.texts), ("JSON", corpus.lists)):
            result |= await trio.to_thread.run_sync(thresholds, connection, name, values)
        result |= await trio.to_thread.run_sync(small_pages, connection)
        connection.execute("drop schema bench_sizes cascade")
    return result


def compressing(each: corpus.Corpus) -> dict[str, float]:
    """Ratio and speeds on what was held out, at each level and with a dictionary."""
    codecs: dict[str, Codec] = {f"level {level}": Zstd(level) for level in LEVELS}
    codecs["dictionary"] = Dictionary(1, train(each.training))
    result: dict[str, float] = {}
    for name, codec in codecs.items():
        ratio, compress, decompress = performance(codec, each.held_out)
        result |= {
            f"{each.name}, {name}: ratio": ratio,
            f"{each.name}, {name}: compress MB/s": compress,
            f"{each.name}, {name}: decompress MB/s": decompress,
        }
    return result


def performance(codec: Codec, values: Sequence[bytes]) -> tuple[float, float, float]:
    """How many times smaller values become, and megabytes a second there and back."""
    size = sum(map(len, values))
    frames = [(codec.compress(value), len(value)) for value in values]
    ways = (
        lambda: [codec.compress(value) for value in values],
        lambda: [codec.decompress(*frame) for frame in frames],
    )
    compress, decompress = (min(timeit.repeat(way, number=1, repeat=ROUNDS)) for way in ways)
    ratio = size / sum(len(frame) for frame, _ in frames)
    return ratio, size / compress / 1e6, size / decompress / 1e6


def gains() -> dict[str, float]:
    """What a dictionary gains where training saw other sections, few pages, or all sizes."""
    result: dict[str, float] = {}
    for each in corpus.trainings():
        plain, with_dictionary = gain(Dictionary(1, train(each.training)), each.held_out)
        result |= {
            f"{each.name}: ratio": plain,
            f"{each.name}: ratio with dictionary": with_dictionary,
        }
    return result


def memory(content: bytes, page: bytes) -> dict[str, float]:
    """What a dictionary takes, unused and used; in a process that does nothing else."""
    dictionaries = [Dictionary(0, content)]
    before = resident()
    dictionaries += (Dictionary(n, content) for n in range(DICTIONARIES))
    result = {"dictionary, unused: KiB": (resident() - before) / DICTIONARIES}
    for name, value in (("5 kB", page), ("64 KiB", (page * 64)[: 64 * KIB])):
        for each in dictionaries:
            each.decompress(each.compress(value), len(value))
        result[f"dictionary, used for {name}: KiB"] = (resident() - before) / DICTIONARIES
    return result


def resident() -> float:
    """KiB of memory that this process has; Linux tells."""
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * resource.getpagesize() / KIB


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


def thresholds(
    connection: Connection, name: str, values_of: Callable[[int], Iterator[Any]]
) -> dict[str, float]:
    """Costs at each size both ways; then of all sizes alike, with each threshold."""
    costs: dict[tuple[str, int], Cost] = {}
    result: dict[str, float] = {}
    for size in SIZES:
        values = list(islice(values_of(size), VALUES))
        for way, cost in compare(
            connection, values, {"inline": Inline(), "blob": Blob(Zstd(3))}
        ).items():
            costs[way, size] = cost
            result |= figures(f"{name} of {size / KIB:g} KiB, {way}", cost)
    for threshold in THRESHOLDS:
        mixed = [costs["inline" if size <= threshold else "blob", size] for size in SIZES]
        result |= figures(f"{name} of all sizes, threshold {threshold // KIB} KiB", mean(mixed))
    return result


def small_pages(connection: Connection) -> dict[str, float]:
    """Costs of 5 kB pages of one site: inline, compressed, compressed with a dictionary."""
    site = corpus.site()
    dictionary = Dictionary(1, train(site.training))
    ways = {"inline": Inline(), "blob": Blob(Zstd(3)), "dictionary": Blob(dictionary)}
    result: dict[str, float] = {}
    for way, cost in compare(connection, [page.decode() for page in site.held_out], ways).items():
        result |= figures(f"small pages, {way}", cost)
    return result


def figures(name: str, cost: Cost) -> dict[str, float]:
    """A line for each."""
    return {f"{name}: {figure.replace('_', ' ')}": value for figure, value in asdict(cost).items()}


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
