"""Encodes, saves and loads values. Each worker and each client owns a `Blobs`."""

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import trio
from psycopg import AsyncConnection

from blobstore.abc import BlobStore, Caller, Keys, caller_of
from blobstore.depot import Depot
from blobstore.errors import NotSealed, ValueTooLarge
from blobstore.handle import Blob
from blobstore.keys.places import is_since
from blobstore.postgres import inputs, rows
from blobstore.postgres.rows import Owner, Stored
from blobstore.reading import Loaded, load
from blobstore.trio_only import need_trio
from blobstore.values.codec import Inline, serialize
from blobstore.values.contract import is_brief, is_wide
from blobstore.writing import Encoder

KIB = 1024
MIB = 1024 * KIB


class Blobs:
    """Encodes, saves and loads values.

    Args:
        make: Runs calls on a connection. Each call commits by itself.
        threshold: The size of the JSON, in bytes, up to which a value stays inline. 8 KiB by
            default.
        cap: The largest size in bytes of a value in memory, before compression. 2 GiB by
            default. Streams have no cap.
        cache_budget: The bytes of memory for the values that were written or read last. 64 MiB by
            default.
        chunk_size: A value of more bytes is stored in chunks of this size. 4 MiB by default, and
            64 MiB at most.
        keys: The keys that seal blobs. With keys, every value becomes a blob, whatever its size.
        objects: The object storage. It keeps the chunks of values of `object_threshold` bytes or
            more, and of streams that are longer than a chunk.
        object_threshold: The size in bytes from which a value goes to `objects`. 16 MiB by default.
        sealed_only: Refuse unencrypted values of runs whose ids have this time or a later one.
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
        feeds_map: bool = False,
        is_element: bool = False,
        media_type: str | None = None,
        connection: AsyncConnection[Any] | None = None,
    ) -> Inline | Stored:
        """Encode a value, so that it can be saved. Chunks of a large value are written at once.

        A checkpoint, except for a brief value, which takes microseconds: then only a cancellation
        is heeded. Large values are encoded in a thread. A cancellation waits for the thread
        (milliseconds).

        Args:
            value: What a handler returned. It must not change until this call returns. For an
                asynchronous iterator or the path of a file, the bytes are stored. For a handle,
                a reference is stored.
            owner: The run and the step that the value belongs to.
            threshold: The size of the JSON, in bytes, up to which the value stays inline. None
                means the default of this object.
            by_element: Whether a list is stored by its elements.
            feeds_map: Whether a map goes over the value. It must be a list. It is stored by its
                elements, so that SQL can count them, unless the whole of it stays inline.
            is_element: Whether the value is the output of a map's task, and so an element of a
                list. A list among such values is stored as JSON.
            media_type: The media type, such as ``text/html``. None means the default of the type.
            connection: For the input of a run: the connection whose transaction starts the run.
                Chunks are written in this transaction. With None, each chunk is a commit.

        Raises:
            ValueRefused: The value could not come back as it was. The message names the place.
            ValueTooLarge: The value is larger than the cap.
            NotAList: A map goes over the value, and it is no list.
            BlobUnavailable: The attempt has lost its task meanwhile.
        """
        need_trio("Blobs.encode()")
        limit = self._threshold if threshold is None else threshold
        by_element = by_element and type(value) is list and not feeds_map and not is_element
        if is_brief(value) and not by_element and not feeds_map and not self._depot.keys:
            await trio.lowlevel.checkpoint_if_cancelled()
            form = serialize(value, threshold=limit, cap=self._depot.cap)
            if isinstance(form, Inline):
                return form
        within = caller_of(connection) if connection else None
        encoder = Encoder(
            self._depot, owner, media_type, within, feeds_map=feeds_map, is_element=is_element
        )
        if by_element:
            return await encoder.encode_list(value, limit)  # type: ignore[arg-type]
        return await encoder.encode(value, limit)

    async def inline(self, value: object, *, threshold: int | None = None) -> Inline | None:
        """Encode a small value inline. Returns None for other values: :meth:`encode` takes those.

        A checkpoint.

        Args:
            value: What a handler may return.
            threshold: The size of the JSON, in bytes, up to which the value stays inline. None
                means the default of this object.

        Raises:
            ValueRefused: The value could not come back as it was. The message names the place.
        """
        need_trio("Blobs.inline()")
        await trio.lowlevel.checkpoint()
        # With keys, no value stays inline, where it would not be encrypted.
        if self._depot.keys or isinstance(value, Blob | Path | AsyncIterator) or is_wide(value):
            return None
        limit = self._threshold if threshold is None else threshold
        try:
            form = serialize(value, threshold=limit, cap=limit)
        except ValueTooLarge:  # raised before the JSON is written
            return None
        return form if isinstance(form, Inline) else None

    async def save(
        self,
        connection: AsyncConnection[Any],
        stored: Sequence[Stored],
        run_ids: Collection[UUID] = (),
    ) -> None:
        """Save blobs in the caller's transaction. To save a blob again changes nothing.

        Args:
            connection: The caller's connection.
            stored: The blobs.
            run_ids: Runs that the transaction locks later. If this call locks runs, it locks
                these too, so that all runs are locked in one order.

        Raises:
            psycopg.Error: The blobs cannot be saved. The transaction has failed.
        """
        need_trio("Blobs.save()")
        await rows.save(connection, stored, run_ids)

    async def save_inputs(self, connection: AsyncConnection[Any], stored: Sequence[Stored]) -> None:
        """Save the inputs of runs. The caller's transaction starts the runs afterwards.

        Args:
            connection: The caller's connection. The rights of a client are enough.
            stored: The results of :meth:`encode` with this connection.

        Raises:
            psycopg.errors.UniqueViolation: A run has this id already.
            psycopg.Error: The inputs cannot be saved. The transaction has failed.
        """
        need_trio("Blobs.save_inputs()")
        await inputs.save(connection, stored)

    def saved(
        self,
        connection: AsyncConnection[Any],
        stored: Sequence[Stored],
        run_ids: Collection[UUID] = (),
    ) -> AbstractAsyncContextManager[None]:
        """Save blobs and run the block in one transaction, mostly in one round trip.

        The block sends one statement. Its result can be read after the block.

        Args:
            connection: A connection in autocommit mode, outside of a transaction.
            stored: The blobs. Those that are saved already change nothing, and it may be empty.
            run_ids: As for :meth:`save`.

        Raises:
            psycopg.Error: Raised at the end of the block. Nothing was changed.
        """
        return rows.saved(connection, stored, run_ids)

    async def load(self, ids: Collection[UUID], handles: Collection[UUID] = ()) -> Loaded:
        """Load blobs. One query loads those that are not in the cache.

        A checkpoint.

        Args:
            ids: The blobs whose values are needed. A missing blob is no error here: only calls
                for it raise.
            handles: The blobs whose handles are needed.

        Raises:
            psycopg.Error: A query failed.
        """
        need_trio("Blobs.load()")
        return await load(self._depot, ids, handles)

    def admit_inline(self, run_id: UUID) -> None:
        """Check that an inline value of this run is accepted. Inline values are not encrypted.

        Raises:
            NotSealed: Only sealed values of this run are accepted.
        """
        if is_since(run_id, self._depot.sealed_only):
            raise NotSealed(
                f"run {run_id} has a value that is not encrypted,"
                " and this process accepts only sealed values"
            )

    async def use_dictionaries(self, flow_slugs: Sequence[str]) -> None:
        """From now on, compress with the newest dictionary of each step of these flows."""
        need_trio("Blobs.use_dictionaries()")
        await self._depot.use_dictionaries(flow_slugs)
