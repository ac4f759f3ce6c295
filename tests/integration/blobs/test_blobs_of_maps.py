"""The blobs of maps are checked, rotated, shown, exported and forgotten like others."""

import json
from base64 import b64encode
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pytest
import trio
from click.testing import CliRunner, Result

from blobstore import Blob, BlobForgotten
from blobstore.keys import KeyRing
from pgflow_events import Flow, NotSealed, RunFailed, Settings, connect
from pgflow_events.cli import commands
from pgflow_events.postgres.connection import Connection

SECRETS = {name: sha256(name.encode()).digest() for name in ("old", "new")}
OLD, NEW = KeyRing({"old": SECRETS["old"]}), KeyRing({"new": SECRETS["new"]})
SINCE = datetime(2020, 1, 1, tzinfo=UTC)
PAGE = "<p>Ärger im Büro</p>" * 1000
VALUES = [PAGE, b"bytes", {"a": [PAGE]}, "lost", None, "small", PAGE]
READ = [None if value == "lost" else value for value in VALUES]


def key_file(*names: str) -> str:
    """A file with these keys; the first one seals."""
    return "".join(f"{name}:{b64encode(SECRETS[name]).decode()}\n" for name in names)


Answer = Callable[..., Awaitable[Result]]


@pytest.fixture(params=[None, OLD], ids=["in clear", "sealed"])
def settings(request: pytest.FixtureRequest) -> Settings:
    return Settings(keys=request.param, sealed_only=SINCE if request.param else None)


def crawl(**options: Any) -> Flow[Any]:
    """A flow of a map that loses one element, and a map over it."""
    flow: Flow[Any] = Flow("crawl", max_attempts=1, **options)

    @flow.step(flow.input.each, lost="none")
    async def page(value: Any) -> Any:
        if value == "lost":
            raise ValueError
        return value

    flow.step(page.each, slug="again")(lambda value: value)
    return flow


async def ended(database: str, work: Any, flow: Flow[Any], settings: Settings) -> UUID:
    """A run that has ended."""
    await work(flow, settings=settings)
    async with connect(database, settings=settings) as client:
        run = await client.start(flow, VALUES)
        assert await run.result() == {"again": READ}
        return run.id


@pytest.fixture
def call(database: str, settings: Settings, tmp_path: Path) -> Answer:
    """Calls a command with the keys that it needs."""
    (tmp_path / "keys").write_text(key_file("old", "new"))
    (tmp_path / "keys").chmod(0o600)

    async def answer(*arguments: object, keyed: bool = True) -> Result:
        keys = ["--keys", str(tmp_path / "keys")] if keyed and settings.keys else []
        whole = [*map(str, arguments), *keys, "--dsn", database]
        return await trio.to_thread.run_sync(CliRunner().invoke, commands, whole)

    return answer


async def rows(database: str, statement: str, *given: object) -> list[Any]:
    async with await Connection.connect(database) as connection:
        cursor = await connection.execute(statement.encode(), given)
        return await cursor.fetchall() if cursor.description else []


async def test_the_blobs_of_maps_are_whole(database, work, settings, call):
    await ended(database, work, crawl(), settings)
    answer = await call("blob", "check", "--deep", "--json")
    checked = json.loads(answer.stdout)
    assert (answer.exit_code, checked["faults"], checked["not_checked"]) == (0, [], {})
    assert checked["verified"] == checked["blobs"] > 5
    answer = await call("blob", "stat", "--json", keyed=False)
    assert {step["step_slug"] for step in json.loads(answer.stdout)} == {"run", "page", "again"}


async def test_a_list_of_a_map_is_printed_by_its_step_and_by_its_id(
    database, work, settings, call, tmp_path
):
    run_id = await ended(database, work, crawl(), settings)
    refused = await call("blob", "cat", run_id, "again")
    assert "element 1 of the list is bytes" in refused.stderr
    exported = await call("blob", "export", run_id, tmp_path / "run", "--json")
    assert exported.exit_code == 0, exported.stderr
    files = {path.stem: path for path in (tmp_path / "run").iterdir()}
    assert files["again.0"].read_text() == PAGE
    assert files["again.1"].read_bytes() == b"bytes"
    assert orjson.loads(files["page.2"].read_bytes()) == VALUES[2]
    assert "page.3" not in files
    assert orjson.loads(files["again.3"].read_bytes()) is None


async def test_lists_of_maps_are_printed_as_json(database, work, settings, call):
    flow: Flow[Any] = Flow("texts")
    flow.step(flow.input.each, slug="page")(lambda value: value)
    await work(flow, settings=settings)
    values = [PAGE, {"a": PAGE}, "small", None]
    async with connect(database, settings=settings) as client:
        run = await client.start(flow, values)
        await run.wait()
    ids = await rows(database, "select id from pgflow.output_blobs where kind = 'list'")
    asked = [[run.id, "page"], [run.id, "run"], *([some_id] for (some_id,) in ids)]
    for arguments in asked:
        answer = await call("blob", "cat", *arguments)
        assert (answer.exit_code, json.loads(answer.stdout)) == (0, values), answer.stderr
    assert len(ids) == 2


async def test_the_output_of_an_empty_map_is_printed_where_only_sealed_values_are(
    database, work, settings, call
):
    await work(flow := crawl(), settings=settings)
    async with connect(database, settings=settings) as client:
        run = await client.start(flow, [])
        await run.wait()
    since = ["--sealed-only", "2020-01-01"] if settings.keys else []
    answer = await call("blob", "cat", run.id, "again", *since)
    assert (answer.exit_code, answer.stdout) == (0, "[]"), answer.stderr


@pytest.mark.parametrize("settings", [Settings(keys=OLD, sealed_only=SINCE)], ids=["sealed"])
async def test_the_elements_of_maps_are_moved_to_a_new_key(
    database, work, settings, call, tmp_path
):
    run_id = await ended(database, work, crawl(), settings)
    (tmp_path / "keys").write_text(key_file("new", "old"))
    answer = await call("blob", "rotate")
    assert answer.exit_code == 0, answer.output
    async with connect(database, keys=NEW, sealed_only=SINCE) as client:
        run = await client.find(run_id)
        assert await run.result() == {"again": READ}
    assert (await call("blob", "check", "--deep")).exit_code == 0


async def forget(database: str) -> None:
    await rows(
        database,
        "update pgflow.output_blobs set expires_at = expires_at - '1 day'::interval"
        " where expires_at < now() + '1 day'::interval",
    )
    await rows(database, "select pgflow.forget_blobs(100)")


async def test_what_is_forgotten_of_a_map_is_not_read(database, work, settings, call):
    run_id = await ended(database, work, crawl(keep_output=60), settings)
    await forget(database)
    ((kept,),) = await rows(
        database, "select count(*) from pgflow.output_blobs where forgotten_at is null"
    )
    assert kept == 0
    async with connect(database, settings=settings) as client:
        run = await client.find(run_id)
        with pytest.raises(BlobForgotten):
            await run.result()
    answer = await call("blob", "check")
    assert answer.exit_code == 0, answer.output


async def test_an_element_that_another_step_has_passed_on_is_kept_as_long_as_that_asks(
    database, work
):
    flow: Flow[Any] = Flow("flow")
    page = flow.step(flow.input.each, slug="page", keep_output=60)(lambda value: value)

    @flow.step(page.each.blob)
    async def same(element: Blob[Any]) -> Any:
        return element

    await work(flow)
    async with connect(database) as client:
        run = await client.start(flow, [PAGE, PAGE + "!"])
        await run.wait()
        await forget(database)
        assert await run.output(same) == [PAGE, PAGE + "!"]
        with pytest.raises(BlobForgotten):
            await run.output(page)


FORGED = """
with forged as (
  insert into pgflow.output_blobs (
    id, run_id, step_slug, kind, codec, elements, content, raw_size, stored_size, sha256, task_index
  )
  select
    pgflow.new_blob_id(run_id), run_id, step_slug, 'list', 'none', '{}', '[]', 2, 2, sha256('[]'),
    %s
  from pgflow.step_tasks where step_slug = 'page'
  returning id
)
update pgflow.step_tasks set output_blob_id = id from forged where step_slug = 'page' returning id
"""


@pytest.mark.parametrize("index", [0, -1])
async def test_only_what_is_of_a_map_may_be_a_list_that_is_not_sealed(database, work, index):
    settings, flow = Settings(keys=OLD, sealed_only=SINCE), Flow("flow", max_attempts=1)
    page = flow.step(slug="page")(lambda: PAGE)

    @flow.step(page.blob)
    async def forge(_: object) -> None:
        await rows(database, FORGED, index)

    flow.step(page, forge, slug="value")(lambda value, _: value)
    await work(flow, settings=settings)
    async with connect(database, settings=settings) as client:
        run = await client.start(flow, None)
        with pytest.raises(RunFailed) as raised:
            await run.result()
        assert raised.value.errors["value"].startswith("NotSealed")
        for node in (page, page.blob):
            with pytest.raises(NotSealed):
                await run.output(node)
