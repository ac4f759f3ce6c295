"""The interfaces of what is given to this package: calls, stores, keys, threads."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeVar
from uuid import UUID

from psycopg import AsyncConnection

T = TypeVar("T")


class Caller(Protocol):
    """Makes a call on some connection, and again if the connection breaks."""

    async def __call__(self, call: Callable[[AsyncConnection[Any]], Awaitable[T]], /) -> T:
        """Make the call; a second time it must change nothing."""
        ...


def caller_of(connection: AsyncConnection[Any]) -> Caller:
    """Makes calls on this connection, in the transaction it is in."""

    async def make(call: Callable[[AsyncConnection[Any]], Awaitable[T]], /) -> T:
        return await call(connection)

    return make


class BlobStore(Protocol):
    """Keeps chunks: bytes, by blob and number."""

    @property
    def name(self) -> str | None:
        """What stands in `output_blobs.store`."""
        ...

    async def put(self, blob_id: UUID, seq: int, content: bytes) -> None:
        """Keep a chunk; the same chunk a second time changes nothing.

        Raises:
            BlobMissing: Its blob was deleted meanwhile.
        """
        ...

    async def get(self, blob_id: UUID, seqs: Sequence[int]) -> list[bytes]:
        """Give chunks, in the order of `seqs`.

        Raises:
            BlobMissing: One of them is not there.
        """
        ...


class Source(Protocol):
    """Where a handle gets its bytes."""

    async def value(self) -> Any:
        """The value, as a step that asks for no handle gets it."""
        ...

    def pieces(self, start: int, stop: int | None) -> AsyncGenerator[bytes, None]:
        """The bytes of a range."""
        ...

    async def element(self, index: int) -> Any:
        """An element of a list that is kept by its elements."""
        ...


class Work(Protocol):
    """Does a job that may take milliseconds in a thread."""

    def __call__(self, heavy: bool, job: Callable[[], T], /) -> Awaitable[T]:
        """Do the job: in a thread, if it is heavy."""
        ...


class BlobKey(Protocol):
    """Seals and opens one blob."""

    def seal(self, plain: bytes, bound: bytes) -> bytes:
        """Encrypt; `bound` must be the same when it is opened."""
        ...

    def open(self, sealed: bytes, bound: bytes) -> bytes:
        """Decrypt; raises ValueError for anything that was not sealed like this."""
        ...


class Keys(Protocol):
    """Makes such keys and keeps them safe: `blobstore.keys.KeyRing` does."""

    @property
    def active(self) -> str:
        """The id of the key that seals."""
        ...

    def new_key(self, bound: bytes) -> tuple[BlobKey, bytes]:
        """Make a key, and the sealed form in which it is kept."""
        ...

    def unwrap(self, key_id: str, wrapped: bytes, bound: bytes) -> BlobKey:
        """Get a key from its sealed form; raises KeyMissing, and ValueError if it is damaged."""
        ...


class Compressor(Protocol):
    """Compresses small values that are like one another."""

    @property
    def id(self) -> int:
        """Its number in `pgflow.blob_dictionaries`."""
        ...

    def compress(self, raw: bytes) -> bytes:
        """Make a zstd frame."""
        ...

    def decompress(self, content: bytes, raw_size: int) -> bytes:
        """Read one; raises ValueError for one that is damaged or has another size."""
        ...
