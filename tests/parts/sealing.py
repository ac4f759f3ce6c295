"""Values as releases sealed them that bound them to their ids alone, and a rotation."""

from blobstore.keys import KeyRing
from blobstore.keys.places import open_digest
from blobstore.keys.seals import DIGEST, seal_of
from blobstore.postgres import rows as blob_rows
from pgflow_events.postgres.connection import Connection
from pgflow_events.upkeep.rotation import Rotated, rotate

KEYS = KeyRing({"one": bytes(range(32))})

# With its key, or the trigger of the roles refuses it.
UNBIND = "update pgflow.output_blobs set sha256 = %s, data_key = %s where id = %s"


async def unbind(database: str) -> int:
    """Seal all digests again as releases did before this form; how many."""
    async with await Connection.connect(database) as connection:
        cursor = await connection.execute("select id from pgflow.output_blobs")
        ids = [blob_id for (blob_id,) in await cursor.fetchall()]
        for row in await blob_rows.fetch(connection, ids, content=False):
            seal = seal_of(row.id, row.key_id, row.data_key, KEYS)
            digest, _ = open_digest(row, seal)
            wrapped = KEYS.reseal(row.key_id or "", row.data_key or b"", row.id.bytes)
            await connection.execute(UNBIND, [seal.seal(digest, DIGEST), wrapped, row.id])
    return len(ids)


async def rotated_by(database: str, ring: KeyRing) -> Rotated:
    """What a rotation has done, some blobs at a time."""
    done = Rotated()
    async with await Connection.connect(database) as connection:
        await rotate(connection, ring, done, batch=3)
    return done
