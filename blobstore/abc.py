"""The interfaces that this package uses: calls, stores, keys, threads."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeVar
from uuid import UUID

from psycopg import AsyncConnection

T = TypeVar("T")


class Caller(Protocol):
    """Runs a call on a connection, and again if the connection breaks."""

    async def __call__(self, call: Callable[[AsyncConnection[Any]], Awaitable[T]], /) -> T:
        """Run the call. If it runs twice, the second run must change nothing."""
        ...


def caller_of(connection: AsyncConnection[Any]) -> Caller:
    """Make a caller that runs calls on this connection, within its transaction."""

    async def make(call: Callable[[AsyncConnection[Any]], Awaitable[T]], /) -> T:
        return await call(connection)

    return make


class BlobStore(Protocol):
    """Stores chunks by blob and number."""

    @property
    def name(self) -> str | None:
        """The value of `output_blobs.store`."""
        ...

    async def put(self, blob_id: UUID, seq: int, content: bytes) -> None:
        """Store a chunk. To store the same chunk again changes nothing.

        Raises:
            BlobMissing: The blob was deleted meanwhile.
        """
        ...

    async def get(self, blob_id: UUID, seqs: Sequence[int]) -> list[bytes]:
        """Return chunks, in the order of `seqs`.

        Raises:
            BlobMissing: A chunk does not exist.
        """
        ...


class Source(Protocol):
    """Where a handle gets its bytes."""

    async def value(self) -> Any:
        """Get the value, as a step that does not ask for the handle gets it."""
        ...

    def pieces(self, start: int, stop: int | None) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of a range."""
        ...

    async def element(self, index: int) -> Any:
        """Get an element of a list that is inline, or stored by its elements."""
        ...

    async def ahead(self, index: int) -> Sequence[Callable[[], Awaitable[Any]]]:
        """Load some elements from this one on, and return what gets each of them."""
        ...


class Work(Protocol):
    """Runs jobs, those that may take milliseconds in a thread."""

    def __call__(self, heavy: bool, job: Callable[[], T], /) -> Awaitable[T]:
        """Run the job, in a thread if it is heavy."""
        ...


class BlobKey(Protocol):
    """Seals and opens one blob."""

    def seal(self, plain: bytes, bound: bytes) -> bytes:
        """Encrypt. :meth:`open` needs the same `bound`."""
        ...

    def open(self, sealed: bytes, bound: bytes) -> bytes:
        """Decrypt. Raises ValueError if `sealed` or `bound` is not that of :meth:`seal`."""
        ...


class Keys(Protocol):
    """Makes a key for each blob, and seals it; `blobstore.keys.KeyRing` implements it."""

    @property
    def active(self) -> str:
        """The id of the key that seals new blobs' keys."""
        ...

    def new_key(self, bound: bytes) -> tuple[BlobKey, bytes]:
        """Make a key. Returns the key and its sealed form, which is stored."""
        ...

    def unwrap(self, key_id: str, wrapped: bytes, bound: bytes) -> BlobKey:
        """Return a key from its sealed form. Raises KeyMissing, or ValueError if it is damaged."""
        ...


class Compressor(Protocol):
    """Compresses small values that resemble each other."""

    @property
    def id(self) -> int:
        """Its number in `pgflow.blob_dictionaries`."""
        ...

    def compress(self, raw: bytes) -> bytes:
        """Make a zstd frame."""
        ...

    def decompress(self, content: bytes, raw_size: int) -> bytes:
        """Read a zstd frame. Raises ValueError if it is damaged or has another size."""
        ...
