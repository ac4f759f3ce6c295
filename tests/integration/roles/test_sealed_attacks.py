"""Attacks on sealed values, by who may write to the database and has no key.

Each goes by plain SQL, behind the back of a worker and a client that have the key.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
import trio
from psycopg.conninfo import conninfo_to_dict

from blobstore import BlobError, Blobs, BlobUnavailable, NotSealed, Owner, ValueRefused
from blobstore.keys import KeyRing
from blobstore.postgres.ids import new_id
from pgflow_events import (
    Flow,
    HandlerTimeout,
    PermanentError,
    RunFailed,
    Settings,
    SettingsError,
    Worker,
    connect,
)
from pgflow_events.cli.blob.reading import open_blobs
from pgflow_events.postgres.connection import Connection
from pgflow_events.upkeep.exports import export_values

from ...conftest import EmbeddedServer, new_database
from ...parts.observing import execute, rows
from ...parts.past import caller
from ...parts.sealing import KEYS, rotated_by, unbind

PAGE = "<p>the page</p>"
MANY = [b"%d" % n * 100 for n in range(5 * 1024 * 1024 // 100)]
FORGED = """
key_id = null, data_key = null, kind = 'json', codec = 'none', content = '"forged"',
raw_size = 8, stored_size = 8, sha256 = sha256('"forged"')
"""

# What is done to the blobs of a run; {run} and {other} are two runs of the same flow.
ATTACKS = {
    "the kind": "update pgflow.output_blobs set kind = 'bytes' where step_slug = 'page'",
    "the kind of a stream": "update pgflow.output_blobs set kind = 'text' where step_slug = 'many'",
    "the media type": (
        "update pgflow.output_blobs set media_type = 'text/html' where step_slug = 'page'"
    ),
    "the codec": "update pgflow.output_blobs set codec = 'zstd' where step_slug = 'page'",
    "the end of a stream": (
        "update pgflow.output_blobs set raw_size = chunk_size where step_slug = 'many'"
    ),
    "the places of elements": (
        "update pgflow.output_blobs set elements = array[elements[2], elements[1]]"
        " where elements is not null"
    ),
    "an element twice": (
        "update pgflow.output_blobs set elements = array[elements[1], elements[1]]"
        " where elements is not null"
    ),
    "no element": (
        "update pgflow.output_blobs set elements = array[null, elements[2]]"
        " where elements is not null"
    ),
    "one element more": (
        "update pgflow.output_blobs set elements = elements || elements[1]"
        " where elements is not null"
    ),
    "the elements of another list": (
        "update pgflow.output_blobs set elements = (select elements from pgflow.output_blobs"
        " where elements is not null and run_id = '{other}') where run_id = '{run}' and"
        " elements is not null"
    ),
    "an element for a step's output": (
        "update pgflow.step_tasks t set output_blob_id = b.elements[1]"
        " from pgflow.output_blobs b where b.run_id = t.run_id and elements is not null"
    ),
    "another step": (
        "update pgflow.step_tasks t set output_blob_id = b.id from pgflow.output_blobs b"
        " where b.run_id = t.run_id and b.step_slug = case t.step_slug when 'page' then 'word'"
        " else 'page' end"
    ),
    "another step, with its name changed": (
        "update pgflow.output_blobs set step_slug = case step_slug when 'page' then 'word'"
        " when 'word' then 'page' else step_slug end;"
        "update pgflow.step_tasks t set output_blob_id = b.id from pgflow.output_blobs b"
        " where b.run_id = t.run_id and b.step_slug = t.step_slug and t.step_slug in"
        " ('page', 'word')"
    ),
    "the input": (
        "update pgflow.step_tasks t set output_blob_id = r.input_blob_id from pgflow.runs r"
        " where r.run_id = t.run_id"
    ),
    "another run": (
        "update pgflow.step_tasks t set output_blob_id = o.output_blob_id"
        " from pgflow.step_tasks o where t.run_id = '{run}' and o.run_id = '{other}'"
        " and o.step_slug = t.step_slug"
    ),
    "another run, with its name changed": (
        "update pgflow.step_tasks t set output_blob_id = o.output_blob_id"
        " from pgflow.step_tasks o where t.run_id = '{run}' and o.run_id = '{other}'"
        " and o.step_slug = t.step_slug;"
        "update pgflow.output_blobs set run_id = '{run}'"
    ),
    "the task": "update pgflow.output_blobs set task_index = 1",
    "a digest of the form before": (
        "update pgflow.output_blobs set sha256 = substr(sha256, 2, 72)"
    ),
    "the rows of two steps": (
        "update pgflow.output_blobs a set content = b.content, data_key = b.data_key,"
        " sha256 = b.sha256, raw_size = b.raw_size, stored_size = b.stored_size, kind = b.kind,"
        " codec = b.codec from pgflow.output_blobs b where a.run_id = b.run_id"
        " and (a.step_slug, b.step_slug) in (('page', 'word'), ('word', 'page'))"
    ),
}  # fmt: skip
# The steps whose values an attack has changed; all others may stay as they are.
CHANGED = {
    "the kind": ["page"],
    "the kind of a stream": ["many"],
    "the media type": ["page"],
    "the codec": ["page"],
    "the end of a stream": ["many"],
    **{name: ["pages"] for name in ATTACKS if "element" in name},
    "an element for a step's output": ["page", "word", "many", "pages"],
}


BEFORE = datetime.now(UTC) - timedelta(days=1)
AFTER = datetime.now(UTC) + timedelta(days=1)
RUNNING = "select run_id from pgflow.runs where status = 'started'"


# What a reader does with a row is alike on both; what may be written into it need not be.
both_servers = pytest.mark.parametrize("database", ["server15", "server"], indirect=True)


@pytest.fixture
def database(request: pytest.FixtureRequest) -> Iterator[str]:
    """A migrated database of the test's own, on PostgreSQL 18 unless the test says otherwise."""
    name = getattr(request, "param", "server")
    server = request.getfixturevalue(name)
    template = request.getfixturevalue(name.replace("server", "template"))
    with new_database(server.dsn, template) as dsn:
        yield dsn


def all_kinds() -> Flow[Any]:
    """A flow with a value of each form."""
    flow: Flow[Any] = Flow("flow", max_attempts=1)
    flow.step(flow.input, slug="page")(lambda number: PAGE + str(number))
    flow.step(flow.input, slug="word")(lambda number: f"word {number}")
    flow.step(slug="pages", by_element=True)(lambda: [PAGE * 2, PAGE * 3])

    @flow.step()
    async def many():
        for piece in MANY:
            yield piece

    return flow


def settings(**more: Any) -> Settings:
    """Without a cache, so that what is read comes from the database."""
    return Settings(keys=KEYS, cache_budget=0, **more)


async def by_handle(run: Any, step: Any) -> Any:
    """An output by its handle; of a stream no more than a byte."""
    handle = await run.output(step.blob)
    return await handle.value() if handle.length is not None else await handle.read(0, 1)


async def both_refused(client: Any, run: Any, step: Any) -> None:
    """See that neither the value nor the handle of an output can be had."""
    with pytest.raises(BlobError):
        await run.output(step)
    with pytest.raises(BlobError):
        await by_handle(run, step)


async def complete_two(dsn: str) -> list[UUID]:
    """Complete two runs with sealed values of each form; their ids."""
    flow = all_kinds()
    async with connect(dsn, keys=KEYS) as client, trio.open_nursery() as nursery:
        await nursery.start(Worker([flow], dsn, settings=settings()).run)
        runs = await client.start_many(flow, [1, 2])
        for run in runs:
            await run.wait()
        nursery.cancel_scope.cancel()
    return [run.id for run in runs]


@pytest.fixture(scope="module")
def completed(any_server: EmbeddedServer, any_template: str) -> Iterator[tuple[str, list[UUID]]]:
    """The name of a database with two completed runs, to be copied, and their ids."""
    with new_database(any_server.dsn, any_template) as made:
        yield conninfo_to_dict(made)["dbname"], trio.run(complete_two, made)


@pytest.mark.parametrize("attack", ATTACKS)
async def test_a_sealed_value_that_was_changed_or_moved_is_refused(any_server, completed, attack):
    flow, (name, (run_id, other_id)) = all_kinds(), completed
    with new_database(any_server.dsn, name) as database:
        await execute(database, *ATTACKS[attack].format(run=run_id, other=other_id).split(";"))
        async with connect(database, keys=KEYS) as client:
            run = await client.find(run_id)
            for slug in CHANGED.get(attack, ["page", "word"]):
                await both_refused(client, run, flow.steps[slug])


@pytest.mark.parametrize("cache_budget", [0, 2**20], ids=["from the database", "from memory"])
@pytest.mark.parametrize("attack", ["another step", "another run", "the input"])
async def test_no_handler_is_called_with_a_sealed_value_that_was_moved(
    work, database, attack, cache_budget
):
    flow: Flow[Any] = Flow("flow", max_attempts=1)
    first: list[Any] = []
    called: list[Any] = []
    flow.step(flow.input, slug="page")(lambda number: PAGE + str(number))
    flow.step(flow.input, slug="word")(lambda number: f"word {number}")
    page, word = flow.steps["page"], flow.steps["word"]

    @flow.step(flow.input, page, word)
    async def gate(number, *_):
        if number == 2:
            ((own,),) = await rows(database, RUNNING)
            statement = ATTACKS[attack].format(run=own, other=first[0])
            await execute(database, *statement.split(";"))

    @flow.step(gate, page)
    async def use(_, page):
        called.append(page)

    await work(flow, settings=Settings(keys=KEYS, cache_budget=cache_budget))
    async with connect(database, keys=KEYS) as client:
        run = await client.start(flow, 1)
        assert await run.result() == {"use": None}
        first.append(run.id)
        run = await client.start(flow, 2)
        with pytest.raises(RunFailed, match="use"):
            await run.result()
    assert called == [PAGE + "1"]


@both_servers
async def test_who_starts_a_flow_on_the_value_of_another_run_is_told_nothing_of_it(work, database):
    first: Flow[Any] = Flow("first")
    second: Flow[Any] = Flow("second", max_attempts=1)
    first.step(first.input, slug="page")(lambda secret: secret)

    @second.step(second.input)
    async def quote(value):
        raise ValueError(value)

    await work(first, second, settings=settings(error_texts=True))
    async with connect(database, keys=KEYS) as client:
        run = await client.start(first, "the secret")
        await run.wait()
    ((blob_id,),) = await rows(database, "select input_blob_id from pgflow.runs")
    theirs = new_id()
    # A start with it is refused; whoever has the database can do without.
    await execute(
        database,
        "alter function pgflow.refuse_inputs rename to refuse_no_more;"
        "create function pgflow.refuse_inputs(uuid[], uuid[]) returns void return null;"
        f"select from pgflow.start_flows('second', array[null]::jsonb[], array['{theirs}']::uuid[],"
        f" array['{blob_id}']::uuid[])",
    )
    async with connect(database) as client:
        with pytest.raises(RunFailed, match="of another run") as caught:
            await (await client.find(theirs)).result()
    assert "the secret" not in str(caught.value)


async def test_an_earlier_output_of_the_same_step_can_be_put_back(work, database):
    flow: Flow[Any] = Flow("flow", max_attempts=1)
    page = flow.step(flow.input, slug="page")(lambda number: PAGE + str(number))
    await work(flow, settings=settings())
    async with connect(database, keys=KEYS, sealed_only=BEFORE) as client:
        run = await client.start(flow, 1)
        assert await run.result() == {"page": PAGE + "1"}
        ((earlier,),) = await rows(database, "select output_blob_id from pgflow.step_tasks")
        later = Owner(run.id, "page")
        blobs = Blobs(caller(database), keys=KEYS)
        stored = await blobs.encode("later", later)
        async with await Connection.connect(database) as connection:
            await blobs.save(connection, [stored])
        name = "update pgflow.step_tasks set output_blob_id = '{}'".format
        await execute(database, name(stored.id))
        assert await run.output(page) == "later"
        await execute(database, name(earlier))
        assert await run.output(page) == PAGE + "1"


async def test_an_export_reads_what_is_sealed_and_nothing_that_was_moved(work, database, tmp_path):
    flow = all_kinds()
    await work(flow, settings=settings())
    async with connect(database, keys=KEYS) as client:
        run, other = await client.start_many(flow, [1, 2])
        await run.wait()
        await other.wait()

    async def export(name: str) -> dict[str, str | None]:
        async with open_blobs(database, KEYS, sealed_only=BEFORE) as (connection, blobs):
            exported = await export_values(connection, blobs, run.id, tmp_path / name)
        return {f"{value.step_slug}.{value.element}": value.error for value in exported}

    assert set((await export("whole")).values()) == {None}
    await execute(database, ATTACKS["another run"].format(run=run.id, other=other.id))
    moved = await export("moved")
    assert moved.pop("run.None") is None
    assert all("of another run" in str(error) for error in moved.values()), moved


# In clear.

FORGERIES = {
    "a blob in clear": f"update pgflow.output_blobs set {FORGED} where step_slug = 'page'",
    "an output in a row": (
        "update pgflow.step_tasks set output = '\"forged\"', output_blob_id = null"
        " where step_slug = 'page';"
        'update pgflow.runs set output = output || \'{{"page": "forged"}}\','
        " output_blobs_refs = output_blobs_refs - 'page'"
    ),
}


@both_servers
@pytest.mark.parametrize("forgery", FORGERIES)
async def test_what_is_in_clear_is_refused_of_runs_from_a_time_on(work, database, forgery):
    flow: Flow[Any] = Flow("flow")
    page = flow.step(flow.input, slug="page")(lambda number: PAGE + str(number))
    await work(flow, settings=settings())
    async with connect(database, keys=KEYS) as client:
        run = await client.start(flow, 1)
        await run.wait()
    await execute(database, *FORGERIES[forgery].format().split(";"))
    async with connect(database, keys=KEYS, sealed_only=BEFORE) as client:
        run = await client.find(run.id)
        for reading in (run.result, lambda: run.output(page), lambda: run.output(page.blob)):
            with pytest.raises(NotSealed):
                await reading()
    for since in (None, AFTER):
        async with connect(database, keys=KEYS, sealed_only=since) as client:
            run = await client.find(run.id)
            assert await run.output(page) == "forged"


@both_servers
@pytest.mark.parametrize("size", [1, 100_000], ids=["in a row", "in a blob"])
async def test_no_handler_is_called_with_an_input_in_clear(work, database, size):
    flow: Flow[Any] = Flow("flow", max_attempts=1)
    called: list[Any] = []
    flow.step(flow.input, slug="page")(called.append)
    await work(flow, settings=settings(sealed_only=BEFORE))
    ((run_id,),) = await rows(
        database, f"select run_id from pgflow.start_flow('flow', to_jsonb(repeat('x', {size})))"
    )
    async with connect(database, keys=KEYS) as client:
        with pytest.raises(RunFailed, match=r"NotSealed: .* accepts only sealed values"):
            await (await client.find(run_id)).result()
        assert await (await client.start(flow, "sealed")).result() == {"page": None}
    assert called == ["sealed"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"keys": None, "sealed_only": BEFORE}, "needs keys"),
        ({"keys": KEYS, "sealed_only": datetime(2026, 1, 1)}, "no time zone"),  # noqa: DTZ001 - that is what is refused
    ],
)
def test_a_time_that_nothing_can_be_refused_from_is_refused(options, words):
    with pytest.raises(SettingsError, match=words):
        Settings(**options)
    with pytest.raises(SettingsError, match=words):
        connect(**options)


# What was sealed before.


@pytest.mark.parametrize("active", ["one", "two"])
async def test_a_rotation_binds_what_was_sealed_before(work, database, active):
    flow = all_kinds()
    await work(flow, settings=settings())
    async with connect(database, keys=KEYS) as client:
        run, other = await client.start_many(flow, [1, 2])
        outputs = await run.result()
        await other.wait()
    count = await unbind(database)
    secrets = {"one": bytes(range(32)), "two": bytes(range(1, 33))}
    ring = KeyRing({active: secrets[active]} | secrets)

    async def read(**options: Any) -> Any:
        async with connect(database, keys=ring, **options) as client:
            return await (await client.find(run.id)).result()

    assert await read() == outputs
    with pytest.raises(NotSealed, match="blob rotate"):
        await read(sealed_only=BEFORE)
    assert (await rotated_by(database, ring)).blobs == count
    assert await read(sealed_only=BEFORE) == outputs
    assert (await rotated_by(database, ring)).blobs == 0
    await execute(database, ATTACKS["another step"], ATTACKS["the places of elements"])
    async with connect(database, keys=ring) as client:
        run = await client.find(run.id)
        for slug in ("page", "word", "pages"):
            await both_refused(client, run, flow.steps[slug])


async def test_of_what_was_sealed_before_a_value_of_another_run_is_refused(work, database):
    flow = all_kinds()
    await work(flow, settings=settings())
    async with connect(database, keys=KEYS) as client:
        run, other = await client.start_many(flow, [1, 2])
        await run.wait()
        await other.wait()
        await unbind(database)
        await execute(database, ATTACKS["another run"].format(run=run.id, other=other.id))
    async with connect(database, keys=KEYS) as client:
        run = await client.find(run.id)
        await both_refused(client, run, flow.steps["page"])


async def test_a_rotation_leaves_as_it_was_what_a_step_had_passed_on(work, database):
    flow: Flow[Any] = Flow("flow")
    page = flow.step(flow.input, slug="page")(lambda number: PAGE + str(number))
    same = flow.step(page, slug="same")(lambda page: page)
    await work(flow, settings=settings())
    async with connect(database, keys=KEYS) as client:
        run = await client.start(flow, 1)
        await run.wait()
    await unbind(database)
    await execute(  # as releases before did
        database,
        "update pgflow.step_tasks t set output_blob_id = o.output_blob_id from pgflow.step_tasks o"
        " where t.step_slug = 'same' and o.step_slug = 'page'",
    )
    ring = KeyRing({"two": bytes(range(1, 33)), "one": bytes(range(32))})
    assert (await rotated_by(database, ring)).left == {}
    async with connect(database, keys=KeyRing({"two": bytes(range(1, 33))})) as client:
        run = await client.find(run.id)
        assert [await run.output(step) for step in (page, same)] == [PAGE + "1"] * 2


# What errors tell.


async def test_what_a_handler_raises_is_stored_without_its_text(work, database, caplog):
    flow: Flow[Any] = Flow("flow", max_attempts=1)

    @flow.step(flow.input)
    async def quote(value):
        raise ValueError(value)

    await work(flow, settings=settings())
    async with connect(database, keys=KEYS) as client:
        run = await client.start(flow, "the secret")
        await run.wait()
    ((stored,),) = await rows(database, "select error_message from pgflow.step_tasks")
    assert stored.startswith("ValueError in quote (test_sealed_attacks.py:")
    assert "the secret" not in stored
    assert "ValueError: the secret" in caplog.text


RAISED = {
    "a group": lambda secret: ExceptionGroup(secret, [ValueError(secret), KeyError(secret)]),
    "for good": PermanentError,
    "one of ours": HandlerTimeout,
    "a refusal": ValueRefused,
    "of a blob": BlobUnavailable,
}


@pytest.mark.parametrize("raised", RAISED)
async def test_no_error_of_a_handler_is_stored_with_its_text(work, database, raised):
    flow: Flow[Any] = Flow("flow", max_attempts=1)

    @flow.step(flow.input)
    async def quote(value):
        raise RAISED[raised](value)

    await work(flow, settings=settings())
    async with connect(database, keys=KEYS) as client:
        with pytest.raises(RunFailed) as caught:
            await (await client.start(flow, "the secret")).result()
    assert "the secret" not in str(caught.value)
    assert "values are encrypted" in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [{"the secret": {1}}, {"the secret": "\ud800"}, {"the secret": {1: 2}}, "the secret \ud800"],
    ids=repr,
)
async def test_a_refusal_of_a_value_names_none_of_its_keys(work, database, value):
    flow: Flow[Any] = Flow("flow", max_attempts=1)
    flow.step(slug="give")(lambda: value)
    await work(flow, settings=settings())
    async with connect(database, keys=KEYS) as client:
        with pytest.raises(RunFailed, match="ValueRefused") as caught:
            await (await client.start(flow, 1)).result()
    assert "the secret" not in str(caught.value)


async def test_what_this_package_raises_is_stored_with_its_text(work, database):
    flow: Flow[Any] = Flow("flow", max_attempts=1, timeout=1)

    @flow.step()
    async def late():
        await trio.sleep_forever()

    await work(flow, settings=settings())
    async with connect(database, keys=KEYS) as client:
        with pytest.raises(RunFailed, match="HandlerTimeout: the handler took longer than"):
            await (await client.start(flow, 1)).result()
