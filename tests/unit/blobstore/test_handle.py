"""Handles of what is in memory, and the stream of a handle."""

from collections.abc import AsyncGenerator
from contextlib import suppress
from hashlib import sha256

import pytest
import trio
import trio.testing

from blobstore import Blob, BlobDamaged, BlobStream
from blobstore.postgres.ids import new_id
from blobstore.postgres.rows import BlobRow

RUN_ID = new_id()


@pytest.mark.parametrize(
    ("value", "kind", "raw"),
    [("ä", "text", "ä".encode()), ("", "text", b""), ([1, None], "json", b"[1,null]")],
)
async def test_what_is_inline_has_a_handle_like_any_other(value, kind, raw, tmp_path):
    handle = Blob.of(RUN_ID, value)
    assert (handle.id, handle.kind, handle.size) == (None, kind, len(raw))
    assert handle.sha256 == sha256(raw).hexdigest()
    assert await handle.value() == value
    assert await handle.bytes() == (await handle.text()).encode() == raw
    assert await handle.read(-2, 99) == raw[-2:99]
    await handle.save(str(tmp_path / "file"))
    assert (tmp_path / "file").read_bytes() == raw
    with pytest.raises(IndexError):
        await handle.item(2)
    if isinstance(value, list):
        assert [element async for element in handle.items()] == [await handle.item(0), None]
    else:
        with pytest.raises(TypeError, match="has no elements"):
            handle.items()


async def pieces(*given: bytes | Exception, forever: bool = False) -> AsyncGenerator[bytes, None]:
    for piece in given:
        if isinstance(piece, Exception):
            raise piece
        yield piece
    if forever:
        await trio.sleep_forever()


async def received(stream: BlobStream, max_bytes: int | None = None) -> list[bytes]:
    got = []
    while piece := await stream.receive_some(max_bytes):
        got.append(piece)
    return got


async def test_a_stream_gives_its_pieces_or_as_much_of_them_as_is_asked_for():
    async with BlobStream(pieces(b"abc", b"de")) as stream:
        assert await received(stream) == [b"abc", b"de"]
        assert await stream.receive_some() == b""
    async with BlobStream(pieces(b"abc", b"de")) as stream:
        assert await received(stream, 2) == [b"ab", b"c", b"de"]


@pytest.mark.parametrize("most", [0, -1])
async def test_a_stream_cannot_be_asked_for_nothing(most):
    async with BlobStream(pieces(b"abc")) as stream:
        with pytest.raises(ValueError, match="max_bytes"):
            await stream.receive_some(most)


async def test_a_stream_that_failed_does_not_pass_for_one_that_ended():
    async with BlobStream(pieces(b"abc", BlobDamaged(RUN_ID, "x"))) as stream:
        with pytest.raises(BlobDamaged):
            await received(stream)
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()


async def test_a_stream_that_was_cut_off_does_not_pass_for_one_that_ended(autojump_clock):
    async with BlobStream(pieces(b"abc", forever=True)) as stream:
        with trio.move_on_after(1):
            await received(stream)
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()


async def test_a_cancellation_before_a_stream_waits_loses_nothing():
    async with BlobStream(pieces(b"abc")) as stream:
        assert await stream.receive_some(1) == b"a"
        with trio.CancelScope() as scope:
            scope.cancel()
            await stream.receive_some()
        assert scope.cancelled_caught
        assert await received(stream) == [b"bc"]


async def test_a_stream_that_was_closed_gives_nothing_more():
    async with BlobStream(pieces(b"abc")) as stream:
        await stream.receive_some(1)
    with pytest.raises(trio.ClosedResourceError):
        await stream.receive_some()


async def test_two_tasks_cannot_read_one_stream():
    async with BlobStream(pieces(forever=True)) as stream, trio.open_nursery() as nursery:
        nursery.start_soon(stream.receive_some)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await stream.receive_some()
        nursery.cancel_scope.cancel()


class Slow:
    """The source of a value whose second half comes when it is let."""

    def __init__(self, *given: bytes | Exception) -> None:
        self._given = given
        self.half, self.go_on = trio.Event(), trio.Event()

    async def pieces(self, start: int, stop: int | None) -> AsyncGenerator[bytes, None]:
        first, *rest = self._given
        yield first
        self.half.set()
        await self.go_on.wait()
        for piece in rest:
            if isinstance(piece, Exception):
                raise piece
            yield piece


def handle_of(source: Slow) -> Blob[bytes]:
    return Blob(BlobRow(RUN_ID, RUN_ID, "", 0, "bytes"), b"", source)


async def test_those_who_save_to_one_file_at_once_do_not_meet(tmp_path):
    """As two attempts of a task may: the file is always one of theirs as a whole."""
    path = tmp_path / "file"
    first, failing, cancelled, last = sources = [
        Slow(b"1", b"1"), Slow(b"2", BlobDamaged(RUN_ID, "x")), Slow(b"3", b"3"), Slow(b"4", b"4")
    ]  # fmt: skip

    async def save(source: Slow) -> None:
        with suppress(BlobDamaged):
            await handle_of(source).save(path)
        ended[source].set()

    ended = {source: trio.Event() for source in sources}
    async with trio.open_nursery() as nursery:
        for source in (first, failing, last):
            nursery.start_soon(save, source)
        async with trio.open_nursery() as impatient:
            impatient.start_soon(save, cancelled)
            for source in sources:
                await source.half.wait()
            assert not path.exists()
            impatient.cancel_scope.cancel()
        for source, content in ((failing, None), (first, b"11"), (last, b"44")):
            source.go_on.set()
            await ended[source].wait()
            assert (path.read_bytes() if path.exists() else None) == content
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["x" * 255, "ä" * 127, "a.tar.gz", ".hidden"])
async def test_a_file_may_have_any_name_that_the_system_takes(tmp_path, name):
    await Blob.of(RUN_ID, "text").save(tmp_path / name)
    assert [file.name for file in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["folder", "missing/file"])
async def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path, name):
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match=name.partition("/")[0]):
        await Blob.of(RUN_ID, "text").save(tmp_path / name)
    assert [path.name for path in tmp_path.rglob("*")] == ["folder"]
