"""Commands that name or read the values of a run, on runs with maps: none prints each task."""

import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import psycopg
import pytest
import trio
from click.testing import CliRunner, Result
from psycopg.types.json import Jsonb

from pgflow_events import Flow, KeyRing, Settings, Worker, connect
from pgflow_events.cli import commands

FLOW = """
select pgflow.create_flow('crawl', 1, 0);
select pgflow.add_step('crawl', 'links');
select pgflow.add_step('crawl', 'page', '{links}', step_type => 'map', tolerate => 1);
update pgflow.steps set opt_keep_output = 3600 where step_slug = 'page'
"""
SMALL, LARGE = "a", "x" * 10_000


@pytest.fixture
def crawl(database: str) -> Iterator["Crawl"]:
    with psycopg.connect(database, autocommit=True) as connection:
        for statement in FLOW.split(";"):
            connection.execute(statement.encode())
        yield Crawl(database, connection)


class Crawl:
    """Makes runs whose maps gave these outputs, and calls commands."""

    def __init__(self, dsn: str, connection: "psycopg.Connection[Any]") -> None:
        self.dsn, self.connection = dsn, connection

    def ask(self, query: str, *given: object) -> list[Any]:
        return self.connection.execute(query.encode(), given).fetchall()

    def run(self, outputs: list[object], *, lost: int = -1) -> UUID:
        ((run_id,),) = self.ask("select run_id from pgflow.start_flow('crawl', '1')")
        self._complete(run_id, "links", 0, list(range(len(outputs))))
        for index, value in enumerate(outputs):
            if index == lost:
                self._poll()
                self.ask("select pgflow.fail_task(%s, 'page', %s, 'no page')", run_id, index)
            else:
                self._complete(run_id, "page", index, value)
        return run_id

    def _poll(self) -> None:
        self.ask("select from pgflow.poll_for_tasks('crawl', 0, 10000, 0)")

    def _complete(self, run_id: UUID, step: str, index: int, value: object) -> None:
        self._poll()
        query = "select from pgflow.complete_task(%s, %s, %s, %s)"
        self.ask(query, run_id, step, index, Jsonb(value))

    def call(self, *arguments: object) -> Result:
        return CliRunner().invoke(commands, [*map(str, arguments), "--dsn", self.dsn])


def test_the_output_of_a_map_is_written_as_a_list_small_or_large(crawl):
    for values in ([SMALL, None, {"a": 1}], [SMALL, LARGE, None, LARGE], []):
        run_id = crawl.run(values)
        answer = crawl.call("blob", "cat", run_id, "page")
        assert (answer.exit_code, json.loads(answer.stdout)) == (0, values), answer.stderr


def test_each_element_is_exported_with_its_place(crawl, tmp_path):
    values = [LARGE if n % 3 else n for n in range(11)]
    run_id = crawl.run(values, lost=7)
    answer = crawl.call("blob", "export", run_id, tmp_path / "run", "--json")
    assert answer.exit_code == 0, answer.stderr
    names = sorted(path.name for path in (tmp_path / "run").iterdir())
    assert "page.07.json" not in names
    assert names[:4] == ["links.json", "manifest.json", "page.00.json", "page.01.json"]
    assert json.loads((tmp_path / "run" / "page.10.json").read_text()) == LARGE
    told = [v for v in json.loads(answer.stdout)["values"] if v["step_slug"] == "page"]
    assert [value["task_index"] for value in told] == [n for n in range(11) if n != 7]


def test_of_the_blobs_of_a_run_some_are_named_and_not_each_of_a_map(crawl):
    run_id = crawl.run([LARGE] * 30)
    answer = crawl.call("blob", "cat", run_id)
    ((list_id,),) = crawl.ask("select id from pgflow.output_blobs where kind = 'list'")
    assert answer.stderr == (
        f"error: there is no blob {run_id}: that is a run, whose blobs are page {list_id}\n"
    )


def test_show_draws_a_map_in_one_line(crawl):
    run_id = crawl.run([LARGE] * 30, lost=3)
    answer = crawl.call("show", run_id)
    assert answer.exit_code == 0, answer.stderr
    lines = answer.stdout.splitlines()
    assert [line.split()[1] for line in lines if line[0] in "├└"] == ["links", "page"]
    assert "page (for each of links) completed in " in answer.stdout
    assert ": 29 of 30 done, 1 lost\n" in answer.stdout
    assert "└── element 3: no page" in answer.stdout
    page = json.loads(crawl.call("show", run_id, "--json").stdout)["steps"][1]
    assert (page["tasks"]["done"], page["tasks"]["lost"], page["error_index"]) == (29, 1, 3)


def test_the_blobs_of_a_map_are_without_fault(crawl):
    crawl.run([LARGE, SMALL, LARGE], lost=1)
    answer = crawl.call("blob", "check")
    assert answer.exit_code == 0, answer.output


def test_the_list_of_a_map_is_kept_as_long_as_its_elements(crawl):
    crawl.run([LARGE, SMALL, LARGE])
    kinds = crawl.ask(
        "select kind from pgflow.output_blobs where expires_at is not null order by 1"
    )
    assert kinds == [("json",), ("json",), ("list",)]


def test_a_run_with_a_task_that_start_tasks_took_is_not_stuck(crawl):
    crawl.ask("select run_id from pgflow.start_flow('crawl', '1')")
    crawl.connection.execute("update pgflow.step_tasks set status = 'started', started_at = now()")
    assert "cannot go on" not in crawl.call("doctor").output


@pytest.mark.parametrize("values", [["a", "b"], [LARGE, "b", LARGE]], ids=["small", "large"])
def test_with_keys_the_output_of_a_map_is_read_by_its_elements(database, tmp_path, values):
    (tmp_path / "keys").write_text(KeyRing.new_line("one"))
    (tmp_path / "keys").chmod(0o600)
    flow = Flow("sealed", input=list[str])

    @flow.step(flow.input)
    async def links(given: list[str]) -> list[str]:
        return given

    flow.step(links.each, slug="page")(lambda value: value)

    async def made() -> UUID:
        keys = KeyRing.from_file(tmp_path / "keys")
        settings = Settings(keys=keys)
        async with trio.open_nursery() as nursery, connect(database, settings=settings) as client:
            await nursery.start(Worker([flow], database, settings=settings).run)
            run = await client.start(flow, values)
            await run.wait()
            nursery.cancel_scope.cancel()
        return run.id

    run_id = trio.run(made)
    options = ["--keys", str(tmp_path / "keys"), "--dsn", database]
    answer = CliRunner().invoke(commands, ["blob", "cat", str(run_id), "page", *options])
    assert (answer.exit_code, json.loads(answer.stdout)) == (0, values), answer.stderr
    folder = tmp_path / "run"
    answer = CliRunner().invoke(commands, ["blob", "export", str(run_id), str(folder), *options])
    assert answer.exit_code == 0, answer.stderr
    assert [(folder / f"page.{n}.txt").read_text() for n in range(len(values))] == values

    old = (tmp_path / "keys").read_text()
    (tmp_path / "keys").write_text(f"{KeyRing.new_line('two')}\n{old}")
    for command in (["rotate"], ["check", "--deep"], ["cat", str(run_id), "page"]):
        answer = CliRunner().invoke(commands, ["blob", *command, *options])
        assert answer.exit_code == 0, answer.output
    assert json.loads(answer.stdout) == values
