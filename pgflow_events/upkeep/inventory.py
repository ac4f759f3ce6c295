"""Counts what is stored, by flow, step and size, without reading the contents of blobs."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from psycopg.rows import args_row

from pgflow_events.core.times import sane
from pgflow_events.postgres.connection import Connection

# Sizes are counted by powers of two: up to 256 bytes, up to 512, ... Each bound is the first
# size beyond its class.
LEAST_POWER = 8
BOUNDS = [2**power + 1 for power in range(LEAST_POWER, 40)]

# To know the length of JSON in a row, it must be read. So at most this much of a table is read.
SAMPLED_BYTES = 8 * 1024 * 1024


@dataclass(slots=True)
class SizeClass:
    """Values of about the same size."""

    up_to: int
    """The largest size in bytes, a power of two. The values have more than half of it."""
    inline: int = 0
    """Inline values. In a large table, an estimate."""
    blobs: int = 0
    raw_size: int = 0
    """Bytes before compression of the blobs that are not forgotten."""
    stored_size: int = 0
    """Stored bytes of these blobs."""


@dataclass(slots=True)
class StepInventory:
    """What is stored of a step. The step `run` stands for the inputs of the flow's runs."""

    flow_slug: str | None
    """None if the runs of the blobs are deleted."""
    step_slug: str
    threshold: int | None = None
    """Bytes of JSON up to which a value is stored inline. None if the step is not defined."""
    inline: int = 0
    """Inline values. In a large table, an estimate."""
    blobs: int = 0
    raw_size: int = 0
    """Bytes before compression of the blobs that are not forgotten."""
    stored_size: int = 0
    """Stored bytes of these blobs."""
    copies: int = 0
    """Blobs with the same bytes and kind as another blob of this step, sealed ones left out."""
    copied_size: int = 0
    """Stored bytes of the copies."""
    largest: int = 0
    """Bytes of the largest blob before compression."""
    oldest: datetime | None = None
    newest: datetime | None = None
    codecs: dict[str, int] = field(default_factory=dict)
    """Blobs by `none`, `zstd` and `zstd, dictionary`. Forgotten ones are left out."""
    keys: dict[str, int] = field(default_factory=dict)
    """Encrypted blobs by the id of the key that reads them. Forgotten ones are left out."""
    in_chunks: int = 0
    in_objects: int = 0
    """Blobs whose bytes are in an object storage."""
    forgotten: int = 0
    unfinished: int = 0
    """Blobs that are being written, or that a failed attempt left behind."""
    sizes: list[SizeClass] = field(default_factory=list)
    """In ascending order. Sizes without values are left out."""

    def size_class(self, place: int) -> SizeClass:
        """The size class of this number, as `width_bucket` counts them in BOUNDS."""
        up_to = 2 ** (LEAST_POWER + place)
        for sizes in self.sizes:
            if sizes.up_to == up_to:
                return sizes
        self.sizes.append(SizeClass(up_to))
        return self.sizes[-1]


class Group(NamedTuple):
    """Blobs that agree in everything by which they are counted."""

    flow_slug: str | None
    step_slug: str
    codec: str
    has_dictionary: bool
    key_id: str | None
    size_class: int | None
    in_chunks: bool
    in_objects: bool
    forgotten: bool
    blobs: int
    raw_size: int
    stored_size: int
    largest: int
    oldest: datetime
    newest: datetime


# The query does not name `content`, so PostgreSQL reads none of it from TOAST.
GROUPS = f"""
select
  r.flow_slug, b.step_slug, b.codec, b.dictionary_id is not null, b.key_id,
  width_bucket(b.raw_size, %(bounds)s::bigint[]), b.chunk_size is not null, b.store is not null,
  b.forgotten_at is not null, count(*),
  least(coalesce(sum(b.raw_size), 0), 9223372036854775807)::bigint,
  least(coalesce(sum(b.stored_size), 0), 9223372036854775807)::bigint, coalesce(max(b.raw_size), 0),
  min({sane("b.created_at")}), max({sane("b.created_at")})
from pgflow.output_blobs b left join pgflow.runs r on r.run_id = b.run_id
where
  (%(flow_slug)s::text is null or r.flow_slug = %(flow_slug)s)
  and (%(step_slug)s::text is null or b.step_slug = %(step_slug)s)
group by 1, 2, 3, 4, 5, 6, 7, 8, 9
"""  # noqa: S608 - put together from constants

COPIES = """
select
  d.flow_slug, d.step_slug, sum(d.copies)::bigint,
  least(sum(d.size), 9223372036854775807)::bigint
from (
  select
    r.flow_slug, b.step_slug,
    count(*) - 1 as copies, sum(b.stored_size) - max(b.stored_size) as size
  from pgflow.output_blobs b left join pgflow.runs r on r.run_id = b.run_id
  where
    -- Sealing makes equal digests differ. A list has null for its elements that are blobs.
    b.key_id is null and b.sha256 is not null and b.forgotten_at is null and b.kind <> 'list'
    and (%(flow_slug)s::text is null or r.flow_slug = %(flow_slug)s)
    and (%(step_slug)s::text is null or b.step_slug = %(step_slug)s)
  group by r.flow_slug, b.step_slug, b.kind, b.sha256
  having count(*) > 1
) d
group by d.flow_slug, d.step_slug
"""

PORTIONS = """
select least(100, 100.0 * %s / greatest(pg_relation_size(t.name::regclass), 1))::float8
from unnest(array['pgflow.step_tasks', 'pgflow.runs']) with ordinality as t (name, place)
order by t.place
"""

# Repeatable, so that two calls show what has changed and not two different samples.
INLINE = """
select i.flow_slug, i.step_slug, width_bucket(i.size, %(bounds)s::bigint[]), count(*), i.portion
from (
  select
    t.flow_slug, t.step_slug, octet_length(t.output::text)::bigint as size,
    %(tasks)s::float8 as portion
  from pgflow.step_tasks t tablesample system (%(tasks)s) repeatable (1)
  where t.output is not null
  union all
  select r.flow_slug, 'run', octet_length(r.input::text), %(runs)s::float8
  from pgflow.runs r tablesample system (%(runs)s) repeatable (1)
  where r.input_blob_id is null
) i
where
  (%(flow_slug)s::text is null or i.flow_slug = %(flow_slug)s)
  and (%(step_slug)s::text is null or i.step_slug = %(step_slug)s)
group by 1, 2, 3, 5
"""

THRESHOLDS = """
select s.flow_slug, s.step_slug, coalesce(s.opt_blob_threshold, f.opt_blob_threshold)
from pgflow.steps s join pgflow.flows f on f.flow_slug = s.flow_slug
union all
select f.flow_slug, 'run', f.opt_blob_threshold from pgflow.flows f
"""

NEEDING_OBJECTS = """
select b.id from pgflow.output_blobs b
where b.id = any(%s) and b.store = 'objects' and b.forgotten_at is null
"""

MAY_READ_VALUES = """
select
  has_column_privilege('pgflow.step_tasks', 'output', 'select')
  and has_column_privilege('pgflow.runs', 'input', 'select')
"""


async def take_inventory(
    connection: Connection, *, flow_slug: str | None = None, step_slug: str | None = None
) -> list[StepInventory]:
    """Count what is stored, by flow and step: everything, or only this flow or step.

    Reads the rows of all blobs, about four seconds for a million, but no contents. Counts inline
    values only if this login may read them, because PostgreSQL has to read a value to measure it.
    """
    asked = {"bounds": BOUNDS, "flow_slug": flow_slug, "step_slug": step_slug}
    found: dict[tuple[str | None, str], StepInventory] = {}

    def step(flow: str | None, slug: str) -> StepInventory:
        return found.setdefault((flow, slug), StepInventory(flow, slug))

    async with connection.cursor(row_factory=args_row(Group)) as groups:
        for group in await (await groups.execute(GROUPS, asked)).fetchall():
            _add_group(step(group.flow_slug, group.step_slug), group)
    for flow, slug, copies, size in await _fetch(connection, COPIES, asked):
        step(flow, slug).copies, step(flow, slug).copied_size = copies, size
    if await may_read_values(connection):
        (tasks,), (runs,) = await _fetch(connection, PORTIONS, [SAMPLED_BYTES])
        sampled = asked | {"tasks": tasks, "runs": runs}
        for flow, slug, place, count, portion in await _fetch(connection, INLINE, sampled):
            _add_inline(step(flow, slug), place, round(count * 100 / portion))
    for flow, slug, threshold in await _fetch(connection, THRESHOLDS, None):
        if (flow, slug) in found:
            step(flow, slug).threshold = threshold
    for each in found.values():
        each.sizes.sort(key=lambda sizes: sizes.up_to)
    return [found[key] for key in sorted(found, key=lambda key: (key[0] or "", key[1]))]


def _add_group(step: StepInventory, group: Group) -> None:
    """Add a group of blobs to what is stored of their step."""
    step.blobs += group.blobs
    step.largest = max(step.largest, group.largest)
    step.oldest = min(step.oldest or group.oldest, group.oldest)
    step.newest = max(step.newest or group.newest, group.newest)
    step.in_chunks += group.blobs * group.in_chunks
    step.in_objects += group.blobs * group.in_objects
    step.forgotten += group.blobs * group.forgotten
    if group.size_class is None:
        step.unfinished += group.blobs
    else:
        step.size_class(group.size_class).blobs += group.blobs
    if not group.forgotten:
        _add_kept(step, group)


def _add_kept(step: StepInventory, group: Group) -> None:
    """Add the bytes of blobs that are not forgotten."""
    codec = f"{group.codec}, dictionary" if group.has_dictionary else group.codec
    step.codecs[codec] = step.codecs.get(codec, 0) + group.blobs
    if group.key_id is not None:
        step.keys[group.key_id] = step.keys.get(group.key_id, 0) + group.blobs
    step.raw_size += group.raw_size
    step.stored_size += group.stored_size
    if group.size_class is not None:
        sizes = step.size_class(group.size_class)
        sizes.raw_size += group.raw_size
        sizes.stored_size += group.stored_size


def _add_inline(step: StepInventory, place: int, count: int) -> None:
    """Add inline values of one size class."""
    step.inline += count
    step.size_class(place).inline += count


async def _fetch(connection: Connection, statement: Any, parameters: Any) -> list[Any]:
    return await (await connection.execute(statement, parameters)).fetchall()


async def find_needing_objects(connection: Connection, ids: Sequence[UUID]) -> list[UUID]:
    """Those of these blobs whose rows need objects in the object storage."""
    return [blob_id for (blob_id,) in await _fetch(connection, NEEDING_OBJECTS, [list(ids)])]


async def may_read_values(connection: Connection) -> bool:
    """Whether this login may read inputs and outputs."""
    ((may,),) = await _fetch(connection, MAY_READ_VALUES, None)
    return bool(may)
