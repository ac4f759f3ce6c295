"""The rows of `pgflow.output_blobs`: the facts about blobs, and the bytes of small ones."""

from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import args_row
from psycopg.types.numeric import Int4, Int8

# A pipeline saves a round trip for each row, but keeps all that it sends in memory. Beyond a few
# megabytes the memory costs more.
PIPELINED_BYTES = 4 * 1024 * 1024

COLUMNS = """
id, run_id, step_slug, task_index, kind, media_type, codec, dictionary_id, key_id, data_key,
store, chunk_size, elements, raw_size, stored_size, sha256, preview
"""

# `on conflict`: after a commit whose answer was lost, the same blobs are inserted again.
INSERT = f"""
insert into pgflow.output_blobs ({COLUMNS}, content)
values (%b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b::uuid[], %b, %b, %b, %b, %b)
on conflict (id) do nothing
"""  # noqa: S608 - of constants

SELECT = f"""
select {COLUMNS}, case when %b then content end, forgotten_at is not null
from pgflow.output_blobs
where id = any(%b)
"""  # noqa: S608 - of constants

ELEMENTS = """
select id, run_id, elements is not null, raw_size from pgflow.output_blobs where id = any(%b)
"""

OPEN = "select pgflow.open_blob(%b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b)"

LOCK_RUNS = """
select from pgflow.runs where run_id = any(%b) order by run_id for no key update
"""

FINISH = "select pgflow.finish_blob(%b, %b, %b, %b, %b, %b)"


class Owner(NamedTuple):
    """The run and the step that a value belongs to.

    Attributes:
        run_id: The run. To delete the run deletes its blobs.
        step_slug: The step whose output the value is; ``run`` for the run's input.
        task_index: The task of the step.
        attempt: The attempt that writes the value; None for an input.
        flow_slug: The flow, whose dictionaries compress the value.
    """

    run_id: UUID
    step_slug: str = "run"
    task_index: int = 0
    attempt: int | None = None
    flow_slug: str = ""


# The index of no task. It marks a list of tasks' outputs: task i of its step wrote element i.
OF_TASKS = -1


@dataclass(frozen=True, slots=True)
class BlobRow:
    """A row of `pgflow.output_blobs`. The migration describes the columns."""

    id: UUID
    run_id: UUID
    step_slug: str
    task_index: int
    kind: str
    media_type: str | None = None
    codec: str = "zstd"
    dictionary_id: int | None = None
    key_id: str | None = None
    data_key: bytes | None = field(default=None, repr=False)
    store: str | None = None
    chunk_size: int | None = None
    elements: list[UUID | None] | None = None
    raw_size: int | None = None
    stored_size: int | None = None
    sha256: bytes | None = None
    preview: str | None = None
    content: bytes | None = field(default=None, repr=False)
    forgotten: bool = False
    elements_size: int | None = None
    sizes: Mapping[UUID, int] = field(default_factory=dict, repr=False)
    """Of the elements that are blobs, each size in bytes."""
    misplaced: UUID | None = None
    """An element that must not be in a list: it is a list itself, or belongs to another run."""


@dataclass(frozen=True, slots=True)
class Upload:
    """The facts about a blob that are known once all chunks are written."""

    id: UUID
    run_id: UUID
    chunks: int
    raw_size: int
    stored_size: int
    sha256: bytes
    preview: str | None


@dataclass(frozen=True, slots=True)
class Stored:
    """A value that is a blob, and what must still be saved.

    Attributes:
        id: The blob.
        rows: Rows to insert: the blob, and its elements if it is a list.
        upload: The blob to finish, if its chunks are written already.
    """

    id: UUID
    rows: tuple[BlobRow, ...] = ()
    upload: Upload | None = None

    @property
    def is_unsaved(self) -> bool:
        """Whether there is anything to save."""
        return bool(self.rows or self.upload)

    @property
    def unsaved_bytes(self) -> int:
        """How many bytes are sent to save it."""
        return sum(len(row.content or b"") for row in self.rows)


@asynccontextmanager
async def saved(
    connection: AsyncConnection[Any], stored: Sequence[Stored], run_ids: Collection[UUID]
) -> AsyncIterator[None]:
    """Save blobs and run the block in one transaction; see `Blobs.saved`."""
    unsaved = [blob for blob in stored if blob.is_unsaved]
    size = sum(blob.unsaved_bytes for blob in unsaved)
    if not unsaved:
        yield
    elif size > PIPELINED_BYTES or any(blob.upload for blob in unsaved):
        async with connection.transaction():
            await save(connection, unsaved, run_ids)
            yield
    else:
        # The statements of one pipeline are one transaction, without BEGIN and COMMIT.
        async with connection.pipeline():
            for row in [row for blob in unsaved for row in blob.rows]:
                await connection.execute(INSERT, _parameters(row))
            yield


async def save(
    connection: AsyncConnection[Any], stored: Sequence[Stored], run_ids: Collection[UUID]
) -> None:
    """Save blobs in the caller's transaction. To save a blob again changes nothing.

    Raises:
        psycopg.Error: The blobs cannot be saved. The transaction has failed.
    """
    async with connection.cursor() as cursor:
        for group in pipelined(row for blob in stored for row in blob.rows):
            await cursor.executemany(INSERT, [_parameters(row) for row in group])
        if uploads := [blob.upload for blob in stored if blob.upload]:
            # Lock the runs before the blobs, as calls that settle tasks or delete runs do.
            runs = {upload.run_id for upload in uploads} | set(run_ids)
            await cursor.execute(LOCK_RUNS, [list(runs)])
            await cursor.executemany(FINISH, [finishing(upload) for upload in uploads])


async def fetch(
    connection: AsyncConnection[Any], ids: Sequence[UUID], *, content: bool
) -> list[BlobRow]:
    """Select the rows of these ids that exist, in any order. Lists take a second query."""
    # A prepared statement may get a generic plan, which locks all days.
    async with connection.cursor(binary=True, row_factory=args_row(BlobRow)) as cursor:
        await cursor.execute(SELECT, [content, list(ids)], prepare=False)
        found = [flat(row) for row in await cursor.fetchall()]
    elements = {element for row in found for element in row.elements or () if element}
    if not elements:
        return found
    async with connection.cursor(binary=True) as cursor:
        await cursor.execute(ELEMENTS, [list(elements)], prepare=False)
        known = {element: facts for element, *facts in await cursor.fetchall()}
    return [with_elements(row, known) for row in found]


def flat(row: BlobRow) -> BlobRow:
    """Return the row. If its elements are nested arrays, it is damaged: mark it as misplaced."""
    if any(isinstance(element, list) for element in row.elements or ()):
        return replace(row, elements=[], misplaced=row.id)
    return row


def with_elements(row: BlobRow, known: Mapping[UUID, Sequence[Any]]) -> BlobRow:
    """Return the row; for a list, with the facts about its elements (run, whether a list, size)."""
    if row.elements is None:
        return row
    named = [(element, known[element]) for element in row.elements if element and element in known]
    return replace(
        row,
        elements_size=sum(size or 0 for _, (_, _, size) in named),
        sizes={element: size or 0 for element, (_, _, size) in named},
        misplaced=row.misplaced
        or next((id_ for id_, (run, is_list, _) in named if is_list or run != row.run_id), None),
    )


async def open_blob(
    connection: AsyncConnection[Any], row: BlobRow, attempt: int | None, *, wait_for_disk: bool
) -> bool:
    """Begin a blob in chunks. Returns whether the attempt still has its task."""
    async with connection.cursor(binary=True) as cursor:
        await cursor.execute(
            OPEN,
            [
                row.id,
                row.run_id,
                row.step_slug,
                Int4(row.task_index),
                None if attempt is None else Int4(attempt),
                row.kind,
                row.media_type,
                row.codec,
                row.key_id,
                row.data_key,
                row.store,
                Int4(row.chunk_size or 0),
                wait_for_disk,
            ],
        )
        ((opened,),) = await cursor.fetchall()
        return bool(opened)


def _parameters(row: BlobRow) -> tuple[object, ...]:
    # Numbers have fixed types: otherwise psycopg prepares a statement for each size of number.
    return (
        row.id,
        row.run_id,
        row.step_slug,
        Int4(row.task_index),
        row.kind,
        row.media_type,
        row.codec,
        None if row.dictionary_id is None else Int4(row.dictionary_id),
        row.key_id,
        row.data_key,
        row.store,
        None if row.chunk_size is None else Int4(row.chunk_size),
        row.elements,
        None if row.raw_size is None else Int8(row.raw_size),
        None if row.stored_size is None else Int8(row.stored_size),
        row.sha256,
        row.preview,
        row.content,
    )


def finishing(upload: Upload) -> tuple[object, ...]:
    """Return the parameters of the call that finishes a blob in chunks."""
    return (
        upload.id,
        Int4(upload.chunks),
        Int8(upload.raw_size),
        Int8(upload.stored_size),
        upload.sha256,
        upload.preview,
    )


def pipelined(rows: Iterable[BlobRow]) -> Iterator[list[BlobRow]]:
    """Yield groups of rows. Each group goes through one pipeline."""
    group: list[BlobRow] = []
    size = 0
    for row in rows:
        length = len(row.content or b"")
        if group and size + length > PIPELINED_BYTES:
            yield group
            group, size = [], 0
        group.append(row)
        size += length
    if group:
        yield group


async def newest_dictionaries(
    connection: AsyncConnection[Any], flow_slugs: Sequence[str]
) -> dict[tuple[str, str], int]:
    """Get the id of the newest dictionary of each step of these flows."""
    cursor = await connection.execute(
        """
        select flow_slug, step_slug, max(id) from pgflow.blob_dictionaries
        where flow_slug = any(%s) group by flow_slug, step_slug
        """,
        [list(flow_slugs)],
    )
    return {(flow, step): number for flow, step, number in await cursor.fetchall()}


async def fetch_dictionaries(
    connection: AsyncConnection[Any], numbers: Sequence[int]
) -> dict[int, bytes]:
    """Get the dictionaries of these ids."""
    cursor = await connection.execute(
        "select id, content from pgflow.blob_dictionaries where id = any(%s)",
        [list(numbers)],
        binary=True,
    )
    return dict(await cursor.fetchall())
