"""Chunks of large values in object storage: S3, Google Cloud Storage, Azure or a folder.

    objects = ObjectStore.from_url("s3://bucket/prefix")
    await objects.put(blob_id, 0, content)      # before the row that refers to it is committed
    [content] = await objects.get(blob_id, [0])

A chunk is the object `<digit>/<blob id>/<seq>`. The digit is the first hexadecimal digit of the
SHA-256 of the id. S3 limits the rate of requests to each part of the key space (3,500 writes a
second), and ids begin with their time. Without the digit, all writes of a moment would go to one
part; with it, they go to sixteen. The chunks of a blob stay together, and objects of other programs
under the same prefix are not listed.
"""

import os
import re
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar
from uuid import UUID

import trio

from blobstore.errors import BlobMissing, BlobUnavailable
from blobstore.objects import urls
from blobstore.objects.failures import LINK, reason_of
from blobstore.together import together
from blobstore.trio_only import need_trio

if TYPE_CHECKING:  # an optional package that is slow to import
    from obstore.store import ObjectStore as Store

T = TypeVar("T")

DIGITS = "0123456789abcdef"
KEY = re.compile(r"[0-9a-f]/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/[0-9]+")

# The library gives a request 30 seconds. So an endpoint that refuses connections is an error after
# a few seconds, a silent one after 30 seconds, and one that stops during its answer after a minute.
RETRIES = {
    "max_retries": 5,
    "retry_timeout": timedelta(seconds=30),
    "backoff": {
        "init_backoff": timedelta(milliseconds=100),
        "max_backoff": timedelta(seconds=5),
        "base": 2,
    },
}

PAGE = 1000  # objects; S3 lists at most this many with one request


class ObjectStoreError(BlobUnavailable):
    """The object storage failed or refused a request.

    The cause is the network, the service, the credentials or the bucket. A retry may succeed once
    the operator has mended it. The text quotes no credential.
    """


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """A blob in a list of the object storage.

    Attributes:
        id: The blob.
        modified: When its newest object was written, by the clock of the storage.
        size: The total size of its objects, in bytes.
        objects: The number of its objects.
    """

    id: UUID
    modified: datetime
    size: int
    objects: int

    def joined(self, other: Self) -> Self:
        """Return this blob with the objects of both."""
        return replace(
            self,
            modified=max(self.modified, other.modified),
            size=self.size + other.size,
            objects=self.objects + other.objects,
        )


class ObjectStore:
    """Keeps chunks as objects.

    Requests run in threads of this store, at most `parallel` at a time. A cancelled call returns at
    once. Its thread still counts until the request ends, within about a minute if the storage is
    silent. A chunk is written whole or not at all. A later sweep deletes chunks that no row needs.

    Args:
        store: A store of the package obstore, with the prefix of all objects.
        parallel: How many requests may run at a time, 8 by default. As many chunks are in memory.
    """

    name = "objects"

    def __init__(self, store: "Store", *, parallel: int = 8) -> None:
        self._store = store
        self._parallel = parallel
        # One limiter for each trio run: a thread that outlives its run never returns its token.
        self._limiter = trio.lowlevel.RunVar[trio.CapacityLimiter]("objects")
        prefix = getattr(store, "prefix", None)
        self._folder = prefix if isinstance(prefix, Path) else None

    def __repr__(self) -> str:
        return f"ObjectStore({self._store!r})"

    @classmethod
    def from_url(cls, url: str, *, parallel: int = 8, **options: Any) -> Self:
        """Make a store from a URL, without making a request.

        Credentials, region and endpoint come from the environment: `AWS_*`, `GOOGLE_*`, `AZURE_*`.

        Args:
            url: `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix` or
                `file:///folder`. The folder must exist.
            parallel: How many requests may run at a time, 8 by default.
            **options: Options of the store class of obstore, such as `endpoint`,
                `credential_provider` or `client_options` (which replace `AWS_ALLOW_HTTP`).

        Raises:
            ValueError: The URL, an option or an environment variable cannot be used.
            ImportError: The package obstore is not installed.
        """
        parts = urls.parse(url)
        try:
            from obstore import store  # noqa: PLC0415  optional, and slow to import
            from obstore.exceptions import BaseError  # noqa: PLC0415
        except ImportError as error:
            wanted = "pip install 'pgflow-events[objects]'"
            raise ImportError(f"object storage needs the package obstore: {wanted}") from error
        try:
            if parts.scheme == "file":
                made: Any = store.LocalStore(
                    urls.folder_of(parts), **({"automatic_cleanup": True} | options)
                )
            else:
                made = store.from_url(url, **({"retry_config": RETRIES} | options))
        except (BaseError, ValueError, TypeError) as error:
            reason = urls.setup_reason(error)
        else:
            return cls(made, parallel=parallel)
        raise ValueError(f"the object storage cannot be used: {reason}")

    async def put(self, blob_id: UUID, seq: int, content: bytes) -> None:
        """Write a chunk, whole or not at all. To write it again changes only its time.

        Args:
            blob_id: The blob.
            seq: The number of the chunk, from 0.
            content: The bytes. They must be the same if the chunk is written again.

        Raises:
            ObjectStoreError: The storage failed; the chunk may or may not be written.
        """
        need_trio("ObjectStore.put()")
        await self._call("write", partial(self._put, _key(blob_id, seq), content))

    async def get(self, blob_id: UUID, seqs: Sequence[int]) -> list[bytes]:
        """Read chunks, several at a time, and return them in the order of `seqs`.

        Args:
            blob_id: The blob.
            seqs: The numbers of the chunks, from 0.

        Raises:
            BlobMissing: A chunk does not exist.
            ObjectStoreError: The storage failed.
        """
        need_trio("ObjectStore.get()")
        return await together(
            partial(self._call, "read", partial(self._get, blob_id, seq)) for seq in seqs
        )

    async def discard(self, blob_ids: Iterable[UUID], *, before: datetime | None = None) -> None:
        """Delete all chunks of blobs. Blobs without chunks are no error.

        Args:
            blob_ids: The blobs.
            before: Keep a blob that has an object written at this time or later.

        Raises:
            ObjectStoreError: The storage failed. Some chunks may be left: call again.
        """
        need_trio("ObjectStore.discard()")
        await together(
            partial(self._call, "delete", partial(self._delete, blob_id, before))
            for blob_id in set(blob_ids)
        )

    async def blobs(self) -> AsyncGenerator[StoredBlob, None]:
        """List all blobs, a page of objects at a time. Wrap it in `contextlib.aclosing`.

        A blob that is written or deleted meanwhile may be listed, missing, or listed in part.
        Objects that are not chunks are left out.

        Raises:
            ObjectStoreError: The storage failed.
        """
        for digit in DIGITS:
            last: StoredBlob | None = None
            pages = await self._call("list", partial(self._store.list, digit, chunk_size=PAGE))
            while page := await self._call("list", partial(_next_page, pages)):
                for blob in page:
                    if last and last.id == blob.id:
                        last = last.joined(blob)
                        continue
                    if last:
                        yield last
                    last = blob
            if last:
                yield last

    async def _call(self, action: str, job: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(
            self._attempt, action, job, abandon_on_cancel=True, limiter=self._places()
        )

    def _places(self) -> trio.CapacityLimiter:
        # Not trio's own limiter: handlers may hold all of its threads for hours.
        with suppress(LookupError):
            return self._limiter.get()
        limiter = trio.CapacityLimiter(self._parallel)
        self._limiter.set(limiter)
        return limiter

    def _attempt(self, action: str, job: Callable[[], T]) -> T:
        try:
            if self._folder and not self._folder.is_dir():
                reason = "its folder does not exist"  # the library would create it
            else:
                return job()
        except BlobMissing:
            raise
        except BaseException as error:  # noqa: BLE001  a panic of the library is not an Exception
            reason = reason_of(error)
        # Raised outside of `except`, because a traceback would print the error of the library.
        raise ObjectStoreError(f"{self._store!r} cannot {action}: {reason}")

    def _put(self, key: str, content: bytes) -> None:
        self._refuse_links(key)
        # In one request: the parts of a broken upload would stay, hidden and billed.
        self._store.put(key, content, use_multipart=False)
        if self._folder:
            _keep_on_disk(self._folder, key)

    def _get(self, blob_id: UUID, seq: int) -> bytes:
        self._refuse_links(_key(blob_id, seq))
        with suppress(FileNotFoundError):
            return self._store.get(_key(blob_id, seq)).bytes().to_bytes()
        # A missing bucket gives the same error, but then this list fails.
        self._store.list(_folder_of(blob_id)).collect()
        raise BlobMissing(blob_id)

    def _refuse_links(self, key: str) -> None:
        """Raise if a chunk or a folder above it is a link: another user may have put it there."""
        if not self._folder:
            return
        written = self._folder / key
        for path in (written, *written.parents[: key.count("/")]):
            if path.is_symlink():
                raise OSError(LINK)

    def _delete(self, blob_id: UUID, before: datetime | None) -> None:
        self._refuse_links(_key(blob_id, 0))
        listed = self._store.list(_folder_of(blob_id), chunk_size=PAGE).collect()
        chunks = [meta for meta in listed if _blob_of(meta["path"]) == blob_id]
        if before and any(meta["last_modified"] >= before for meta in chunks):
            return
        paths = [meta["path"] for meta in chunks]
        try:
            self._store.delete(paths)
        except FileNotFoundError:  # another process deletes them too: delete the rest one by one
            for path in paths:
                with suppress(FileNotFoundError):
                    self._store.delete(path)


def _folder_of(blob_id: UUID) -> str:
    return f"{sha256(blob_id.bytes).hexdigest()[0]}/{blob_id}"


def _key(blob_id: UUID, seq: int) -> str:
    return f"{_folder_of(blob_id)}/{seq}"


def _blob_of(path: str) -> UUID | None:
    """Return the blob whose chunk this is; None for objects of other programs."""
    if not (match := KEY.fullmatch(path)):
        return None
    blob_id = UUID(match[1])
    return blob_id if path.startswith(_folder_of(blob_id)) else None


def _next_page(pages: Any) -> list[StoredBlob]:
    """Return the blobs of the next page that has chunks; empty at the end."""
    for page in pages:
        found = [
            StoredBlob(blob_id, meta["last_modified"], meta["size"], 1)
            for meta in page
            if (blob_id := _blob_of(meta["path"]))
        ]
        if found:
            return found
    return []


def _keep_on_disk(folder: Path, key: str) -> None:
    """Write a new file and its folders to the disk, so that they survive a power cut."""
    written = folder / key
    for path in (written, *written.parents[: key.count("/") + 1]):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
