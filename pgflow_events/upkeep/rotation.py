"""Moves blobs from old keys to the active one: only the key of each blob is sealed again.

Of one that was sealed by an earlier release the digest is too, which binds it to what its row says.

This may be interrupted at any moment and called again, beside running workers and beside
another rotation: each commit leaves whole blobs, and their content stays as it is.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple
from uuid import UUID

import trio

from blobstore import BlobDamaged, KeyMissing, Place
from blobstore.keys import KeyRing
from blobstore.keys.places import SEALED_BEFORE, admit, is_unbound, open_digest, seal_digest
from blobstore.keys.seals import seal_of
from blobstore.postgres import rows
from blobstore.postgres.ids import HALF
from blobstore.postgres.rows import BlobRow
from pgflow_events.postgres.connection import Connection

BATCH = 2000


@dataclass(slots=True)
class Rotated:
    """What a rotation has done, and what it has not.

    Attributes:
        blobs: That have changed to the active key, or to the newest form.
        damaged: Whose own key is not what was written; they cannot be read by anybody.
        left: Blobs that need another key than the active one, by its id.
    """

    blobs: int = 0
    damaged: list[UUID] = field(default_factory=list)
    left: dict[str, int] = field(default_factory=dict)


class Sealed(NamedTuple):
    """The key of a blob."""

    id: UUID
    key_id: str | None
    data_key: bytes | None
    unbound: bool
    """Whether it is in the form before."""


class Resealed(NamedTuple):
    """What changes of a blob."""

    id: UUID
    key_id: str
    data_key: bytes
    sha256: bytes | None
    """None if it stays as it is."""


# So many rows, whatever their keys: with a condition, the server would look for the first row
# that fulfils it in every partition, each time again.
NEXT_SEALED = """
select
  b.id, b.key_id, b.data_key,
  b.data_key is not null and coalesce(octet_length(b.sha256) = %s, false)
from pgflow.output_blobs b
where b.id > %s order by b.id limit %s
"""

# Where a blob stands that is not its step's own output: an element, or a value that another step
# has passed on. The blobs of a run lie side by side.
PLACES = """
select e.id, b.id, (e.n - 1)::integer
from pgflow.output_blobs b cross join unnest(b.elements) with ordinality as e (id, n)
where b.id between %(first)s and %(last)s and e.id = any(%(ids)s::uuid[])
union all
select t.output_blob_id, null, null
from pgflow.output_blobs b join pgflow.step_tasks t on t.run_id = b.run_id
where
  b.id = any(%(ids)s::uuid[]) and t.output_blob_id = b.id
  and (t.step_slug, t.task_index) <> (b.step_slug, b.task_index)
"""

# Do not wait for locked rows; the next call takes them.
# A row that others have rotated or forgotten meanwhile stays as it is.
RESEAL = """
with free as materialized (
  select b.id from pgflow.output_blobs b
  where b.id = any(%(ids)s::uuid[]) for no key update skip locked
)
update pgflow.output_blobs b
set key_id = %(active)s, data_key = n.data_key, sha256 = coalesce(n.sha256, b.sha256)
from free
join unnest(%(ids)s::uuid[], %(old)s::text[], %(keys)s::bytea[], %(digests)s::bytea[])
  as n (id, key_id, data_key, sha256)
  on n.id = free.id
where b.id = free.id and b.key_id = n.key_id and b.data_key is not null
"""

# What is forgotten needs no key.
LEFT = """
select b.key_id, count(*) from pgflow.output_blobs b
where b.key_id <> %s and b.data_key is not null
group by b.key_id order by b.key_id
"""


async def rotate(
    connection: Connection, ring: KeyRing, rotated: Rotated, *, batch: int = BATCH
) -> None:
    """Seal the key of each blob with the active key of the ring.

    A blob whose key the ring does not have is left. What is cancelled, or fails, has done its
    work so far.

    Args:
        connection: Where to; each batch is a commit of its own.
        ring: The active key, and those before it.
        rotated: What is done is counted here, for those who interrupt it.
        batch: Rows that are looked at for each commit.
    """
    last = UUID(int=0)
    while page := await _next(connection, last, batch):
        last = page[-1].id
        due = [row for row in page if row.data_key and _is_due(row, ring)]
        if due:
            unbound = await _unbound(connection, [row.id for row in due if row.unbound])
            job = partial(_reseal, ring, due, unbound)
            resealed, damaged = await trio.to_thread.run_sync(job)
            rotated.damaged += damaged
            rotated.blobs += await _save(connection, ring.active, resealed)
    cursor = await connection.execute(LEFT, [ring.active])
    rotated.left = dict(await cursor.fetchall())


async def _next(connection: Connection, last: UUID, batch: int) -> list[Sealed]:
    cursor = await connection.execute(NEXT_SEALED, [SEALED_BEFORE, last, batch], binary=True)
    return [Sealed(*row) for row in await cursor.fetchall()]


def _is_due(row: Sealed, ring: KeyRing) -> bool:
    """Whether there may be something to do for a blob that is sealed."""
    return row.unbound or row.key_id not in {None, ring.active}


async def _unbound(
    connection: Connection, ids: Sequence[UUID]
) -> dict[UUID, tuple[BlobRow, Place]]:
    """Of these blobs of the form before, the rows and places; none of one that has two places.

    It is a value that a step has passed on: a seal can name one of both only.
    """
    if not ids:
        return {}
    found = await rows.fetch(connection, ids, content=False)
    places = {row.id: [Place.of(row)] for row in found}
    bounds = {"first": min(ids).int >> HALF << HALF, "last": max(ids).int | (1 << HALF) - 1}
    cursor = await connection.execute(
        PLACES, {"ids": list(ids)} | {name: UUID(int=some_id) for name, some_id in bounds.items()}
    )
    for blob_id, list_id, number in await cursor.fetchall():
        of_element = list_id is not None and len(places[blob_id]) == 1
        whole = places[blob_id][0]
        if of_element and whole.list_id is None:
            places[blob_id] = [whole.element(list_id, number)]
        else:
            places[blob_id].append(whole)
    return {row.id: (row, places[row.id][0]) for row in found if len(places[row.id]) == 1}


async def _save(connection: Connection, active: str, resealed: Sequence[Resealed]) -> int:
    ids, old, keys, digests = zip(*resealed, strict=True) if resealed else ((), (), (), ())
    cursor = await connection.execute(
        RESEAL,
        {
            "ids": list(ids), "old": list(old), "keys": list(keys), "digests": list(digests),
            "active": active,
        },
    )  # fmt: skip
    return cursor.rowcount


def _reseal(
    ring: KeyRing, due: Iterable[Sealed], unbound: Mapping[UUID, tuple[BlobRow, Place]]
) -> tuple[list[Resealed], list[UUID]]:
    """These blobs under the active key, and those whose keys do not open."""
    resealed, damaged = [], []
    for row in due:
        if row.unbound and row.id not in unbound and row.key_id == ring.active:
            continue  # it stays in the form before
        key_id, data_key = row.key_id or "", row.data_key or b""
        try:
            wrapped = ring.reseal(key_id, data_key, row.id.bytes)
            digest = _bind(*unbound[row.id], ring) if row.id in unbound else None
        except KeyMissing:
            continue
        except (ValueError, BlobDamaged):
            damaged.append(row.id)
        else:
            resealed.append(Resealed(row.id, key_id, wrapped, digest))
    return resealed, damaged


def _bind(row: BlobRow, place: Place, ring: KeyRing) -> bytes | None:
    """The digest of a blob, bound to its row and place; None if that was done meanwhile.

    Raises:
        KeyMissing: The ring has not its key.
        BlobDamaged: It is not what was written, or in the run of another.
    """
    if not is_unbound(row.sha256 or b""):
        return None
    seal = seal_of(row.id, row.key_id, row.data_key, ring)
    digest, found = open_digest(row, seal)
    admit(row.id, found, place, None)
    return seal_digest(row, seal, digest, place)
