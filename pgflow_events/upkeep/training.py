"""Trains a zstd dictionary on the outputs of a step, and measures what it gains."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

import orjson
import trio
from psycopg.rows import scalar_row

from blobstore import BlobError, Blobs
from blobstore.values.dictionaries import Dictionary, Gain, gain, train
from pgflow_events.errors import PgflowError
from pgflow_events.postgres.connection import Connection

SAMPLED_BYTES = 64 * 1024 * 1024  # at most in memory: of blobs, and as much again of rows

# What a blob takes besides its content: its row, its index entries, and its id in the task's row.
BLOB_BYTES = 350

THRESHOLDS = [2**power for power in range(8, 15)]


class Sample(NamedTuple):
    """An output of a step."""

    raw: bytes
    inline_size: int | None
    """Bytes that it takes in the row of its task. None if it is a blob."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A dictionary, and what it gains on outputs that it was not trained on."""

    dictionary_id: int | None
    """None if it was not stored."""
    size: int
    """Bytes."""
    samples: int
    """Outputs it was trained on."""
    held_out: int
    """Outputs that were kept back to measure it."""
    plain_ratio: float
    """How many times smaller these become without the dictionary."""
    dictionary_ratio: float
    """How many times smaller they become with it."""
    threshold: int
    """The step's threshold: bytes of JSON up to which an output is stored inline."""
    better_threshold: int | None
    """A lower threshold, with which the outputs take the fewest bytes. None if none is better."""
    saved: float
    """The share of the bytes of all held-out outputs that this threshold saves, from 0 to 1."""


SEALED = """
select exists (
  select from pgflow.output_blobs b join pgflow.runs r on r.run_id = b.run_id
  where r.flow_slug = %s and b.key_id is not null
)
"""

THRESHOLD = """
select coalesce(s.opt_blob_threshold, f.opt_blob_threshold)
from pgflow.steps s join pgflow.flows f on f.flow_slug = s.flow_slug
where s.flow_slug = %s and s.step_slug = %s
"""

# The elements of a list are blobs of its step. The list itself, and blobs in chunks, are
# compressed without a dictionary.
NEWEST_BLOBS = """
select n.id
from (
  select b.id, sum(b.raw_size) over (order by b.id desc rows unbounded preceding) as total
  from pgflow.output_blobs b join pgflow.runs r on r.run_id = b.run_id
  where
    r.flow_slug = %(flow)s and b.step_slug = %(step)s and b.kind <> 'list'
    and b.chunk_size is null and b.sha256 is not null and b.forgotten_at is null
  order by b.id desc limit %(count)s
) n
where n.total <= %(size)s
"""

NEWEST_INLINE = """
select n.output, n.size
from (
  select
    t.output::text, pg_column_size(t.output) as size,
    sum(octet_length(t.output::text))
      over (order by t.run_id desc, t.task_index rows unbounded preceding) as total
  from pgflow.step_tasks t
  where t.flow_slug = %(flow)s and t.step_slug = %(step)s and t.output is not null
  order by t.run_id desc, t.task_index limit %(count)s
) n
where n.total <= %(size)s
"""

STORE = """
insert into pgflow.blob_dictionaries (flow_slug, step_slug, content, samples)
values (%s, %s, %s, %s)
returning id
"""


async def train_step(
    connection: Connection,
    blobs: Blobs,
    flow_slug: str,
    step_slug: str,
    *,
    count: int = 1000,
    size: int,
    dry_run: bool = False,
) -> Trained:
    """Train a dictionary on the newest outputs of a step, and store it if it gains anything.

    Three of four outputs are for training, the fourth is held out. Equal outputs count once.

    Args:
        connection: Where the outputs are.
        blobs: Reads the outputs that are blobs.
        flow_slug: The flow.
        step_slug: The step.
        count: How many blobs to read at most, and how many inline outputs. Of each, at most
            64 MiB are read.
        size: The largest size of the dictionary, in bytes.
        dry_run: Store nothing.

    Raises:
        PgflowError: There is no such step, or it has no outputs, or its flow has encrypted blobs,
            or the dictionary gains nothing.
        ValueError: No dictionary can be trained on these outputs. The message says why.
    """
    threshold = await _threshold(connection, flow_slug, step_slug)
    asked = {"flow": flow_slug, "step": step_slug, "count": count, "size": SAMPLED_BYTES}
    found = [*await _blobs(connection, blobs, asked), *await _inline(connection, asked)]
    if not found:
        raise PgflowError(
            f'step "{step_slug}" of flow "{flow_slug}" has no stored outputs: train it after some'
            " runs have completed"
        )
    samples = list({sample.raw: sample for sample in found}.values())
    training = [sample.raw for n, sample in enumerate(samples) if n % 4]
    held_out = samples[::4]
    content = await trio.to_thread.run_sync(train, training, size)
    judged = partial(_judge, content, held_out, threshold)
    gained, better, saved = await trio.to_thread.run_sync(judged)
    if gained.dictionary_ratio <= gained.plain_ratio:
        raise PgflowError(
            "a dictionary makes these outputs no smaller: the compression ratio is"
            f" {gained.plain_ratio:.2f} without it and {gained.dictionary_ratio:.2f} with it"
        )
    stored = None
    if not dry_run:
        stored = await _scalar(connection, STORE, flow_slug, step_slug, content, len(training))
    return Trained(
        stored, len(content), len(training), len(held_out), *gained, threshold, better, saved
    )


async def _threshold(connection: Connection, flow_slug: str, step_slug: str) -> int:
    """Return the step's threshold, or refuse a step that may not have a dictionary."""
    threshold = await _scalar(connection, THRESHOLD, flow_slug, step_slug)
    if threshold is None:
        raise PgflowError(f'there is no step "{step_slug}" of a flow "{flow_slug}"')
    if await _scalar(connection, SEALED, flow_slug):
        raise PgflowError(
            f'flow "{flow_slug}" has encrypted blobs: a dictionary would hold pieces of values'
            " unencrypted, and encrypted values do not use it"
        )
    return int(threshold)


async def _scalar(connection: Connection, statement: Any, *parameters: object) -> Any:
    cursor = connection.cursor(row_factory=scalar_row)
    await cursor.execute(statement, parameters)
    return await cursor.fetchone()


async def _blobs(connection: Connection, blobs: Blobs, asked: dict[str, object]) -> list[Sample]:
    """The newest outputs that are blobs. Damaged and meanwhile deleted ones are left out."""
    cursor = await connection.execute(NEWEST_BLOBS, asked)
    ids: list[UUID] = [blob_id for (blob_id,) in await cursor.fetchall()]
    loaded = await blobs.load(ids)
    samples = []
    for blob_id in ids:
        with suppress(BlobError):
            samples.append(Sample(await loaded.handle(blob_id).bytes(), None))
    return samples


async def _inline(connection: Connection, asked: dict[str, object]) -> list[Sample]:
    """The newest inline outputs, as the bytes they would have as blobs."""
    cursor = await connection.execute(NEWEST_INLINE, asked)
    found = await cursor.fetchall()
    return await trio.to_thread.run_sync(
        lambda: [Sample(_as_blob(output), size) for output, size in found]
    )


def _as_blob(json: str) -> bytes:
    """The bytes that a blob of this value would have."""
    try:
        value = orjson.loads(json)
    except orjson.JSONDecodeError:  # a number beyond the range of floats, stored by a SQL caller
        return json.encode()
    return value.encode() if isinstance(value, str) else orjson.dumps(value)


def _judge(
    content: bytes, held_out: Sequence[Sample], threshold: int
) -> tuple[Gain, int | None, float]:
    """The dictionary's gain, the best lower threshold or None, and the share it would save."""
    dictionary = Dictionary(0, content)
    costs = [
        (len(sample.raw), sample.inline_size, len(dictionary.compress(sample.raw)) + BLOB_BYTES)
        for sample in held_out
    ]
    saved = {
        lower: sum(inline - blob for raw, inline, blob in costs if inline and raw > lower)
        for lower in THRESHOLDS
        if lower < threshold
    }
    best = max(saved, key=lambda lower: saved[lower], default=None)
    gained = gain(dictionary, [sample.raw for sample in held_out])
    if best is None or saved[best] <= 0:
        return gained, None, 0.0
    return gained, best, saved[best] / sum(inline or blob for _, inline, blob in costs)
