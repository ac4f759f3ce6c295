"""Encodes, saves and loads values; each worker or client owns one of these."""

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import trio
from psycopg import AsyncConnection

from blobstore import inputs, rows
from blobstore.abc import BlobStore, Caller, Keys, caller_of
from blobstore.codec import Inline, serialize
from blobstore.depot import Depot
from blobstore.errors import NotSealed, ValueTooLarge
from blobstore.handle import Blob
from blobstore.places import is_since
from blobstore.reading import Loaded, load
from blobstore.rows import Owner, Stored
from blobstore.trio_only import need_trio
from blobstore.values import is_wide
from blobstore.writing import Encoder

KIB = 1024
MIB = 1024 * KIB


class Blobs:
    """Encodes, saves and loads values.

    Args:
        make: Makes calls to the database, each a commit of its own.
        threshold: Bytes of JSON up to which a value is kept inline.
        cap: Bytes a value in memory may have, before compression. Streams have no cap.
        cache_budget: Bytes of memory for what was written or read last.
        chunk_size: Bytes beyond which a value is kept in chunks of this size; 64 MiB at most.
        keys: What seals blobs. Then every value becomes a blob, whatever its size.
        objects: Keeps the chunks of values of `object_threshold` bytes and more, and of
            streams that are longer than a chunk.
        object_threshold: Bytes, as above.
        sealed_only: From when on no run has values in clear, by the time in its id.
    """

    def __init__(
        self,
        make: Caller,
        *,
        threshold: int = 8 * KIB,
        cap: int = 2048 * MIB,
        cache_budget: int = 64 * MIB,
        chunk_size: int = 4 * MIB,
        keys: Keys | None = None,
        objects: BlobStore | None = None,
        object_threshold: int = 16 * MIB,
        sealed_only: datetime | None = None,
    ) -> None:
        self._threshold = threshold
        self._depot = Depot(
            make,
            cap=cap,
            cache_budget=cache_budget,
            chunk_size=chunk_size,
            keys=keys,
            objects=objects,
            object_threshold=object_threshold,
            sealed_only=sealed_only,
        )

    async def encode(
        self,
        value: object,
        owner: Owner,
        *,
        threshold: int | None = None,
        by_element: bool = False,
        media_type: str | None = None,
        connection: AsyncConnection[Any] | None = None,
    ) -> Inline | Stored:
        """Make of a value what can be stored; what is longer than a chunk is written at once.

        A checkpoint. Large values are encoded in a thread, and a cancellation waits for
        that (milliseconds).

        Args:
            value: What a handler returned; it must not change until this returns. Of an
                asynchronous iterator and of the path of a file, the bytes are stored; of a
                handle, a reference.
            owner: Whose value it is.
            threshold: Bytes of JSON up to which it is kept inline, instead of the default.
            by_element: Whether a list is stored by its elements.
            media_type: What it is, if its type does not say.
            connection: That of the caller's transaction, which is to start the owner, a run, on
                this input: chunks are written there, rather than in commits of their own.

        Raises:
            ValueRefused: It could not come back as it was; the message names the place.
            ValueTooLarge: It is larger than the cap.
            BlobUnavailable: The attempt has lost its task meanwhile.
        """
        need_trio("Blobs.encode()")
        within = caller_of(connection) if connection else None
        encoder = Encoder(self._depot, owner, media_type, within)
        limit = self._threshold if threshold is None else threshold
        if by_element and type(value) is list:
            return await encoder.encode_list(value, limit)
        return await encoder.encode(value, limit)

    async def inline(self, value: object, *, threshold: int | None = None) -> Inline | None:
        """Make of a small value what stands in a row; None for others, see :meth:`encode`.

        A checkpoint.

        Args:
            value: What a handler may return.
            threshold: Bytes of JSON up to which it is kept inline, instead of the default.

        Raises:
            ValueRefused: It could not come back as it was; the message names the place.
        """
        need_trio("Blobs.inline()")
        await trio.lowlevel.checkpoint()
        # Who seals leaves nothing in a row.
        if self._depot.keys or isinstance(value, Blob | Path | AsyncIterator) or is_wide(value):
            return None
        limit = self._threshold if threshold is None else threshold
        try:
            form = serialize(value, threshold=limit, cap=limit)
        except ValueTooLarge:  # told before it is written
            return None
        return form if isinstance(form, Inline) else None

    async def save(
        self,
        connection: AsyncConnection[Any],
        stored: Sequence[Stored],
        run_ids: Collection[UUID] = (),
    ) -> None:
        """Save blobs in the caller's transaction; saving one twice is saving it once.

        Args:
            connection: The caller's.
            stored: The blobs.
            run_ids: Runs that the transaction will lock later on; where locks are taken here,
                these are taken with them, all in one order.

        Raises:
            psycopg.Error: They cannot be saved; the transaction has failed.
        """
        need_trio("Blobs.save()")
        await rows.save(connection, stored, run_ids)

    async def save_inputs(self, connection: AsyncConnection[Any], stored: Sequence[Stored]) -> None:
        """Save the inputs of runs, before the caller's transaction starts these.

        Args:
            connection: The caller's, which needs the rights of a client alone.
            stored: What :meth:`encode` has made with this connection.

        Raises:
            psycopg.errors.UniqueViolation: There is a run of this id.
            psycopg.Error: They cannot be saved; the transaction has failed.
        """
        need_trio("Blobs.save_inputs()")
        await inputs.save(connection, stored)

    def saved(
        self,
        connection: AsyncConnection[Any],
        stored: Sequence[Stored],
        run_ids: Collection[UUID] = (),
    ) -> AbstractAsyncContextManager[None]:
        """Save blobs, and do what the block does, in one transaction: mostly in one round trip.

        The block sends one statement, and reads its answer after the block.

        Args:
            connection: One that commits by itself, in no transaction.
            stored: The blobs; any that are saved already, or none.
            run_ids: As for :meth:`save`.

        Raises:
            psycopg.Error: At the end of the block; nothing was done.
        """
        return rows.saved(connection, stored, run_ids)

    async def load(self, ids: Collection[UUID], handles: Collection[UUID] = ()) -> Loaded:
        """Get blobs: with one query for those that are not in the cache, or with none.

        A checkpoint.

        Args:
            ids: Those whose values are wanted. One that is missing is an error only to those
                who ask for it.
            handles: Those whose handles are wanted.

        Raises:
            psycopg.Error: A query failed.
        """
        need_trio("Blobs.load()")
        return await load(self._depot, ids, handles)

    def admit_inline(self, run_id: UUID) -> None:
        """See that a value of this run may stand in a row, where it is in clear.

        Raises:
            NotSealed: Only sealed values are taken of this run.
        """
        if is_since(run_id, self._depot.sealed_only):
            raise NotSealed(
                f"run {run_id} has a value that is not encrypted,"
                " and this process accepts only sealed values"
            )

    async def use_dictionaries(self, flow_slugs: Sequence[str]) -> None:
        """Compress with the newest dictionary of each step of these flows, from now on."""
        need_trio("Blobs.use_dictionaries()")
        await self._depot.use_dictionaries(flow_slugs)
