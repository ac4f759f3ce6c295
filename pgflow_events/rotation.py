"""Moves blobs from old keys to the active one: only the key of each blob is sealed again.

This may be interrupted at any moment and called again, beside running workers and beside
another rotation: each commit leaves whole blobs, and their content stays as it is.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

import trio

from blobstore import KeyMissing
from blobstore.keys import KeyRing
from pgflow_events.connection import Connection

BATCH = 2000


@dataclass(slots=True)
class Rotated:
    """What a rotation has done, and what it has not.

    Attributes:
        blobs: That have changed to the active key.
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


# So many rows, whatever their keys: with a condition, the server would look for the first row
# that fulfils it in every partition, each time again.
NEXT = """
select b.id, b.key_id, b.data_key from pgflow.output_blobs b
where b.id > %s order by b.id limit %s
"""

# Who has locked a row has better things to do than wait for us; it is left for the next time.
# A row that others have rotated or forgotten meanwhile stays as it is.
RESEAL = """
with free as materialized (
  select b.id from pgflow.output_blobs b
  where b.id = any(%(ids)s::uuid[]) for no key update skip locked
)
update pgflow.output_blobs b
set key_id = %(active)s, data_key = n.data_key
from free
join unnest(%(ids)s::uuid[], %(old)s::text[], %(keys)s::bytea[]) as n (id, key_id, data_key)
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
    while rows := await _next(connection, last, batch):
        last = rows[-1].id
        due = [row for row in rows if row.key_id not in {None, ring.active} and row.data_key]
        if due:
            resealed, damaged = await trio.to_thread.run_sync(partial(_reseal, ring, due))
            rotated.damaged += damaged
            rotated.blobs += await _save(connection, ring.active, resealed)
    cursor = await connection.execute(LEFT, [ring.active])
    rotated.left = dict(await cursor.fetchall())


async def _next(connection: Connection, last: UUID, batch: int) -> list[Sealed]:
    cursor = await connection.execute(NEXT, [last, batch], binary=True)
    return [Sealed(*row) for row in await cursor.fetchall()]


async def _save(connection: Connection, active: str, resealed: list[tuple[Any, ...]]) -> int:
    ids, old, keys = zip(*resealed, strict=True) if resealed else ((), (), ())
    cursor = await connection.execute(
        RESEAL, {"ids": list(ids), "old": list(old), "keys": list(keys), "active": active}
    )
    return cursor.rowcount


def _reseal(
    ring: KeyRing, due: Iterable[Sealed]
) -> tuple[list[tuple[UUID, str, bytes]], list[UUID]]:
    """The keys of these blobs under the active key, and the blobs whose keys do not open."""
    resealed, damaged = [], []
    for blob_id, key_id, data_key in due:
        try:
            wrapped = ring.reseal(key_id or "", data_key or b"", blob_id.bytes)
        except KeyMissing:
            continue
        except ValueError:
            damaged.append(blob_id)
        else:
            resealed.append((blob_id, key_id or "", wrapped))
    return resealed, damaged
