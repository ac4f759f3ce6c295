"""The command that cancels runs, and how cancelled runs are shown."""

import json
from collections.abc import Callable, Iterator
from uuid import UUID, uuid4

import psycopg
import pytest
from click.testing import CliRunner, Result

from pgflow_events.cli import commands

Call = Callable[..., Result]

FLOW = """
select pgflow.create_flow('crawl');
select pgflow.add_step('crawl', 'links');
select pgflow.create_flow('other');
select pgflow.add_step('other', 'links')
"""


@pytest.fixture
def db(database: str) -> Iterator["psycopg.Connection[tuple[UUID, ...]]"]:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(FLOW)
        yield connection


@pytest.fixture
def call(database: str) -> Call:
    def call(*arguments: object) -> Result:
        return CliRunner().invoke(commands, [*map(str, arguments), "--dsn", database])

    return call


def start(
    db: "psycopg.Connection[tuple[UUID, ...]]", count: int = 1, flow: str = "crawl"
) -> list[UUID]:
    query = "select run_id from pgflow.start_flows(%s, array_fill('1'::jsonb, array[%s]))"
    return [run_id for (run_id,) in db.execute(query, [flow, count]).fetchall()]


def test_runs_are_cancelled_by_their_ids_and_the_numbers_are_told(db, call):
    one, two = start(db, 2)
    answer = call("cancel", one, "--reason", "wrong\naddress")
    assert (answer.exit_code, answer.stdout) == (0, "cancelled 1 run\n"), answer.stderr
    answer = call("cancel", one, two, one)
    assert answer.stdout == "cancelled 1 run; 1 run had ended before\n"
    answer = call("cancel", one, two, "--json")
    assert json.loads(answer.stdout) == {
        "cancelled": [],
        "ended": [str(one), str(two)],
        "unknown": [],
    }
    shown = call("show", one)
    assert f"run {one} of crawl: cancelled in " in shown.stdout
    assert "wrong" in shown.stdout.splitlines()[0]
    assert "links cancelled" in shown.stdout
    listed = json.loads(call("runs", "--status", "cancelled", "--json").stdout)
    assert {row["run_id"] for row in listed} == {str(one), str(two)}
    assert {row["cancel_reason"] for row in listed} == {"wrong\naddress", None}
    assert all(row["ended_at"] for row in listed)


def test_of_an_unknown_id_the_others_are_cancelled_and_the_command_fails(db, call):
    (one,), nobody = start(db), uuid4()
    answer = call("cancel", nobody, one)
    assert answer.exit_code == 1
    assert answer.stdout == "cancelled 1 run\n"
    assert answer.stderr == f"error: no run has the id {nobody}\n"


def test_the_old_runs_of_a_flow_are_cancelled(db, call):
    old, other = start(db, 700), start(db, flow="other")
    db.execute("update pgflow.runs set started_at = started_at - interval '2 hours'")
    young = start(db)
    answer = call("cancel", "--flow", "crawl", "--older-than", "1h")
    assert answer.stdout == "cancelled 700 runs\n", answer.stderr
    left = db.execute("select run_id from pgflow.runs where status = 'started'").fetchall()
    assert {run_id for (run_id,) in left} == {*young, *other}
    assert call("cancel", "--flow", "crawl").stdout == "cancelled 1 run\n"
    assert call("cancel", "--flow", "crawl").stdout == "cancelled 0 runs\n"
    assert len(old) == 700


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give the ids of runs, or --flow"),
        ([uuid4(), "--flow", "crawl"], "give the ids of runs, or --flow"),
        ([uuid4(), "--older-than", "1h"], "--older-than needs --flow"),
        (["--flow", "nowhere"], 'unknown flow "nowhere"'),
        (["0199"], "give a whole id"),
    ],
)
def test_a_call_that_cannot_be_meant_cancels_nothing(db, call, arguments, said):
    start(db)
    answer = call("cancel", *arguments)
    assert answer.exit_code != 0
    assert said in answer.stderr
    assert db.execute("select from pgflow.runs where status <> 'started'").fetchall() == []
