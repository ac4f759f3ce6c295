"""Clients that start runs of maps, and read what they give."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import pytest

from blobstore import Blob
from blobstore.keys import KeyRing
from pgflow_events import BlobDamaged, Client, Flow, NotAList, PgflowError, RunFailed, Settings
from pgflow_events import connect as connecting
from pgflow_events.core.flows import define_flow
from pgflow_events.postgres.connection import Connection

KEYS = KeyRing({"key": sha256(b"key").digest()})
SINCE = datetime(2020, 1, 1, tzinfo=UTC)
PAGE = "<p>Ärger im Büro</p>" * 1000


@pytest.fixture(params=[False, True], ids=["in clear", "sealed"])
def settings(request: pytest.FixtureRequest) -> Settings:
    return Settings(keys=KEYS, sealed_only=SINCE) if request.param else Settings()


@pytest.fixture
async def client(database: str, settings: Settings) -> AsyncIterator[Client]:
    async with connecting(database, settings=settings) as opened:
        yield opened


def each(slug: str = "flow", **options: Any) -> Flow[list[Any]]:
    """A flow of a map over its input."""
    flow: Flow[list[Any]] = Flow(slug, max_attempts=1)
    flow.step(flow.input.each, slug="page", **options)(lambda value: value)
    return flow


async def query(database: str, statement: str, *given: object) -> list[Any]:
    async with await Connection.connect(database) as connection:
        cursor = await connection.execute(statement.encode(), given)
        return await cursor.fetchall() if cursor.description else []


LISTS: dict[str, list[Any]] = {
    "empty": [],
    "small": ["a", None, 1],
    "large": [PAGE, b"bytes", None, {"a": [PAGE]}, "small"],
    "long": [f"https://example.org/{n}" for n in range(1500)],
}


@pytest.mark.parametrize("by", ["flow", "slug"])
@pytest.mark.parametrize("values", LISTS.values(), ids=LISTS)
async def test_a_map_goes_over_the_input(work, settings, client, values, by):
    flow = each()
    await work(flow, settings=settings)
    run = await client.start(flow if by == "flow" else "flow", values)
    assert repr(await run.result()) == repr({"page": values})
    page = flow.steps["page"]
    assert repr(await run.output(page)) == repr(values)
    handle = await run.output(page.blob)
    assert repr([element async for element in handle.items()]) == repr(values)
    if values:
        assert repr(await handle.item(len(values) - 1)) == repr(values[-1])


@pytest.mark.parametrize("by", ["flow", "slug"])
@pytest.mark.parametrize(
    "value", [{"a": 1}, "text", PAGE, b"bytes", None], ids=lambda v: repr(v)[:9]
)
async def test_an_input_that_is_no_list_is_refused_before_anything_is_stored(
    database, settings, client, value, by
):
    flow = each()
    async with await Connection.connect(database) as connection:
        await define_flow(connection, flow.definition())
    said = "the input of 'flow' must be a list, because a map goes over it"
    with pytest.raises(NotAList, match=said):
        await client.start_many(flow if by == "flow" else "flow", [[1], value])
    assert await query(database, "select from pgflow.runs") == []
    assert await query(database, "select from pgflow.output_blobs") == []


async def test_the_handle_of_a_maps_output_can_be_the_input_of_another_run(work, settings, client):
    first, second = each("one"), each("two")
    await work(first, second, settings=settings)
    pages = await (await client.start(first, [PAGE, 1])).output(first.steps["page"].blob)
    assert isinstance(pages, Blob)
    assert await (await client.start(second, pages)).result() == {"page": [PAGE, 1]}


async def test_a_damaged_element_fails_its_own_task(database, work, settings, client):
    flow = each(lost="none")
    async with await Connection.connect(database) as connection:
        await define_flow(connection, flow.definition())
    values = [f"{n}{PAGE}" for n in range(4)]
    run = await client.start(flow, values)
    await query(
        database,
        "update pgflow.output_blobs set content = '\\x00' where id ="
        " (select elements[2] from pgflow.output_blobs where kind = 'list')",
    )
    await work(flow, settings=settings)
    assert await run.result() == {"page": [values[0], None, *values[2:]]}
    ((error,),) = await query(
        database, "select error_message from pgflow.step_tasks where status = 'failed'"
    )
    assert error.startswith(BlobDamaged.__name__)


async def test_a_list_of_nothing_but_lost_elements_may_be_read_by_who_takes_sealed_ones_only(
    work, settings, client
):
    flow = Flow("flow", max_attempts=1)

    @flow.step(flow.input.each, lost="none")
    async def page(_: Any) -> str:
        raise ValueError

    @flow.step(page.each)
    async def again(text: Any) -> bool:
        return text is None

    flow.step(page, slug="whole")(repr)
    flow.step(page.each, slug="last", lost="none")(lambda _: {}["missing"])
    await work(flow, settings=settings)
    run = await client.start(flow, ["a", "b"])
    assert await run.result() == {
        "again": [True, True], "whole": "[None, None]", "last": [None, None],
    }  # fmt: skip
    assert await run.output(page) == [None, None]
    assert await (await run.output(page.blob)).item(1) is None


async def test_the_failure_of_a_map_names_the_element(work, settings, client):
    flow: Flow[list[int]] = Flow("flow", max_attempts=1)

    @flow.step(flow.input.each)
    async def page(number: int) -> int:
        if number == 7:
            raise ValueError("seven")
        return number

    await work(flow, settings=settings)
    run = await client.start(flow, [1, 2, 7])
    with pytest.raises(RunFailed) as raised:
        await run.result()
    assert raised.value.errors["page"].startswith("element 2: ValueError")


@pytest.mark.parametrize("by", ["flow", "slug"])
@pytest.mark.parametrize("size", ["small", "large"])
async def test_a_condition_looks_into_the_input(work, settings, client, by, size):
    flow: Flow[Any] = Flow("flow")
    english = flow.step(run_if=flow.input.contains({"lang": "en"}), slug="english")(lambda: 1)
    flow.step(run_if=flow.input.contains({"lang": "de"}), slug="german")(lambda: 2)
    below = flow.step(
        english.or_none, slug="below", run_unless=flow.input.contains({"lang": "en"})
    )(lambda _: 3)
    await work(flow, settings=settings)
    value = {"lang": "en", "text": PAGE if size == "large" else ""}
    run = await client.start(flow if by == "flow" else "flow", value)
    result = await run.result()
    assert "german" not in result
    assert await run.output(english) == 1
    assert await run.output(below) is None


async def test_a_step_that_was_left_out_has_no_output(work, settings, client):
    flow: Flow[Any] = Flow("flow")
    first = flow.step(slug="first", run_if=flow.input.contains({"a": 1}), unmet="skip-cascade")(
        lambda: 1
    )
    last = flow.step(first.or_none, slug="last")(lambda _: 2)
    await work(flow, settings=settings)
    run = await client.start(flow, {"a": 2})
    assert await run.result() == {}
    assert await run.output(first) is None
    with pytest.raises(PgflowError, match="skipped step 'last'"):
        await run.output(last)
