"""The checker finds what is wrong with blobs, and nothing where nothing is."""

import re
from collections.abc import Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
import trio
from psycopg.conninfo import conninfo_to_dict

from blobstore.keys import KeyRing
from blobstore.objects import ObjectStore
from pgflow_events import Flow, Settings, Worker, connect
from pgflow_events.postgres.connection import Connection
from pgflow_events.upkeep import checker, retention
from pgflow_events.upkeep.retention import Pruned

from ...conftest import EmbeddedServer, new_database
from ...parts.observing import execute, rows, until
from ...parts.past import add_days, caller, faults, fill, past

PAGE = "<p>" * 10_000
LARGE = b"\x00\xff" * 3_000_000  # in chunks
KEYS = KeyRing({"one": bytes(range(32))})


@pytest.fixture
def database(any_server: EmbeddedServer, any_template: str) -> Iterator[str]:
    """A database of the test's own on each server."""
    with new_database(any_server.dsn, any_template) as made:
        yield made


async def fill_with_all(dsn: str) -> None:
    """Fill a database with blobs of every kind."""
    flow = Flow("flow")

    @flow.step(flow.input)
    async def large(value):
        return LARGE

    @flow.step(large.blob, by_element=True)
    async def pages(blob):
        return [PAGE, 1, {"text": PAGE}, PAGE]

    @flow.step(large.blob, keep_output=0)
    async def same(blob):
        return blob

    @flow.step(flow.input, keep_output=0)
    async def brief(value):
        return value + "!"

    async with connect(dsn) as client, trio.open_nursery() as nursery:
        await nursery.start(Worker([flow], dsn).run)
        run = await client.start(flow, PAGE)
        await run.wait()
        nursery.cancel_scope.cancel()
    await retention.forget(caller(dsn), Pruned())


@pytest.fixture(scope="module")
def filled_template(any_server: EmbeddedServer, any_template: str) -> Iterator[str]:
    """The name of a database with blobs of every kind, on each server."""
    with new_database(any_server.dsn, any_template) as made:
        trio.run(fill_with_all, made)
        yield conninfo_to_dict(made)["dbname"]


@pytest.fixture
def filled(any_server: EmbeddedServer, filled_template: str) -> Iterator[str]:
    """A copy of it, of the test's own."""
    with new_database(any_server.dsn, filled_template) as made:
        yield made


async def test_blobs_of_every_kind_are_without_fault(filled):
    async with await Connection.connect(filled) as connection:
        checked = await checker.check(connection)

        async def make(call):
            return await call(connection)

        await checker.check_contents(make, checked)
    assert checked.faults == []
    assert (checked.blobs, checked.forgotten, checked.unfinished) == (6, 1, 0)
    assert checked.chunks == 2
    assert (checked.verified, checked.not_checked) == (5, {})
    assert checked.stored_bytes > 0


# A table and how it is damaged, and what is said of it.
DAMAGES = [
    ("delete from blobs where kind = 'list'", "run .* does not name it"),
    ("delete from blobs where kind = 'text' and step_slug = 'pages'", "in list .* there is none"),
    ("delete from blobs where step_slug = 'run'", "as its input, and there is none"),
    ("update blobs set run_id = gen_random_uuid() where kind = 'list'", "there is no run"),
    ("update blobs set sha256 = null where kind = 'bytes'", "step large of .* is completed"),
    ("update blobs set content = null where kind = 'list'", "content and chunks, or neither"),
    ("update blobs set stored_size = 7 where kind = 'list'", "bytes and not 7"),
    ("update blobs set content = '' where forgotten_at is not null", "was forgotten, and some"),
    ("update blobs set forgotten_at = now() where kind = 'bytes'", "2 chunks of it are there"),
    ("update blobs set dictionary_id = 9 where kind = 'list'", "no dictionary 9"),
    ("update blobs set key_id = 'x' where kind = 'list'", "an id without a key"),
    ("update blobs set elements = null where kind = 'list'", "a list without elements"),
    ("update runs set input_blob_id = null", "run .* does not name it"),
    ("update runs set has_blobs = false", "does not know that it has blobs"),
    ("update runs set output_blobs_refs = jsonb_build_object('x', run_id)", "output x, and there"),
    ("update tasks set output_blob_id = null where step_slug = 'pages'", "does not name it"),
    ("delete from chunks where seq = 0", "1 of its 2 chunks"),
    ("update chunks set seq = 5 where seq = 1", "2 of its 2 chunks"),
    ("update chunks set content = content || 'x' where seq = 1", "its chunks have .* and not"),
    ("update chunks set blob_id = gen_random_uuid()", "that have no row"),
]
TABLES = {"blobs": "output_blobs", "chunks": "blob_chunks", "tasks": "step_tasks", "runs": "runs"}


@pytest.mark.parametrize(("damage", "said"), DAMAGES, ids=[damage for damage, _ in DAMAGES])
async def test_a_damage_is_found(filled, damage, said):
    for name, table in TABLES.items():
        damage = damage.replace(f"from {name} ", f"from pgflow.{table} ")
        damage = damage.replace(f"update {name} ", f"update pgflow.{table} ")
    await execute(filled, f"set session_replication_role = replica; {damage}")
    async with await Connection.connect(filled) as connection:
        checked = await checker.check(connection)
    assert any(re.search(said, fault.fault) for fault in checked.faults), checked.faults


DAMAGED = "content = overlay(content placing '\\x00' from 3)"


@pytest.mark.parametrize(
    "damage",
    [
        f"update pgflow.blob_chunks set {DAMAGED} where seq = 1",
        f"update pgflow.output_blobs set {DAMAGED} where kind = 'list'",
        "update pgflow.output_blobs set sha256 = sha256('') where kind = 'text'",
    ],
    ids=["chunk", "list", "digest"],
)
async def test_a_damaged_content_is_found_where_it_is_read(filled, damage):
    await execute(filled, damage)
    (fault, *_) = await faults(filled)
    assert "cannot be read" in fault
    async with await Connection.connect(filled) as connection:
        assert (await checker.check(connection)).faults == []


async def test_a_blob_that_has_lost_a_chunk_is_told_of_once(filled):
    await execute(filled, "delete from pgflow.blob_chunks where seq = 0")
    async with await Connection.connect(filled) as connection:
        checked = await checker.check(connection)
    await checker.check_contents(caller(filled), checked)
    assert [fault.fault for fault in checked.faults] == ["1 of its 2 chunks are there"]


async def test_no_more_than_a_hundred_faults_are_told_and_all_are_counted(database):
    add_days(database, 30)
    fill(database, 30, 150)
    await execute(database, "update pgflow.runs set has_blobs = false")
    async with await Connection.connect(database) as connection:
        checked = await checker.check(connection)
    assert (len(checked.faults), checked.more) == (100, 50)


async def test_what_is_sealed_is_checked_with_the_keys_and_counted_without(database, work):
    flow = Flow("flow")

    @flow.step(flow.input)
    async def large(value):
        return LARGE

    await work(flow, settings=Settings(keys=KEYS))
    async with connect(database, keys=KEYS) as client:
        run = await client.start(flow, {"a": 1})
        await run.wait()
    async with await Connection.connect(database) as connection:
        checked = await checker.check(connection)
        make = caller(database)
        await checker.check_contents(make, checked)
        assert (checked.verified, checked.faults) == (0, [])
        assert list(checked.not_checked.items()) == [
            ("the key ring of this process has no key 'one'", 2)
        ]
        await checker.check_contents(make, checked, keys=KEYS)
        assert (checked.verified, checked.faults) == (2, [])


async def test_what_is_kept_in_objects_is_read_there_and_missed_there(
    database, client, work, tmp_path
):
    flow = Flow("flow")

    @flow.step(flow.input)
    async def large(value):
        return LARGE

    objects = ObjectStore.from_url(tmp_path.as_uri())
    await work(flow, settings=Settings(objects=objects, object_threshold=1_000_000))
    run = await client.start(flow, None)
    await run.wait()
    make = caller(database)
    async with await Connection.connect(database) as connection:
        checked = await checker.check(connection)
    await checker.check_contents(make, checked)
    assert (checked.verified, sum(checked.not_checked.values())) == (0, 1)
    await checker.check_contents(make, checked, objects=objects)
    assert (checked.verified, checked.faults) == (1, [])
    ((blob_id,),) = await rows(database, "select id from pgflow.output_blobs")
    await objects.discard([blob_id])
    await checker.check_contents(make, checked, objects=objects)
    assert [fault.fault for fault in checked.faults] == ["it is missing"]


async def test_a_blob_that_is_being_written_is_no_fault_and_its_age_is_told(client, work, database):
    flow = Flow("flow", base_delay=0)
    go_on = trio.Event()

    @flow.step(flow.context)
    async def stream(context):
        yield LARGE * 3
        await go_on.wait()
        if context.attempt == 1:
            raise OSError

    await work(flow)
    run = await client.start(flow, None)

    async def a_chunk_is_there():
        return await rows(database, "select from pgflow.blob_chunks")

    await until(a_chunk_is_there)
    async with await Connection.connect(database) as connection:
        checked = await checker.check(connection)
    assert (checked.faults, checked.unfinished) == ([], 1)
    assert 0 < checked.oldest_unfinished < 60
    go_on.set()
    assert (await run.result())["stream"] == LARGE * 3
    assert not await faults(database)
    assert len(await rows(database, "select from pgflow.output_blobs")) == 1


async def test_what_a_worker_that_died_had_begun_is_no_fault_and_goes_with_its_task(
    client, work, database
):
    flow = Flow("flow", timeout=1)
    go_on = trio.Event()

    @flow.step()
    async def stream():
        yield LARGE * 3
        await go_on.wait()

    async def has_chunks():
        return await rows(database, "select from pgflow.blob_chunks")

    async with trio.open_nursery() as dying:
        await dying.start(Worker([flow], database).run)
        run = await client.start(flow, None)
        await until(has_chunks)
        dying.cancel_scope.cancel()
    async with await Connection.connect(database) as connection:
        checked = await checker.check(connection)
    assert (checked.faults, checked.unfinished) == ([], 1)
    go_on.set()
    await work(flow)
    assert (await run.result())["stream"] == LARGE * 3
    assert not await faults(database)
    assert len(await rows(database, "select from pgflow.output_blobs")) == 1


@asynccontextmanager
async def checking(database, found):
    """Look for faults again and again, and at the end once more."""

    async def look():
        while True:
            found.append(await faults(database))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(look)
        yield
        nursery.cancel_scope.cancel()
    found.append(await faults(database))


async def test_it_finds_no_fault_beside_workers_that_work_fail_forget_and_prune(
    client, work, database
):
    flow = Flow("flow", base_delay=0, max_attempts=2)
    keep = timedelta(seconds=0.3)

    @flow.step(flow.input, keep_output=0)
    async def page(value):
        return PAGE if value % 2 else LARGE

    @flow.step(flow.context, page, flow.input, by_element=True)
    async def pages(context, value, number):
        if number % 5 == context.attempt:
            raise ValueError
        if number % 7 == 0:
            raise OSError
        return [PAGE, number]

    settings = Settings(check_interval=0.02, keep_runs=keep)
    await work(flow, settings=settings)
    await work(flow, settings=settings)
    found = []
    async with checking(database, found):
        for _ in range(8):
            runs = await client.start_many(flow, range(12))
            with trio.fail_after(30):
                for run in runs:
                    await run.wait()
    assert len(found) > 3
    assert not any(found), found
    pruned = await retention.prune(caller(database), datetime.now(UTC))
    assert pruned.runs + len(found) > 0
    assert not await faults(database)


async def test_a_day_cannot_be_dropped_within_its_snapshot(database):
    add_days(database, 30)
    fill(database, 30, 10)
    make = caller(database)
    async with await Connection.connect(database) as connection, connection.transaction():
        await connection.execute("set transaction isolation level repeatable read, read only")
        await connection.execute(checker.LOCK_DAYS)
        pruned = await retention.prune(make, datetime.now(UTC))
        assert past(30) in pruned.busy_days
        await connection.execute(checker.COUNTS)
