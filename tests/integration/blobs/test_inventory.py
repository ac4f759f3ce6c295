"""What is stored is counted, rotated, trained on and exported, on each server; nothing stays."""

import json
import random
from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Any
from uuid import UUID

import psycopg
import pytest
import trio
from psycopg.types.json import Jsonb

from blobstore import Blob, KeyMissing
from blobstore.keys import KeyRing
from blobstore.objects import ObjectStore
from blobstore.values.dictionaries import DEFAULT_SIZE
from pgflow_events.core.flows import define_flow
from pgflow_events.errors import PgflowError
from pgflow_events.flow.flow import Flow
from pgflow_events.postgres.connection import Connection
from pgflow_events.upkeep import inventory
from pgflow_events.upkeep.exports import elements, export_values, extension, value_pieces
from pgflow_events.upkeep.inventory import SizeClass, take_inventory
from pgflow_events.upkeep.rotation import Rotated, rotate
from pgflow_events.upkeep.training import train_step
from pgflow_events.upkeep.values import blob_of

from ...parts.storing import blobs_on, complete, start, store

# Who may read neither the content of a blob, nor its first characters.
COUNTER = """
create role counter;
grant usage on schema pgflow to counter;
grant select on pgflow.flows, pgflow.steps, pgflow.runs, pgflow.step_tasks to counter;
grant select (
  id, run_id, step_slug, kind, codec, dictionary_id, key_id, store, chunk_size, raw_size,
  stored_size, sha256, created_at, forgotten_at
) on pgflow.output_blobs to counter;
set local role counter
"""

site = Flow("site", blob_threshold=4096)


@site.step(site.input)
def page(run: object) -> str:
    return ""


def secrets(*names: str) -> dict[str, bytes]:
    """A key of each name."""
    return {name: sha256(name.encode()).digest() for name in names}


def ring(*names: str) -> KeyRing:
    """Keys of these names; the first one seals."""
    return KeyRing(secrets(*names))


@pytest.fixture
async def connection(any_database: str) -> AsyncIterator[Connection]:
    async with (
        await Connection.connect(any_database) as connected,
        connected.transaction(force_rollback=True),
    ):
        await define_flow(connected, site.definition())
        yield connected


async def forget(connection: Connection, blob_id: UUID | None) -> None:
    await connection.execute(
        "update pgflow.output_blobs set expires_at = now() where id = %s", [blob_id]
    )
    await connection.execute("select pgflow.forget_blobs(10)")


async def read(pieces: Any) -> bytes:
    return b"".join([piece async for piece in pieces])


class TestInventory:
    async def test_blobs_and_values_in_rows_are_counted_by_step_and_size(self, connection):
        blobs = blobs_on(connection, threshold=4096)
        for value in ("x" * 5000, "x" * 8192, "x" * 8193, "small", b"x" * 5000):
            await store(connection, blobs, "site", value)
        outputs, inputs = await take_inventory(connection)
        assert (outputs.flow_slug, outputs.step_slug, outputs.threshold) == ("site", "page", 4096)
        assert (outputs.inline, outputs.blobs, outputs.largest) == (1, 4, 8193)
        assert outputs.raw_size == 5000 + 8192 + 8193 + 5000
        assert outputs.stored_size == sum(sizes.stored_size for sizes in outputs.sizes) < 500
        assert [(s.up_to, s.inline, s.blobs, s.raw_size) for s in outputs.sizes] == [
            (256, 1, 0, 0), (8192, 0, 3, 18192), (16384, 0, 1, 8193)
        ]  # fmt: skip
        assert outputs.codecs == {"zstd": 4}
        assert outputs.oldest < outputs.newest
        assert (inputs.step_slug, inputs.inline, inputs.blobs) == ("run", 5, 0)
        assert inputs.sizes == [SizeClass(256, 5)]

    async def test_it_tells_of_one_flow_or_step(self, connection):
        await define_flow(connection, Flow("other").definition())
        await start(connection, blobs_on(connection), "other", "x" * 9000)
        await store(connection, blobs_on(connection), "site", "x" * 9000)

        async def told(**asked: str) -> list[tuple[str | None, str]]:
            return [(s.flow_slug, s.step_slug) for s in await take_inventory(connection, **asked)]

        assert await told() == [("other", "run"), ("site", "page"), ("site", "run")]
        assert await told(flow_slug="other") == [("other", "run")]
        assert await told(flow_slug="site", step_slug="page") == [("site", "page")]

    async def test_copies_are_blobs_of_the_same_bytes_and_kind(self, connection):
        blobs = blobs_on(connection)
        for value in ("x" * 9000, "x" * 9000, "x" * 9000, b"x" * 9000, "y" * 9000):
            await store(connection, blobs, "site", value)
        (outputs,) = await take_inventory(connection, step_slug="page")
        assert outputs.copies == 2
        assert outputs.copied_size == pytest.approx(outputs.stored_size * 2 / 5, rel=0.05)

    async def test_of_sealed_blobs_no_copies_are_known_but_their_keys(self, connection):
        for name in ("a", "b"):
            await store(connection, blobs_on(connection, keys=ring(name)), "site", "same")
        (outputs,) = await take_inventory(connection, step_slug="page")
        assert (outputs.copies, outputs.keys) == (0, {"a": 1, "b": 1})

    async def test_chunks_objects_and_what_is_forgotten_are_told(self, connection, tmp_path):
        objects = ObjectStore.from_url(tmp_path.as_uri())
        small = {"chunk_size": 1000, "object_threshold": 9000}
        blobs = blobs_on(connection, objects=objects, threshold=10, **small)
        for size in (500, 2000, 9000):
            await store(connection, blobs, "site", "x" * size)
        forgotten = await store(connection, blobs, "site", "x" * 3000)
        await forget(connection, forgotten)
        (outputs,) = await take_inventory(connection, step_slug="page")
        assert (outputs.blobs, outputs.in_chunks, outputs.in_objects) == (4, 3, 1)
        assert (outputs.forgotten, outputs.unfinished) == (1, 0)
        assert outputs.raw_size == 11_500
        assert sum(sizes.blobs for sizes in outputs.sizes) == 4

    async def test_what_is_still_being_written_has_no_size(self, connection):
        blobs = blobs_on(connection, threshold=10, chunk_size=1000)
        await store(connection, blobs, "site", "x" * 2000)
        await connection.execute(
            "update pgflow.output_blobs set raw_size = null, stored_size = null, sha256 = null"
        )
        (outputs,) = await take_inventory(connection, step_slug="page")
        assert (outputs.blobs, outputs.unfinished, outputs.sizes) == (1, 1, [])

    async def test_of_a_large_table_a_part_is_read(self, connection, monkeypatch):
        monkeypatch.setattr(inventory, "SAMPLED_BYTES", 200 * 1024)
        await connection.execute(
            "insert into pgflow.runs (flow_slug, input)"
            " select 'site', to_jsonb(repeat('x', 200)) from generate_series(1, 10000)"
        )
        (inputs,) = await take_inventory(connection, step_slug="run")
        assert 5_000 < inputs.inline < 20_000
        assert inputs.inline != 10_000

    async def test_no_content_is_read(self, connection):
        await store(connection, blobs_on(connection), "site", "x" * 9000)
        await connection.execute(COUNTER)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            async with connection.transaction():
                await connection.execute("select length(content) from pgflow.output_blobs")
        (outputs,) = await take_inventory(connection, step_slug="page")
        assert outputs.raw_size == 9000


class TestRotation:
    async def stored(self, connection: Connection, *names: str) -> list[UUID]:
        return [
            await store(connection, blobs_on(connection, keys=ring(name)), "site", f"of {name}")
            for name in names
        ]

    async def values(self, connection: Connection, ids: list[UUID], keys: KeyRing) -> list[Any]:
        loaded = await blobs_on(connection, keys=keys).load(ids)
        return [await loaded.get(blob_id) for blob_id in ids]

    async def test_all_move_and_the_old_keys_are_needed_no_more(self, connection):
        ids = await self.stored(connection, "a", "b", "a", "c")
        await store(connection, blobs_on(connection), "site", "x" * 9000)
        rotated = Rotated()
        await rotate(connection, ring("c", "b", "a"), rotated, batch=2)
        assert rotated == Rotated(blobs=3)
        assert await self.values(connection, ids, ring("c")) == ["of a", "of b", "of a", "of c"]
        with pytest.raises(KeyMissing):
            await self.values(connection, ids, ring("a"))

    async def test_one_that_was_interrupted_goes_on(self, connection):
        await self.stored(connection, "a", "a", "a")
        calls = 0

        class Stopped(KeyRing):
            def reseal(self, *arguments: Any) -> bytes:
                nonlocal calls
                calls += 1
                if calls == 3:
                    raise ZeroDivisionError
                return super().reseal(*arguments)

        rotated = Rotated()
        keys = Stopped(secrets("b", "a"))
        with pytest.raises(ZeroDivisionError):
            await rotate(connection, keys, rotated, batch=1)
        assert rotated.blobs == 2
        again = Rotated()
        await rotate(connection, ring("b", "a"), again)
        assert again == Rotated(blobs=1)

    async def test_what_it_has_no_key_for_is_left_and_told(self, connection):
        await self.stored(connection, "a", "b", "b")
        rotated = Rotated()
        await rotate(connection, ring("c", "a"), rotated)
        assert rotated == Rotated(blobs=1, left={"b": 2})

    async def test_a_damaged_key_is_told_and_the_others_move(self, connection):
        damaged, _ = await self.stored(connection, "a", "a")
        await connection.execute(
            "update pgflow.output_blobs set data_key = '\\x00' where id = %s", [damaged]
        )
        rotated = Rotated()
        await rotate(connection, ring("b", "a"), rotated)
        assert rotated == Rotated(blobs=1, damaged=[damaged], left={"a": 1})

    async def test_what_is_forgotten_needs_no_key(self, connection):
        (blob_id,) = await self.stored(connection, "a")
        await forget(connection, blob_id)
        rotated = Rotated()
        await rotate(connection, ring("b", "a"), rotated)
        assert rotated == Rotated()
        (outputs,) = await take_inventory(connection, step_slug="page")
        assert outputs.keys == {}

    async def test_it_waits_for_nobody_who_holds_a_blob(self, database):
        async with (
            await Connection.connect(database) as connection,
            await Connection.connect(database) as other,
        ):
            await define_flow(connection, site.definition())
            held, _ = await self.stored(connection, "a", "a")
            rotated = Rotated()
            async with other.transaction():
                await other.execute(
                    "select from pgflow.output_blobs where id = %s for update", [held]
                )
                with trio.fail_after(10):
                    await rotate(connection, ring("b", "a"), rotated)
            assert rotated == Rotated(blobs=1, left={"a": 1})

    async def test_two_at_once_rotate_each_blob_once(self, database):
        async with (
            await Connection.connect(database) as connection,
            await Connection.connect(database) as other,
        ):
            await define_flow(connection, site.definition())
            ids = await self.stored(connection, *["a"] * 20)
            both = [Rotated(), Rotated()]
            async with trio.open_nursery() as nursery:
                for each, counted in zip((connection, other), both, strict=True):
                    nursery.start_soon(lambda c=each, r=counted: rotate(c, ring("b", "a"), r))
            last = Rotated()
            await rotate(connection, ring("b", "a"), last)
            assert sum(each.blobs for each in [*both, last]) == 20
            assert last.left == {}
            assert await self.values(connection, ids, ring("b")) == ["of a"] * 20


def article(n: int) -> str:
    words = random.Random(n)
    text = " ".join(words.choices(["on", "the", "road", "again", "never", "home"], k=60))
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{n}</title>'
        f'<link rel="stylesheet" href="/assets/site.css"></head><body class="article">'
        f'<nav aria-label="breadcrumbs"><a href="/">Home</a></nav><h1>{n}</h1><p>{text}</p>'
        f'<footer class="footer"><a href="/imprint">Imprint</a></footer></body></html>'
    )


class TestTraining:
    async def test_a_dictionary_is_stored_and_compresses_what_comes(self, connection):
        blobs = blobs_on(connection, threshold=100)
        for n in range(60):
            await store(connection, blobs, "site", article(n))
        trained = await train_step(connection, blobs, "site", "page", size=DEFAULT_SIZE)
        assert (trained.samples, trained.held_out) == (45, 15)
        assert trained.dictionary_ratio > 2 * trained.plain_ratio
        assert trained.better_threshold is None  # all of them are blobs

        await blobs.use_dictionaries(["site"])
        blob_id = await store(connection, blobs, "site", article(1000))
        (outputs,) = await take_inventory(connection, step_slug="page")
        assert outputs.codecs == {"zstd": 60, "zstd, dictionary": 1}
        assert await (await blobs.load([blob_id])).get(blob_id) == article(1000)
        # Blobs that were compressed with it are samples for the next one.
        again = await train_step(connection, blobs, "site", "page", size=DEFAULT_SIZE, count=40)
        assert again.dictionary_id == trained.dictionary_id + 1
        assert again.samples + again.held_out == 40

    async def test_small_outputs_tell_which_threshold_saves_most(self, connection):
        blobs = blobs_on(connection, threshold=8192)
        for n in range(60):
            await store(connection, blobs, "site", [n, article(n)])
        trained = await train_step(
            connection, blobs, "site", "page", size=DEFAULT_SIZE, dry_run=True
        )
        assert (trained.threshold, trained.dictionary_id) == (4096, None)
        assert trained.better_threshold in {256, 512}
        assert 0.1 < trained.saved < 0.9
        assert await dictionaries(connection) == 0

    async def test_equal_outputs_count_once(self, connection):
        blobs = blobs_on(connection, threshold=100)
        for n in range(40):
            await store(connection, blobs, "site", article(n % 20))
        trained = await train_step(connection, blobs, "site", "page", size=DEFAULT_SIZE)
        assert (trained.samples, trained.held_out) == (15, 5)

    async def test_a_step_without_outputs_is_told_to_wait_for_some(self, connection):
        none = '^step "page" of flow "site" has no stored outputs: train it after some runs have '
        with pytest.raises(PgflowError, match=none):
            await train_step(connection, blobs_on(connection), "site", "page", size=DEFAULT_SIZE)

    async def test_too_few_outputs_are_told(self, connection):
        blobs = blobs_on(connection, threshold=100)
        for n in range(9):
            await store(connection, blobs, "site", article(n))
        with pytest.raises(ValueError, match="too few samples"):
            await train_step(connection, blobs, "site", "page", size=DEFAULT_SIZE)

    async def test_what_a_dictionary_does_not_make_smaller_gets_none(self, connection):
        blobs = blobs_on(connection, threshold=100)
        for n in range(40):
            await store(connection, blobs, "site", random.Random(n).randbytes(3000))
        with pytest.raises((PgflowError, ValueError), match=r"no smaller|no dictionary"):
            await train_step(connection, blobs, "site", "page", size=DEFAULT_SIZE)
        assert await dictionaries(connection) == 0

    async def test_a_flow_that_encrypts_gets_none(self, connection):
        await store(connection, blobs_on(connection, keys=ring("a")), "site", "secret")
        with pytest.raises(PgflowError, match="encrypted"):
            await train_step(connection, blobs_on(connection), "site", "page", size=DEFAULT_SIZE)

    async def test_a_step_that_is_not_there_is_named(self, connection):
        with pytest.raises(PgflowError, match='no step "run" of a flow "site"'):
            await train_step(connection, blobs_on(connection), "site", "run", size=DEFAULT_SIZE)


async def dictionaries(connection: Connection) -> int:
    cursor = await connection.execute("select count(*) from pgflow.blob_dictionaries")
    ((count,),) = await cursor.fetchall()
    return int(count)


class TestExport:
    async def test_each_value_is_a_file_named_after_its_step_and_media_type(
        self, connection, tmp_path
    ):
        blobs = blobs_on(connection)
        run_id = await start(connection, blobs, "site", {"url": "Ä"})
        await complete(connection, blobs, "site", "<p>Ä" * 9000, media_type="text/html; charset=x")
        folder = tmp_path / "run"
        exported = await export_values(connection, blobs, run_id, folder)
        assert [value.file for value in exported] == ["run.json", "page.html"]
        assert json.loads((folder / "run.json").read_text()) == {"url": "Ä"}
        assert (folder / "page.html").read_text() == "<p>Ä" * 9000
        assert folder.stat().st_mode & 0o777 == 0o700

    @pytest.mark.parametrize(
        ("value", "file", "content"),
        [
            ("Ä\n", "page.txt", "Ä\n".encode()),
            (None, "page.json", b"null"),
            (b"\0", "page.bin", b"\0"),
            ({"a": 10**18}, "page.json", b'{"a": 1000000000000000000}'),
        ],
        ids=lambda value: str(value)[:10],
    )
    async def test_small_values_too(self, connection, tmp_path, value, file, content):
        blobs = blobs_on(connection)
        run_id = await start(connection, blobs, "site", {})
        await complete(connection, blobs, "site", value)
        await export_values(connection, blobs, run_id, tmp_path)
        assert (tmp_path / file).read_bytes() == content

    async def test_what_only_sql_can_store_is_given_out_as_it_is(self, connection, tmp_path):
        blobs = blobs_on(connection)
        run_id = await start(connection, blobs, "site", {})
        await connection.execute("select pgflow.poll_for_tasks('site', 0, 1, 0)")
        number = Jsonb(10**400, dumps=lambda number: json.dumps(number).encode())
        await connection.execute("select pgflow.complete_task(%s, 'page', 0, %s)", [run_id, number])
        await export_values(connection, blobs, run_id, tmp_path)
        assert (tmp_path / "page.json").read_text() == f"1{'0' * 400}"

    async def test_elements_of_a_list_are_files_of_their_own(self, connection, tmp_path):
        blobs = blobs_on(connection)
        run_id = await start(connection, blobs, "site", {})
        values = ["a" * 9000, "small", b"\xff", *["b" * 9000] * 8]
        await complete(connection, blobs, "site", values, by_element=True, media_type="text/html")
        exported = await export_values(connection, blobs, run_id, tmp_path)
        head, *items = exported[1:]
        assert (head.kind, head.file, head.error) == ("list", None, None)
        assert [item.file for item in items[:4]] == [
            "page.00.html", "page.01.txt", "page.02.html", "page.03.html"
        ]  # fmt: skip
        assert items[10].file == "page.10.html"
        assert (tmp_path / "page.02.html").read_bytes() == b"\xff"

    async def test_what_cannot_be_read_has_no_file_and_keeps_none_of_the_others(
        self, connection, tmp_path
    ):
        blobs = blobs_on(connection, chunk_size=1000)
        run_id = await start(connection, blobs, "site", "x" * 9000)
        output = await complete(connection, blobs, "site", "y" * 9000)
        await connection.execute(
            "update pgflow.output_blobs set sha256 = '' where step_slug = 'run'"
        )
        await forget(connection, output)
        damaged, forgotten = await export_values(connection, blobs, run_id, tmp_path / "run")
        assert "not those that were written" in damaged.error
        assert (damaged.file, damaged.forgotten) == (None, False)
        assert (forgotten.file, forgotten.forgotten) == (None, True)
        assert [*(tmp_path / "run").iterdir()] == []

    async def test_nothing_is_overwritten(self, connection, tmp_path):
        run_id = await start(connection, blobs_on(connection), "site", {})
        (tmp_path / "mine").touch()
        with pytest.raises(OSError, match="not empty"):
            await export_values(connection, blobs_on(connection), run_id, tmp_path)

    @pytest.mark.parametrize(
        ("kind", "media_type", "expected"),
        [
            ("text", "text/html", ".html"),
            ("bytes", "IMAGE/PNG", ".png"),
            ("bytes", "application/pdf; x=/../..", ".pdf"),
            ("bytes", "../../etc/passwd", ".bin"),
            ("text", "text/\0", ".txt"),
            ("json", None, ".json"),
        ],
    )
    def test_a_media_type_chooses_among_known_endings(self, kind, media_type, expected):
        assert extension(kind, media_type) == expected


class TestPieces:
    async def test_a_list_that_is_kept_by_its_elements_is_json(self, connection):
        blobs = blobs_on(connection, chunk_size=1000)
        for values in (
            ['"Ä\n' * 3000, {"a": ["x" * 9000]}, "small", None, 1.5],
            ["all", "small"],
            [],
        ):
            blob_id = await store(connection, blobs, "site", values, by_element=True)
            assert (
                json.loads(await read(value_pieces(blobs, await blob_of(blobs, blob_id)))) == values
            )

    async def test_a_list_with_bytes_is_refused_before_anything_is_given(self, connection):
        blobs = blobs_on(connection)
        values = ["x" * 9000, b"\xff"]
        blob_id = await store(connection, blobs, "site", values, by_element=True)
        with pytest.raises(PgflowError, match="element 1 of the list is bytes"):
            await anext(value_pieces(blobs, await blob_of(blobs, blob_id)))

    async def test_a_large_value_comes_in_pieces(self, connection):
        blobs = blobs_on(connection, chunk_size=1000)
        blob_id = await store(connection, blobs, "site", "Ä" * 9000)
        pieces = [piece async for piece in value_pieces(blobs, await blob_of(blobs, blob_id))]
        assert max(map(len, pieces)) == 1000
        assert b"".join(pieces) == ("Ä" * 9000).encode()

    async def test_a_value_without_elements_has_none(self, connection):
        run_id = await start(connection, blobs_on(connection), "site", {})
        assert await elements(blobs_on(connection), Blob.of(run_id, [])) == []
