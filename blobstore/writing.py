"""Turns a value into its stored form: inline, a blob in one row, or a blob in chunks."""

import mimetypes
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import trio

from blobstore.abc import BlobStore, Caller
from blobstore.chunks import Chunks
from blobstore.depot import HEAVY, Depot
from blobstore.errors import BlobMissing, BlobUnavailable, NotAList, ValueRefused
from blobstore.handle import Blob
from blobstore.keys.places import Place, digested
from blobstore.keys.seals import CONTENT, Seal, new_seal
from blobstore.lists import Elements
from blobstore.postgres import inputs, rows
from blobstore.postgres.ids import new_blob_id
from blobstore.postgres.rows import BlobRow, Owner, Stored
from blobstore.postgres.store import PostgresStore
from blobstore.streams import chain, checked, drawn, file_pieces, regroup
from blobstore.together import beside
from blobstore.values.codec import Bytes, Inline, Payload, pack, preview_of, serialize
from blobstore.values.contract import is_brief, is_wide


class Encoder:
    """Encodes the value of one owner.

    Args:
        depot: The database, the keys and the other shared objects.
        owner: The run and the step that the value belongs to.
        media_type: The media type; None means the default of the value's type.
        within: Runs calls in the caller's transaction, which then starts the run whose input this
            is. With None, each call is a commit.
        feeds_map: Whether a map goes over the value, which must be a list.
        is_element: Whether the value is an element of a list. Such a value is not stored by its
            elements.
    """

    def __init__(
        self,
        depot: Depot,
        owner: Owner,
        media_type: str | None = None,
        within: Caller | None = None,
        *,
        feeds_map: bool = False,
        is_element: bool = False,
    ) -> None:
        self._depot = depot
        self._owner = owner
        self._media_type = media_type
        self._within = within
        self._feeds_map = feeds_map
        self._is_element = is_element

    async def encode(self, value: object, threshold: int) -> Inline | Stored:
        """Encode a value, so that it can be saved."""
        if isinstance(value, Blob):
            return await self._pass_on(value, threshold)
        if self._feeds_map:
            return await self._encode_for_map(value, threshold)
        match value:
            case Path():
                guessed, packed = mimetypes.guess_type(value)
                # The bytes of page.html.gz are not text/html.
                self._media_type = self._media_type or (None if packed else guessed)
                return await self._stream(file_pieces(value, self._depot.files))
            case AsyncIterator():
                return await self._stream(value)
        form = await self._serialize(value, threshold)
        return form if isinstance(form, Inline) else await self._store(form)

    async def encode_list(self, values: list[Any], threshold: int) -> Stored:
        """Encode a list by its elements. Each element that is not small is a blob.

        SQL reads a list that feeds a map. So it is not compressed, and it is not sealed: with keys,
        each of its elements is a blob of its own.
        """
        list_id = new_blob_id(self._owner.run_id)
        elements = Elements(
            self._depot,
            list_id,
            Place.of(self._owner),
            threshold=threshold,
            pack=self._pack,
            feeds_map=self._feeds_map,
        )
        await elements.add_all(values)

        def pack_list() -> BlobRow:
            whole = Payload("list", elements.frame)
            size = whole.size(self._depot.cap)
            pack_whole = self._pack_plainly if self._feeds_map else self._pack
            row, seal = pack_whole(whole, size, list_id)
            return digested(replace(row, elements=elements.ids), seal, whole.sha256())

        head = await self._depot.work(not is_brief(values), pack_list)
        return Stored(head.id, (head, *elements.rows))

    async def _encode_for_map(self, values: object, threshold: int) -> Inline | Stored:
        """Encode a list that a map goes over: inline if it is small, or else by its elements."""
        if type(values) is not list:
            raise NotAList(f"$ is of type {type(values).__qualname__[:60]}, and not a list")
        if not self._depot.keys:

            def as_whole() -> Inline | Payload | None:
                try:
                    return serialize(values, threshold=threshold, cap=threshold)
                except ValueRefused:  # it is larger, or an element is bytes, or no value at all
                    return None

            form = await self._depot.work(is_wide(values), as_whole)
            if isinstance(form, Inline):
                return form
        return await self.encode_list(values, threshold)

    async def _serialize(self, value: object, threshold: int) -> Inline | Payload:
        # With keys, no value stays inline, where it would not be encrypted.
        threshold = -1 if self._depot.keys else threshold
        job = partial(serialize, value, threshold=threshold, cap=self._depot.cap)
        return await self._depot.work(is_wide(value), job)

    async def _store(self, form: Payload) -> Stored:
        row = await self._row(form)
        if row is not None:
            stored = Stored(row.id, (row,))
        else:
            size = await self._depot.work(True, partial(form.size, self._depot.cap))
            objects = self._depot.objects if self._is_object(size) else None
            chunks = drawn(form.chunks(self._depot.chunk_size), self._depot.work)
            stored = await self._upload(form.kind, chunks, objects)
        if self._depot.keys:  # a reader of the cache must know the place
            form = replace(form, place=Place.of(self._owner))
        self._depot.cache.put(stored.id, form)
        return stored

    async def _row(self, form: Payload) -> BlobRow | None:
        """Return the row of a blob that fits into one row; None for a larger blob."""

        def pack_small() -> tuple[BlobRow, Seal] | None:
            size = form.size(self._depot.cap)
            return None if self._is_large(size) else self._pack(form, size)

        if self._is_large(len(form.data)):  # a character takes one byte or more
            return None
        if len(form.data) <= HEAVY:
            packed, digest = pack_small(), form.sha256()
        else:  # the digest takes half as long as compression, and uses another core
            packed, digest = await beside(
                partial(self._depot.work, True, pack_small),
                partial(self._depot.work, True, form.sha256),
            )
        return digested(*packed, digest) if packed else None

    def _is_object(self, size: int) -> bool:
        return self._depot.objects is not None and size >= self._depot.object_threshold

    def _is_large(self, size: int) -> bool:
        return size > self._depot.chunk_size or self._is_object(size)

    async def _stream(self, pieces: AsyncIterator[Any]) -> Stored:
        """Store a stream. If it ends within the first chunk, store it as a value in memory."""
        async with (
            aclosing(checked(pieces)) as source,
            aclosing(regroup(source, self._depot.chunk_size)) as chunks,
        ):
            head = await anext(chunks, b"")
            if len(head) < self._depot.chunk_size:
                return await self._store(Payload("bytes", bytes(head)))
            return await self._upload("bytes", chain(head, chunks), self._depot.objects)

    async def _pass_on(self, blob: Blob[Any], threshold: int) -> Inline | Stored:
        """Refer to a blob of this run. Store a blob of another run, or a sealed blob, again.

        A seal names the step that a value belongs to. It cannot name a second step.
        """
        if blob.id is not None and self._may_refer_to(blob):
            await trio.lowlevel.checkpoint()
            return Stored(blob.id)
        self._media_type = self._media_type or blob.media_type
        if blob.id is not None and blob.kind == "bytes" and not self._feeds_map:
            return await self._stream(blob.open())
        if blob.kind == "list" and not self._feeds_map and not self._is_element:
            return await self.encode_list(await blob.value(), threshold)
        return await self.encode(await blob.value(), threshold)

    def _may_refer_to(self, blob: Blob[Any]) -> bool:
        if blob.run_id != self._owner.run_id or self._depot.keys:
            return False
        if self._feeds_map:
            return blob.is_read_by_sql
        return blob.kind != "list" or not self._is_element

    def _draft(self, kind: str, some_id: UUID | None = None) -> tuple[BlobRow, Seal]:
        blob_id = some_id or new_blob_id(self._owner.run_id)
        seal, key_id, data_key = new_seal(blob_id, self._depot.keys)
        row = BlobRow(
            blob_id,
            self._owner.run_id,
            self._owner.step_slug,
            self._owner.task_index,
            kind,
            self._media_type,
            key_id=key_id,
            data_key=data_key,
        )
        return row, seal

    def _pack(self, form: Payload, size: int, some_id: UUID | None = None) -> tuple[BlobRow, Seal]:
        """Return the row of a blob without the digest, and the seal for the digest."""
        draft, seal = self._draft(form.kind, some_id)
        dictionary = self._depot.dictionary(self._owner, size)
        codec, packed = pack(form, size, dictionary)
        content = seal.seal(packed, CONTENT)
        row = replace(
            draft,
            codec=codec,
            dictionary_id=dictionary.id if dictionary and codec == "zstd" else None,
            content=content,
            raw_size=size,
            stored_size=len(content),
            preview=None if seal.closed else preview_of(form.kind, next(form.pieces(), b"")),
        )
        return row, seal

    def _pack_plainly(self, form: Payload, size: int, some_id: UUID) -> tuple[BlobRow, Seal]:
        """Do the same for bytes that SQL reads."""
        seal = Seal(some_id, None)
        row = BlobRow(
            some_id,
            self._owner.run_id,
            self._owner.step_slug,
            self._owner.task_index,
            form.kind,
            self._media_type,
            codec="none",
            content=(content := b"".join(form.pieces())),
            raw_size=size,
            stored_size=size,
            preview=preview_of(form.kind, content),
        )
        return row, seal

    async def _upload(
        self, kind: str, chunks: AsyncGenerator[Bytes, None], objects: BlobStore | None
    ) -> Stored:
        """Insert a row and write its chunks. To save the blob completes the row."""
        store = objects or self._store_of_chunks()
        draft, seal = self._draft(kind)
        row = replace(draft, store=store.name, chunk_size=self._depot.chunk_size)
        await self._open(row)
        async with aclosing(chunks):
            try:
                upload = await Chunks(row, seal, store, self._depot.work).write(chunks)
            except BlobMissing as error:
                if error.blob_id != row.id:  # a blob that the user's stream reads is missing
                    raise
                raise lost(row) from None
        return Stored(row.id, upload=upload)

    def _store_of_chunks(self) -> BlobStore:
        if self._within:
            return inputs.InputStore(self._within)
        return PostgresStore(self._depot.make, wait_for_disk=False)

    async def _open(self, row: BlobRow) -> None:
        if self._within:
            await self._within(partial(inputs.open_blob, row=row))
            return
        attempt = self._owner.attempt
        if not await self._depot.make(
            lambda connection: rows.open_blob(connection, row, attempt, wait_for_disk=False)
        ):
            raise lost(row)


def lost(row: BlobRow) -> BlobUnavailable:
    """Make the error of a lost row. A retry may help: a server crash may have lost commits."""
    return BlobUnavailable(
        f"blob {row.id} disappeared while it was written: its attempt has lost the task,"
        " or the database server crashed and lost the row"
    )
