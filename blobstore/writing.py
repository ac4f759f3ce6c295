"""From what a handler returned to what is stored: in a row, in a blob, or in chunks."""

import mimetypes
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import trio

from blobstore import inputs, rows
from blobstore.abc import BlobStore, Caller
from blobstore.chunks import Chunks
from blobstore.codec import Bytes, Inline, Payload, pack, preview_of, serialize
from blobstore.depot import HEAVY, Depot
from blobstore.errors import BlobMissing, BlobUnavailable, ValueRefused
from blobstore.handle import Blob
from blobstore.ids import new_blob_id
from blobstore.places import Place, seal_digest
from blobstore.rows import BlobRow, Owner, Stored
from blobstore.seals import CONTENT, Seal, chunk_part, new_seal
from blobstore.store import PostgresStore
from blobstore.streams import chain, checked, drawn, file_pieces, regroup
from blobstore.together import beside
from blobstore.values import check_size, is_wide

ELEMENT_CAP = 64 * 1024 * 1024  # bytes; an element stands in one row


class Encoder:
    """Encodes the value of one owner.

    Args:
        depot: What writes.
        owner: Whose value it is.
        media_type: What it is, if not what its type says.
        within: Makes calls in the caller's transaction, which then starts the run whose input this
            is; None for commits of their own.
    """

    def __init__(
        self,
        depot: Depot,
        owner: Owner,
        media_type: str | None,
        within: Caller | None,
    ) -> None:
        self._depot = depot
        self._owner = owner
        self._media_type = media_type
        self._within = within

    async def encode(self, value: object, threshold: int) -> Inline | Stored:
        """Make of a value what can be stored."""
        match value:
            case Blob():
                return await self._pass_on(value, threshold)
            case Path():
                guessed, packed = mimetypes.guess_type(value)
                # Of page.html.gz the bytes are no text/html.
                self._media_type = self._media_type or (None if packed else guessed)
                return await self._stream(file_pieces(value, self._depot.files))
            case AsyncIterator():
                return await self._stream(value)
        form = await self._serialize(value, threshold)
        return form if isinstance(form, Inline) else await self._store(form)

    async def encode_list(self, values: list[Any], threshold: int) -> Stored:
        """Store a list by its elements: each that is not small is a blob of its own."""
        frame: list[Any] = []
        elements: dict[bytes, BlobRow] = {}
        order: list[bytes | None] = []
        small = total = 0
        list_id = new_blob_id(self._owner.run_id)
        whole_place = Place.of(self._owner)
        for place, value in enumerate(values):
            # The small ones stand in one row, and are read together.
            limit = threshold if small + threshold < self._depot.chunk_size else -1
            form = await self._element(place, value, limit)
            if isinstance(form, Inline):
                frame.append(orjson.Fragment(form.json))
                order.append(None)
                small += len(form.json)
                continue
            payload, size, digest = form
            total += size
            check_size(small + total, self._depot.cap)
            # Equal elements are stored once, but where it would tell that they are equal.
            name = chunk_part(place) if self._depot.keys else payload.kind.encode() + digest
            if name not in elements:
                job = partial(self._pack, payload, size)
                row, seal = await self._depot.work(size > HEAVY, job)
                at = whole_place.element(list_id, place)
                elements[name] = digested(row, seal, digest, at)
            frame.append(None)
            order.append(name)
        whole = Payload("list", orjson.dumps(frame))
        size = whole.size(self._depot.cap)
        job = partial(self._pack, whole, size, list_id)
        row, seal = await self._depot.work(size > HEAVY, job)
        ids = [elements[name].id if name else None for name in order]
        head = digested(replace(row, elements=ids), seal, whole.sha256())
        return Stored(head.id, (head, *elements.values()))

    async def _element(
        self, place: int, value: object, threshold: int
    ) -> Inline | tuple[Payload, int, bytes]:
        """An element if it is small, else its bytes, their number and their digest."""

        def prepare(form: Payload) -> tuple[Payload, int, bytes]:
            return form, form.size(min(self._depot.cap, ELEMENT_CAP)), form.sha256()

        try:
            form = await self._serialize(value, threshold)
            if isinstance(form, Inline):
                return form
            return await self._depot.work(len(form.data) > HEAVY, partial(prepare, form))
        except ValueRefused as error:
            raise type(error)(f"$[{place}]{str(error).removeprefix('$')}") from None

    async def _serialize(self, value: object, threshold: int) -> Inline | Payload:
        # Who seals leaves nothing in a row, where it would be in clear.
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
        if self._depot.keys:  # who takes it from the cache must know
            form = replace(form, place=Place.of(self._owner))
        self._depot.cache.put(stored.id, form)
        return stored

    async def _row(self, form: Payload) -> BlobRow | None:
        """The row of a blob that stands in one; None for what is larger."""

        def pack_small() -> tuple[BlobRow, Seal] | None:
            size = form.size(self._depot.cap)
            return None if self._is_large(size) else self._pack(form, size)

        if self._is_large(len(form.data)):  # a character is a byte or more
            return None
        if len(form.data) <= HEAVY:
            packed, digest = pack_small(), form.sha256()
        else:  # a digest takes half as long as compressing, on another core
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
        """Store a stream; one that ends within a chunk is as good as a value in memory."""
        async with (
            aclosing(checked(pieces)) as source,
            aclosing(regroup(source, self._depot.chunk_size)) as chunks,
        ):
            head = await anext(chunks, b"")
            if len(head) < self._depot.chunk_size:
                return await self._store(Payload("bytes", bytes(head)))
            return await self._upload("bytes", chain(head, chunks), self._depot.objects)

    async def _pass_on(self, blob: Blob[Any], threshold: int) -> Inline | Stored:
        """Refer to a blob again; what another run has is stored again, and so is what is sealed.

        A seal says of which step a value is, and would not say that it is of this one too.
        """
        if blob.id is not None and blob.run_id == self._owner.run_id and not self._depot.keys:
            await trio.lowlevel.checkpoint()
            return Stored(blob.id)
        self._media_type = self._media_type or blob.media_type
        if blob.id is not None and blob.kind == "bytes":
            return await self._stream(blob.open())
        if blob.kind == "list":
            return await self.encode_list(await blob.value(), threshold)
        return await self.encode(await blob.value(), threshold)

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
        """The row of a blob, but for the digest, and what is to seal that."""
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

    async def _upload(
        self, kind: str, chunks: AsyncGenerator[Bytes, None], objects: BlobStore | None
    ) -> Stored:
        """Open a row and write its chunks; the row is finished when it is saved."""
        store = objects or self._store_of_chunks()
        draft, seal = self._draft(kind)
        row = replace(draft, store=store.name, chunk_size=self._depot.chunk_size)
        await self._open(row)
        async with aclosing(chunks):
            try:
                upload = await Chunks(row, seal, store, self._depot.work).write(chunks)
            except BlobMissing as error:
                if error.blob_id != row.id:  # what the user's stream reads may be missing too
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


def digested(row: BlobRow, seal: Seal, digest: bytes, place: Place | None = None) -> BlobRow:
    """A row with the digest of its bytes; `place` is that of an element."""
    return replace(row, sha256=seal_digest(row, seal, digest, place))


def lost(row: BlobRow) -> BlobUnavailable:
    """Another attempt is not in vain: the server may have crashed before commits were on disk."""
    return BlobUnavailable(
        f"blob {row.id} disappeared while it was written: its attempt has lost the task,"
        " or the database server crashed and lost the row"
    )
