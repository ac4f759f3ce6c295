"""Lists that maps go over, in real tables: SQL counts their elements, and reads the inline ones."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from uuid import UUID

import orjson
import pytest
import trio

from blobstore import (
    Blob,
    BlobDamaged,
    BlobForgotten,
    BlobMissing,
    Inline,
    NotSealed,
    Owner,
    Place,
    Stored,
    ValueRefused,
    ValueTooLarge,
    list_reading,
)
from blobstore.keys import KeyRing
from blobstore.keys.places import ANY_LIST
from blobstore.postgres.ids import new_blob_id, new_id
from pgflow_events.core.flows import define_flow
from pgflow_events.flow.flow import Flow
from pgflow_events.postgres.connection import Connection

from ...parts.storing import blobs_on, start

PAGE = "<p>Ärger im Büro</p>" * 1000
KEYS = KeyRing({"key": sha256(b"key").digest()})

site = Flow("site")


@site.step(site.input)
def links(run: object) -> list[Any]:
    return []


@pytest.fixture
async def connection(any_database: str) -> AsyncIterator[Connection]:
    async with (
        await Connection.connect(any_database) as connected,
        connected.transaction(force_rollback=True),
    ):
        await define_flow(connected, site.definition())
        yield connected


@pytest.fixture(params=[None, KEYS], ids=["in clear", "sealed"])
def keys(request: pytest.FixtureRequest) -> KeyRing | None:
    return request.param


async def an_owner(connection: Connection) -> Owner:
    """The step of a new run."""
    return Owner(await start(connection, blobs_on(connection), "site", {}), "links", attempt=1)


async def kept(
    connection: Connection, value: object, owner: Owner | None = None, **options: Any
) -> Stored:
    """A list that feeds a map, saved."""
    blobs = blobs_on(connection, **options)
    stored = await blobs.encode(value, owner or await an_owner(connection), feeds_map=True)
    assert isinstance(stored, Stored)
    await blobs.save(connection, [stored])
    return stored


async def in_sql(connection: Connection, list_id: UUID) -> tuple[list[Any], list[UUID | None]]:
    """What SQL reads of a list: the inline elements, and the ids of the others."""
    cursor = await connection.execute(
        "select convert_from(content, 'UTF8')::jsonb::text, elements, codec, kind, key_id"
        " from pgflow.output_blobs where id = %s",
        [list_id],
    )
    ((frame, ids, *rest),) = await cursor.fetchall()
    assert rest == ["none", "list", None]
    return orjson.loads(frame), ids


VALUES: list[Any] = [PAGE, 1, None, "two", b"bytes", {"a": [PAGE]}, -0.0, "a\0b", [], PAGE]


async def test_sql_reads_what_is_inline_in_a_list_and_the_ids_of_the_rest(connection, keys):
    stored = await kept(connection, VALUES, keys=keys)
    frame, ids = await in_sql(connection, stored.id)
    assert len(frame) == len(ids) == len(VALUES)
    inline = [] if keys else [1, 2, 3, 8]
    for place, value in enumerate(VALUES):
        assert (ids[place] is None) == (place in inline)
        assert frame[place] == (value if place in inline else None)


async def test_a_small_list_stays_inline_without_keys_only(connection, keys):
    blobs = blobs_on(connection, keys=keys)
    value = await blobs.encode(["a", None, 2.5], Owner(new_id(), "links"), feeds_map=True)
    assert isinstance(value, Stored if keys else Inline)


@pytest.mark.parametrize("value", [["x"] * 3000, [b""], [-0.0]], ids=["long", "bytes", "inexact"])
async def test_a_list_that_cannot_stay_inline_is_kept_by_its_elements(connection, value):
    stored = await kept(connection, value)
    assert len((await in_sql(connection, stored.id))[1]) == len(value)


async def test_many_small_elements_make_no_blobs(connection):
    links = [f"https://example.org/{n:080}" for n in range(60_000)]  # 6 MB
    stored = await kept(connection, links)
    assert (await in_sql(connection, stored.id))[0] == links


async def test_what_is_not_brief_is_inline_only_up_to_a_chunk(connection):
    stored = await kept(connection, [f"{n:0600}" for n in range(20)], chunk_size=10_000)
    frame, ids = await in_sql(connection, stored.id)
    assert [text is None for text in frame] == [some_id is not None for some_id in ids]
    assert 0 < sum(text is not None for text in frame) < 20


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": 1}, r"^\$ is of type dict, and not a list$"),
        ("https://example.org", r"^\$ is of type str, and not a list$"),
        (("a", "b"), r"^\$ is of type tuple, and not a list$"),
        (None, r"^\$ is of type NoneType, and not a list$"),
        ([1, 2, 3, float("nan")], r"^\$\[3\] is nan"),
        ([1, {"a": {2}}], r"^\$\[1\]\.a is of type set"),
    ],
    ids=repr,
)
async def test_what_no_map_can_go_over_is_refused(connection, keys, value, message):
    with pytest.raises(ValueRefused, match=message):
        await kept(connection, value, keys=keys)


async def test_an_element_over_the_cap_is_named(connection, keys):
    with pytest.raises(ValueTooLarge, match=r"^\$\[1\] takes 20,000 bytes or more"):
        await kept(connection, ["a", "x" * 20_000], cap=10_000, keys=keys)


async def handle(connection: Connection, stored: Stored, **options: Any) -> Blob[Any]:
    return (await blobs_on(connection, **options).load([], [stored.id])).handle(stored.id)


async def test_the_handle_of_a_list_that_sql_can_read_is_passed_on(connection):
    owner = await an_owner(connection)
    stored = await kept(connection, VALUES, owner)
    other = owner._replace(step_slug="other")
    assert await kept(connection, await handle(connection, stored), other) == Stored(stored.id)


@pytest.mark.parametrize("how", ["compressed", "as JSON", "of another run", "with keys"])
async def test_a_list_that_sql_cannot_read_is_kept_again(connection, how):
    owner, values = await an_owner(connection), [PAGE, *["small"] * 99]
    options = {"keys": KEYS} if how == "with keys" else {}
    blobs = blobs_on(connection, **options)
    by_element = how != "as JSON"
    if how == "of another run":
        stored = await kept(connection, values)
    else:
        stored = await blobs.encode(values, owner, by_element=by_element)
        await blobs.save(connection, [stored])
    other = owner._replace(step_slug="other")
    again = await kept(connection, await handle(connection, stored, **options), other, **options)
    assert again.id != stored.id
    loaded = await blobs.load([again.id])
    assert await loaded.get(again.id, Place.of(other)) == values


async def test_the_handle_of_what_is_no_list_is_refused(connection):
    owner = await an_owner(connection)
    blobs = blobs_on(connection)
    for value, kind in ((PAGE, "str"), (b"x" * 9000, "bytes"), ({"a": PAGE}, "dict")):
        stored = await blobs.encode(value, owner)
        await blobs.save(connection, [stored])
        with pytest.raises(ValueRefused, match=rf"^\$ is of type {kind}, and not a list$"):
            await kept(connection, await handle(connection, stored), owner)


async def test_a_list_that_is_an_element_is_not_kept_by_its_elements(connection):
    owner = await an_owner(connection)
    stored = await kept(connection, [PAGE, "x"], owner)
    blobs = blobs_on(connection)
    for value in ([PAGE, "x"], await handle(connection, stored)):
        element = await blobs.encode(value, owner, by_element=True, is_element=True)
        assert [row.kind for row in element.rows] == ["json"]


# Reading


async def of_tasks(
    connection: Connection, values: list[Any], lost: tuple[int, ...] = (), **options: Any
) -> tuple[Owner, UUID]:
    """A list of the outputs of a map's tasks, as SQL makes it; some tasks were lost."""
    blobs, owner = blobs_on(connection, **options), await an_owner(connection)
    frame, ids = [], []
    for index, value in enumerate(values):
        output = await blobs.encode(value, owner._replace(task_index=index), is_element=True)
        is_blob = isinstance(output, Stored) and index not in lost
        if is_blob:
            await blobs.save(connection, [output])
        frame.append(None if is_blob or index in lost else value)
        ids.append(output.id if is_blob else None)
    content, list_id = orjson.dumps(frame), new_blob_id(owner.run_id)
    await connection.execute(
        "insert into pgflow.output_blobs (id, run_id, step_slug, task_index, kind, codec, elements,"
        " content, raw_size, stored_size, sha256)"
        " values (%s, %s, %s, -1, 'list', 'none', %s, %s, %s, %s, %s)",
        [list_id, *owner[:2], ids, content, len(content), len(content), sha256(content).digest()],
    )
    return owner, list_id


SINCE = datetime(2020, 1, 1, tzinfo=UTC)
OUTPUTS = [PAGE, b"bytes", {"a": [PAGE]}, None, 7, "lost", [PAGE, "x"]]
READ = [*OUTPUTS[:5], None, OUTPUTS[6]]


async def test_a_list_of_tasks_outputs_is_read_whole_by_element_and_in_a_loop(connection, keys):
    owner, list_id = await of_tasks(connection, OUTPUTS, (5,), keys=keys)
    blobs = blobs_on(connection, keys=keys, sealed_only=SINCE if keys else None)
    loaded = await blobs.load([list_id], [list_id])
    assert await loaded.get(list_id, Place.of(owner)) == READ
    handle = loaded.handle(list_id, Place.of(owner))
    assert await handle.value() == READ
    assert [await handle.item(index) for index in range(len(READ))] == READ
    assert [element async for element in handle.items()] == READ
    for index in (-1, len(READ)):
        with pytest.raises(IndexError):
            await handle.item(index)


async def test_a_loop_reads_a_few_elements_ahead(connection, keys, monkeypatch):
    monkeypatch.setattr(list_reading, "MOST", 3)
    monkeypatch.setattr(list_reading, "MOST_BYTES", 3 * len(PAGE.encode()))
    values = [*(f"{n}{PAGE}" for n in range(5)), *range(7)]
    _, list_id = await of_tasks(connection, values, keys=keys)
    loads = []
    load = list_reading.ListReading._load

    async def noted(reading, start, stop):
        loads.append(stop - start)
        return await load(reading, start, stop)

    monkeypatch.setattr(list_reading.ListReading, "_load", noted)
    handle = (await blobs_on(connection, keys=keys).load([], [list_id])).handle(list_id)
    found = []
    async for element in handle.items():
        found.append(element)
        assert len(found) <= sum(loads) < len(found) + 3
    assert found == values
    assert await handle.value() == values
    assert loads == [2, 2, 3, 3, 2] * 2  # two pages have too many bytes for a third


async def test_tasks_share_out_the_elements_of_a_loop(connection, monkeypatch):
    monkeypatch.setattr(list_reading, "MOST", 2)
    _, list_id = await of_tasks(connection, values := [f"{n}{PAGE}" for n in range(9)])
    items, found = (await handle_of(connection, list_id)).items(), []

    async def take() -> None:
        found.extend([element async for element in items])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take)
        nursery.start_soon(take)
    assert sorted(found) == values


async def handle_of(connection: Connection, list_id: UUID, **options: Any) -> Blob[Any]:
    return (await blobs_on(connection, **options).load([], [list_id])).handle(list_id)


FORGET = """
update pgflow.output_blobs set content = null, data_key = null, forgotten_at = now() where id = %s
"""
DAMAGES = {
    "damaged": ("update pgflow.output_blobs set content = '\\x00' where id = %s", BlobDamaged),
    "missing": ("delete from pgflow.output_blobs where id = %s", BlobMissing),
    "forgotten": (FORGET, BlobForgotten),
}


@pytest.mark.parametrize(("statement", "error"), DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("kind", ["of tasks", "of a step"])
async def test_an_element_that_cannot_be_read_leaves_the_others(
    connection, keys, kind, statement, error
):
    values = ["a", PAGE, b"b", None]
    if kind == "of tasks":
        _, list_id = await of_tasks(connection, values, keys=keys)
    else:
        list_id = (await kept(connection, values, keys=keys)).id
    bad = (await in_sql(connection, list_id))[1][1]
    await connection.execute(statement, [bad])
    handle = await handle_of(connection, list_id, keys=keys)
    with pytest.raises(error):
        await handle.item(1)
    with pytest.raises(error):
        await handle.value()
    assert [await handle.item(index) for index in (0, 2, 3)] == ["a", b"b", None]
    items = handle.items()
    assert await anext(items) == "a"
    with pytest.raises(error):
        await anext(items)
    assert [element async for element in items] == [b"b", None]
    loaded = await blobs_on(connection, keys=keys).load([bad])
    with pytest.raises(error):
        await loaded.get(bad)


ATTACKS = {
    "two elements in each other's place": "elements = array[elements[2], elements[1], elements[3]]",
    "an element twice": "elements = array[elements[2], elements[2], elements[3]]",
    "of another step": "step_slug = 'other', elements = array[%(other)s, elements[2], elements[3]]",
    "as that of a step": "task_index = 0",
}


@pytest.mark.parametrize("how", ATTACKS)
async def test_with_keys_each_element_is_that_of_its_task(connection, how):
    owner, list_id = await of_tasks(connection, ["a", "b", "c"], keys=KEYS)
    blobs = blobs_on(connection, keys=KEYS)
    other = await blobs.encode("x", owner._replace(step_slug="other"))
    await blobs.save(connection, [other])
    await connection.execute(
        f"update pgflow.output_blobs set {ATTACKS[how]} where id = %(id)s",
        {"id": list_id, "other": other.id},
    )
    loaded = await blobs.load([list_id], [list_id])
    handle = loaded.handle(list_id, Place.of(owner))
    for call in (loaded.get(list_id, Place.of(owner)), handle.item(0), anext(handle.items())):
        with pytest.raises(BlobDamaged, match="another run, step, task or element"):
            await call


@pytest.mark.parametrize("kind", ["of tasks", "of a step"])
@pytest.mark.parametrize("element", [1, PAGE], ids=["inline", "blob"])
async def test_who_accepts_only_sealed_values_takes_no_element_that_is_not_sealed(
    connection, kind, element
):
    values = [element, *["x"] * 3000]
    if kind == "of tasks":
        _, list_id = await of_tasks(connection, values[:3])
    else:
        list_id = (await kept(connection, values)).id
    blobs = blobs_on(connection, keys=KEYS, sealed_only=SINCE)
    loaded = await blobs.load([list_id], [list_id])
    for call in (
        loaded.get(list_id),
        loaded.handle(list_id).item(0),
        anext(loaded.handle(list_id).items()),
    ):
        with pytest.raises(NotSealed):
            await call


async def test_an_element_of_a_map_is_known_by_its_index(connection):
    """The worker knows neither the id of the list, nor needs the list."""
    owner = await an_owner(connection)
    stored = await kept(connection, ["a", "b"], owner, keys=KEYS)
    _, ids = await in_sql(connection, stored.id)
    loaded = await blobs_on(connection, keys=KEYS).load(ids)
    assert await loaded.get(ids[1], Place.of(owner).element(ANY_LIST, 1)) == "b"
    with pytest.raises(BlobDamaged, match="another run, step, task or element"):
        await loaded.get(ids[1], Place.of(owner).element(ANY_LIST, 0))
