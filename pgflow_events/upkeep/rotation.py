"""Moves blobs from old keys to the active one, by sealing only the key of each blob again.

If an earlier release sealed the blob, its digest is sealed again too. That binds the blob to what
its row says.

A rotation may be interrupted at any moment and called again. Workers and other rotations may run
meanwhile: each commit leaves whole blobs, and contents stay as they are.
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
    """What a rotation has done, and what it has left.

    Attributes:
        blobs: The number of blobs that were moved to the active key, or bound to their rows.
        damaged: Blobs whose own key is not the one that was written. They cannot be read.
        left: The numbers of blobs that need another key than the active one, by its id.
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
    """Whether an earlier release sealed it: it is not bound to what its row says."""


class Resealed(NamedTuple):
    """The new key of a blob, and perhaps its new digest."""

    id: UUID
    key_id: str
    data_key: bytes
    sha256: bytes | None
    """None if the digest stays as it is."""


# The next rows, whatever their keys are. With a condition on the key, each call would search every
# partition for its first matching row.
NEXT_SEALED = """
select
  b.id, b.key_id, b.data_key,
  b.data_key is not null and coalesce(octet_length(b.sha256) = %s, false)
from pgflow.output_blobs b
where b.id > %s order by b.id limit %s
"""

# The places of blobs that are not their task's own output: elements, and values that another step
# has passed on. The elements of a map's output have the places of its tasks. The ids of a run's
# blobs form one range.
PLACES = """
select e.id, b.id, (e.n - 1)::integer
from pgflow.output_blobs b cross join unnest(b.elements) with ordinality as e (id, n)
where
  b.id between %(first)s and %(last)s and b.task_index >= 0 and e.id = any(%(ids)s::uuid[])
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

# A forgotten blob needs no key.
LEFT = """
select b.key_id, count(*) from pgflow.output_blobs b
where b.key_id <> %s and b.data_key is not null
group by b.key_id order by b.key_id
"""


async def rotate(
    connection: Connection, ring: KeyRing, rotated: Rotated, *, batch: int = BATCH
) -> None:
    """Seal the key of each blob with the active key of the ring.

    A blob whose key is not in the ring is left. If the call is cancelled or fails, the committed
    batches stay done.

    Args:
        connection: The database. Each batch is a commit of its own.
        ring: The active key, and the keys before it.
        rotated: Counts what is done, so that a caller who interrupts the call can read it.
        batch: The number of rows for each commit.
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
    """Whether a sealed blob needs another key, or may need another digest."""
    return row.unbound or row.key_id not in {None, ring.active}


async def _unbound(
    connection: Connection, ids: Sequence[UUID]
) -> dict[UUID, tuple[BlobRow, Place]]:
    """The rows and places of these blobs, which an earlier release sealed.

    A blob with two places is left out: a step has passed it on, and a seal names one place only.
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
    """The new keys and digests of these blobs, and the ids of those whose keys do not open."""
    resealed, damaged = [], []
    for row in due:
        if row.unbound and row.id not in unbound and row.key_id == ring.active:
            continue  # it stays unbound
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
    """The digest of a blob, bound to its row and place. None if that was done meanwhile.

    Raises:
        KeyMissing: The ring lacks the blob's key.
        BlobDamaged: The digest is not the one that was written, or belongs to another run.
    """
    if not is_unbound(row.sha256 or b""):
        return None
    seal = seal_of(row.id, row.key_id, row.data_key, ring)
    digest, found = open_digest(row, seal)
    admit(row.id, found, place, None)
    return seal_digest(row, seal, digest, place)
