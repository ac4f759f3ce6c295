"""Each command that takes an id, given each kind of id."""

import re
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import trio
from click.testing import CliRunner, Result

from pgflow_events.cli import commands
from pgflow_events.core.flows import define_flow
from pgflow_events.flow.flow import Flow
from pgflow_events.postgres.connection import Connection

from ...parts.storing import blobs_on, complete, start, store

site = Flow("site", blob_threshold=1024)
LARGE = "large " * 2000


@site.step(site.input)
def page(run: object) -> str:
    return ""


@pytest.fixture
def ids(database: str) -> dict[str, Any]:
    """A run whose output is a blob and its blob, a run whose output is small, and one without."""

    async def made() -> dict[str, Any]:
        async with await Connection.connect(database) as connection:
            await define_flow(connection, site.definition())
            blobs = blobs_on(connection)
            blob = await store(connection, blobs, "site", LARGE)
            cursor = await connection.execute("select run_id from pgflow.runs")
            ((run,),) = await cursor.fetchall()
            await start(connection, blobs, "site", {})
            await complete(connection, blobs, "site", ["small"])
            cursor = await connection.execute(
                "select run_id from pgflow.runs where run_id <> %s", [run]
            )
            ((small,),) = await cursor.fetchall()
            waiting = await start(connection, blobs, "site", {})
            return {"run": run, "blob": blob, "small": small, "waiting": waiting}

    found = trio.run(made)
    return found | {"dsn": database}


def call(ids: dict[str, Any], *arguments: object) -> Result:
    return CliRunner().invoke(commands, [*map(str, arguments), "--dsn", ids["dsn"]])


COMMANDS = {
    "show": lambda some_id, folder: ["show", some_id],
    "blob cat": lambda some_id, folder: ["blob", "cat", some_id],
    "blob cat STEP": lambda some_id, folder: ["blob", "cat", some_id, "page"],
    "blob export": lambda some_id, folder: ["blob", "export", some_id, folder],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_an_id_of_another_kind_is_told_from_one_that_is_nowhere(ids, command, tmp_path):
    def refused(some_id: object) -> str:
        answer = call(ids, *COMMANDS[command](some_id, tmp_path / "folder"))
        assert (answer.exit_code, answer.stdout) == (1, "")
        assert answer.stderr.count("\n") == 1
        return answer.stderr

    absent = uuid4()
    blob, run = ids["blob"], ids["run"]
    if command == "blob cat":
        assert refused(absent) == f"error: there is no blob {absent}\n"
        assert refused(run) == (
            f"error: there is no blob {run}: that is a run, whose blobs are page {blob}\n"
        )
        assert "that is a run without blobs; `blob cat RUN STEP` prints" in refused(ids["waiting"])
    else:
        assert refused(absent) == f"error: there is no run {absent}\n"
        assert refused(blob) == (
            f"error: there is no run {blob}: that is a blob, of step page of run {run}\n"
        )
    assert not (tmp_path / "folder").exists()


@pytest.mark.parametrize(
    "garbage", ["", "x", "0199f3a4", "0199f3a4-7f5e", "é", "1" * 5000, "\x1b[31m", "../..", "None"]
)
@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_no_id_or_half_of_one_is_refused_in_one_line(command, garbage):
    if command == "show" and garbage.isidentifier() and garbage.isascii():
        pytest.skip("that may be the slug of a flow")
    answer = call({"dsn": ""}, *COMMANDS[command](garbage, "folder"))
    assert answer.exit_code == 2
    assert "is not an id: give a whole id, such as 0199f3a4-" in answer.stderr
    assert "\x1b" not in answer.stderr
    assert answer.stderr.splitlines()[-1].startswith("Error: ")


def test_the_newest_run_of_a_flow_is_shown_by_the_slug(ids):
    assert f"run {ids['waiting']} of site: queued" in call(ids, "show", "site").stdout
    answer = call(ids, "show", "nowhere")
    assert answer.stderr == (
        'error: unknown flow "nowhere": no worker has defined it; flows here: site\n'
    )
    with psycopg.connect(ids["dsn"], autocommit=True) as connection:
        connection.execute("select pgflow.create_flow('idle')")
    answer = call(ids, "show", "idle")
    assert (answer.exit_code, answer.stdout) == (1, "")
    said = "error: flow idle has no run yet: start one with `pgflow-events start idle`\n"
    assert answer.stderr == said


def test_the_output_of_a_step_is_written_small_or_large(ids):
    assert call(ids, "blob", "cat", ids["run"], "page").stdout == LARGE
    assert call(ids, "blob", "cat", ids["small"], "page").stdout == '["small"]'
    assert call(ids, "blob", "cat", ids["blob"]).stdout == LARGE
    assert call(ids, "blob", "cat", ids["small"], "run").exit_code == 0


def test_a_step_without_an_output_is_refused_and_those_that_have_one_are_named(ids, tmp_path):
    for run, step in ((ids["run"], "nope"), (ids["waiting"], "page")):
        answer = call(ids, "blob", "cat", run, step, "--output", tmp_path / "file")
        assert (answer.exit_code, answer.stdout) == (1, "")
        assert f"has no output of a step '{step}'; it has outputs of run" in answer.stderr
    assert list(Path(tmp_path).iterdir()) == []


def test_no_example_takes_the_id_of_a_run_for_that_of_a_blob():
    docs = (Path(__file__).parents[3] / "docs" / "guide" / "cli.md").read_text()
    shown = docs + "".join(get_help(command) for command in ("blob", "show"))
    runs = set(re.findall(r"(?:show|export) ([0-9a-f-]{36})", shown))
    blobs = set(re.findall(r"cat ([0-9a-f-]{36}) [|>]", shown + get_help("blob", "cat")))
    assert runs
    assert blobs
    assert not runs & blobs


def get_help(*command: str) -> str:
    return CliRunner().invoke(commands, [*command, "--help"]).stdout
