"""A run whose every text is hostile goes through each command and format; no terminal obeys it."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import trio
from psycopg.conninfo import make_conninfo

from pgflow_events.core.flows import define_flow
from pgflow_events.flow.flow import Flow
from pgflow_events.postgres.connection import Connection

from ..e2e.conftest import environment
from ..e2e.terminal import Shown, at_terminal
from ..parts.attacks.hostile import ALL, HOSTILE, offences
from ..parts.storing import blobs_on, complete, start

__all__ = ["environment"]

LONG = ALL * 200  # a blob
VALUE = {ALL: [ALL, {ALL: ALL}]}

hostile = Flow("hostile", blob_threshold=8192)


@hostile.step(hostile.input)
def page(run: object) -> object:
    return run


async def fill(dsn: str) -> dict[str, str]:
    """Runs with hostile inputs, outputs, errors, workers, media types, steps and keys."""
    async with await Connection.connect(dsn) as connection:
        await define_flow(connection, hostile.definition())
        blobs = blobs_on(connection)
        small = await start(connection, blobs, "hostile", VALUE)
        await complete(connection, blobs, "hostile", VALUE)
        large = await start(connection, blobs, "hostile", [LONG])
        await complete(connection, blobs, "hostile", LONG, media_type=f"text/html;{ALL}")
        failed = await start(connection, blobs, "hostile", ALL)
        execute = connection.execute
        await execute(
            "update pgflow.step_tasks set status = 'failed', failed_at = now(), error_message = %s"
            " where run_id = %s",
            [ALL, failed],
        )
        await execute(
            "update pgflow.runs set status = 'failed', failed_at = now() where run_id = %s",
            [failed],
        )
        await execute(
            "update pgflow.output_blobs set step_slug = %s where run_id <> %s", [ALL, large]
        )
        cursor = await execute(
            "select output_blob_id from pgflow.step_tasks where run_id = %s", [large]
        )
        ((blob,),) = await cursor.fetchall()
        return {"small": str(small), "large": str(large), "failed": str(failed), "blob": str(blob)}


@pytest.fixture
def ids(database: str) -> dict[str, str]:
    """Of the runs and the blob."""
    return trio.run(fill, database)


def commands(ids: dict[str, str], folder: str) -> Iterator[list[str]]:
    """Each command that shows what is stored, and some with hostile words of the caller's."""
    for run in ("small", "large", "failed"):
        yield ["show", ids[run]]
        yield ["show", ids[run], "--values"]
        yield ["blob", "cat", ids[run], "page"]
        yield ["blob", "cat", ids[run], "run"]
        yield ["blob", "cat", ids[run], ALL]
        yield ["blob", "export", ids[run], f"{folder}/{run}"]
    yield ["blob", "cat", ids["blob"]]
    for name in ("runs", "doctor", "blob stat", "blob check", "blob check --deep"):
        yield name.split()
    yield ["prune", "--older-than", "1h", "--dry-run"]
    yield ["start", "hostile", json.dumps(VALUE)]
    yield ["start", ALL.replace("\0", ""), "--patience", "0"]
    yield ["show", ALL]
    yield ["show", ids["small"], "--dsn", f"{ALL}=1"]
    yield ["worker", f"{ALL}.py"]
    yield ["systemd-unit", ALL, "--user", "--no-check"]
    yield ["blob", "train", ALL, ALL]
    yield ["blob", "key", ALL]
    yield ["blob", "cat", ids["blob"], "--keys", f"/nowhere/{HOSTILE['escape']}"]
    yield ["blob", "sweep", "--objects", f"file:///nowhere/{ALL}"]


JSON = ("show", "runs", "doctor", "prune")
BLOB_JSON = (["blob", "stat"], ["blob", "check"])


@pytest.mark.slow_fault
@pytest.mark.timeout(240)
def test_no_command_lets_a_terminal_obey_what_is_stored(ids, environment, tmp_path):
    name = make_conninfo(environment["PGFLOW_DSN"], application_name=ALL.replace("\0", ""))
    environment |= {"PGFLOW_DSN": name, "NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "300"}
    called = [*commands(ids, str(tmp_path))]
    called += [[*each, "--json"] for each in called if each[0] in JSON or each[:2] in BLOB_JSON]
    with ThreadPoolExecutor(2) as threads:
        shown = threads.map(partial(at_terminal, environment=environment), called)
    found = {}
    for arguments, each in zip(called, shown, strict=True):
        faults = offences(each.output + each.errors, keep="\n\t")
        if faults or "Traceback" in each.errors:
            found[" ".join(arguments)[:60]] = faults[:5]
        if arguments[-1] == "--json" and each.code == 0:
            json.loads(each.output)
    assert not found


def test_json_at_a_terminal_is_what_was_stored(ids, environment):
    def told(*arguments: str) -> object:
        shown: Shown = at_terminal([*arguments, "--json"], environment)
        assert not offences(shown.output)
        return json.loads(shown.output)

    run = told("show", ids["small"], "--values")
    assert (run["input"], run["steps"][0]["output"]) == (VALUE, VALUE)
    assert told("show", ids["failed"])["steps"][0]["error"] == ALL
