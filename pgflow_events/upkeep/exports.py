"""Reads stored values for people: one value as a stream of bytes, or a run as a folder of files."""

import codecs
import errno
import os
import re
import stat
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from mimetypes import MimeTypes
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import trio

from blobstore import Blob, BlobError, BlobForgotten, Blobs, BlobUnavailable, Place
from pgflow_events.errors import PgflowError
from pgflow_events.postgres.connection import Connection
from pgflow_events.upkeep.values import Value, find_values, handle_of

# Python's own table, not the machine's, so that files have the same names everywhere.
MEDIA_TYPES = MimeTypes()
EXTENSION = re.compile(r"\.[a-z0-9]{1,12}")
MANIFEST = "manifest"  # the name of the file that describes the others
EXTENSIONS = {"text": ".txt", "json": ".json", "list": ".json", "bytes": ".bin"}


@dataclass(frozen=True, slots=True)
class Exported:
    """What became of a value."""

    step_slug: str
    task_index: int
    element: int | None
    """The place in a list that is stored by its elements."""
    file: str | None
    """None if the value could not be read, and for a list whose elements have files."""
    kind: str | None = None
    media_type: str | None = None
    size: int | None = None
    """Bytes."""
    sha256: str | None = None
    blob_id: UUID | None = None
    error: str | None = None
    forgotten: bool = False
    """Whether its bytes were deleted because its `keep_output` was over."""


async def export_values(
    connection: Connection, blobs: Blobs, run_id: UUID, folder: Path
) -> list[Exported]:
    """Write the input of a run and the outputs it has into the files of a new or empty folder.

    A large value is never in memory as a whole. A value that is missing, damaged or forgotten
    gets no file. The others are written.

    Raises:
        OSError: The folder is not empty, or a file cannot be written.
        PgflowError: The folder belongs to another user, or others may write to it.
        BlobUnavailable: `blobs` lacks a key or an object storage that a value needs.
    """
    await trio.to_thread.run_sync(_make_export_folder, folder)
    exported: list[Exported] = []
    for value in await find_values(connection, run_id):
        exported += await _export(blobs, run_id, value, folder)
    return exported


def _make_export_folder(folder: Path) -> None:
    """Make a folder for this user alone, or check that the folder is empty and belongs to us.

    Raises:
        OSError: The folder is not empty, or cannot be made.
        PgflowError: Another user could replace the files in it.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    there = folder.stat()
    if there.st_uid != os.geteuid() or there.st_mode & stat.S_IWOTH:
        raise PgflowError(f"{folder} belongs to others, or they may write to it: name a new folder")
    if any(folder.iterdir()):
        raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), str(folder))


async def _export(blobs: Blobs, run_id: UUID, value: Value, folder: Path) -> list[Exported]:
    name = _file_name(value)
    plain = Exported(value.step_slug, value.task_index, None, None, blob_id=value.blob_id)
    try:
        handle = await handle_of(blobs, run_id, value)
        items = await elements(blobs, handle)
    except BlobUnavailable:
        raise
    except BlobError as error:
        return [_unread(plain, error)]
    if handle.length is None:
        return [await _write(handle, plain, folder / name)]
    digits = len(str(handle.length - 1))
    return [
        replace(plain, kind="list"),
        *[
            await _write(item, replace(plain, element=n), folder / f"{name}.{n:0{digits}}")
            for n, item in enumerate(items)
        ],
    ]


def _file_name(value: Value) -> str:
    """The name of a value's file without its extension. It is never the manifest's name."""
    slug, index = value.step_slug, value.task_index
    if value.last_index is not None:
        return f"{slug}.{index:0{len(str(value.last_index))}}"
    plain = index == 0 and slug.lower() != MANIFEST  # some file systems ignore case
    return slug if plain else f"{slug}-{index}"


async def _write(blob: Blob[Any], plain: Exported, stem: Path) -> Exported:
    """Write the value's file, whole or not at all, and say what became of it."""
    path = stem.with_name(stem.name + extension(blob.kind, blob.media_type))
    told = replace(
        plain, kind=blob.kind, media_type=blob.media_type, size=blob.size, sha256=blob.sha256,
        blob_id=blob.id,
    )  # fmt: skip
    try:
        await save(_raw_pieces(blob), path)
    except BlobUnavailable:
        raise
    except BlobError as error:
        return _unread(told, error)
    return replace(told, file=path.name)


def _unread(plain: Exported, error: BlobError) -> Exported:
    return replace(plain, error=str(error), forgotten=isinstance(error, BlobForgotten))


async def save(pieces: AsyncGenerator[bytes, None], path: Path) -> None:
    """Write a new file that only this user can read. Remove it if writing does not succeed.

    Raises:
        OSError: The file exists, or cannot be written.
    """
    async with aclosing(pieces):
        file, whole = await trio.open_file(path, "xb", opener=open_privately), False
        try:
            async with file:
                async for piece in pieces:
                    await file.write(piece)
            whole = True
        finally:
            if not whole:
                with trio.CancelScope(shield=True):
                    await trio.Path(path).unlink()


def open_privately(path: str, flags: int) -> int:
    """Open a file. If this creates it, only this user can read it."""
    return os.open(path, flags, mode=0o600)


def extension(kind: str, media_type: str | None) -> str:
    """The extension of a file, from a fixed table: the media type is text of a user."""
    plain = (media_type or "").partition(";")[0].strip().lower()
    known = MEDIA_TYPES.guess_extension(plain) or ""
    return known if EXTENSION.fullmatch(known) else EXTENSIONS[kind]


async def elements(blobs: Blobs, handle: Blob[Any]) -> list[Blob[Any]]:
    """The handles of the elements, if the value is a list that is stored by its elements.

    Raises:
        BlobError: The list cannot be read.
    """
    if handle.id is None or handle.length is None:
        return []
    loaded = await blobs.load([handle.id])  # has the small elements: they are inside the list
    row, whole = loaded.row(handle.id), loaded.handle(handle.id)
    ids = [element for element in row.elements or () if element]
    stored = await blobs.load([], handles=ids)
    small = iter(await _small(whole, row.elements or []))
    place = Place.of(row)
    return [
        stored.handle(element, place.element(row.id, number))
        if element
        else Blob.of(row.run_id, next(small))
        for number, element in enumerate(row.elements or ())
    ]


async def _small(whole: Blob[Any], ids: Sequence[UUID | None]) -> Sequence[Any]:
    """The elements that are not blobs."""
    if not any(ids):
        value: list[Any] = await whole.value()
        return value
    return [await whole.item(place) for place, element in enumerate(ids) if element is None]


async def value_pieces(blobs: Blobs, handle: Blob[Any]) -> AsyncGenerator[bytes, None]:
    """The bytes of a value. A list that is stored by its elements is given as JSON.

    Raises:
        BlobError: The value cannot be read.
        PgflowError: The value is a list with bytes, which JSON cannot hold.
    """
    if handle.length is None:
        source = _raw_pieces(handle)
    else:
        source = _list_pieces(await elements(blobs, handle))
    async with aclosing(source):
        async for piece in source:
            yield piece


async def _raw_pieces(blob: Blob[Any]) -> AsyncGenerator[bytes, None]:
    """The bytes of a value."""
    async with blob.open() as stream:
        async for piece in stream:
            yield piece


async def _list_pieces(blobs: Sequence[Blob[Any]]) -> AsyncGenerator[bytes, None]:
    """The JSON of a list of the values of these blobs."""
    for place, blob in enumerate(blobs):
        if blob.kind == "bytes":
            raise PgflowError(
                f"element {place} of the list is bytes, which JSON cannot hold:"
                " `pgflow-events blob export` writes a file for each"
            )
    separator = b"["
    for blob in blobs:
        yield separator
        separator = b","
        async with aclosing(_json_pieces(blob)) as pieces:
            async for piece in pieces:
                yield piece
    yield b"]" if blobs else b"[]"


async def _json_pieces(blob: Blob[Any]) -> AsyncGenerator[bytes, None]:
    """The JSON of a blob of kind `text` or `json`."""
    async with aclosing(_raw_pieces(blob)) as pieces:
        if blob.kind == "json":
            async for piece in pieces:
                yield piece
            return
        decoder = codecs.getincrementaldecoder("utf-8")()
        yield b'"'
        async for piece in pieces:
            yield orjson.dumps(decoder.decode(piece))[1:-1]
        yield b'"'
