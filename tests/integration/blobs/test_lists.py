"""Lists that maps go over, in real tables: SQL counts their elements, and reads the inline ones."""

from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Any
from uuid import UUID

import orjson
import pytest

from blobstore import Blob, Inline, Owner, Place, Stored, ValueRefused, ValueTooLarge
from blobstore.keys import KeyRing
from blobstore.postgres.ids import new_id
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
