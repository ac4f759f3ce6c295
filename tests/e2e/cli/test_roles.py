"""The command line with the least rights that each command needs."""

import json
from collections.abc import Callable, Iterator

import pytest

from ...parts.servers.logins import (
    execute,
    guarded_database,
    login,
    owned_database,
    server_with_logins,
)
from ...parts.servers.own_server import OwnServer
from ..conftest import FLOWS, Cli, Worker, end

As = Callable[[str], None]


@pytest.fixture(scope="module")
def guarded_server() -> Iterator[OwnServer]:
    with server_with_logins() as server:
        yield server


@pytest.fixture(scope="module")
def database(guarded_server: OwnServer) -> Iterator[str]:
    """A database of olga's, migrated with roles."""
    with guarded_database(guarded_server) as dsn:
        yield dsn


@pytest.fixture
def become(database: str, environment: dict[str, str]) -> As:
    """Whose login the next commands use."""

    def become(user: str) -> None:
        environment["PGFLOW_DSN"] = login(database, user)

    return become


def test_roles_are_made_when_asked_for_and_kept_up_to_date(cli, guarded_server, environment):
    with owned_database(guarded_server) as bare:
        environment["PGFLOW_DSN"] = bare
        first = cli("migrate", "--roles").stdout.splitlines()
        assert first[-2:] == [
            "the roles pgflow_worker, pgflow_client and pgflow_observer are up to date",
            "the database is at this release",
        ]
        execute(bare, "grant delete on pgflow.runs to pgflow_client")
        assert json.loads(cli("migrate", "--json").stdout) == {"applied": []}
        may = "select has_table_privilege('pgflow_client', 'pgflow.runs', 'delete') as may"
        assert execute(bare, may) == [(False,)]


def test_a_run_goes_from_a_client_by_a_worker_to_an_observer(
    cli: Cli, worker: Worker, become: As
) -> None:
    become("wanda")
    process = worker(f"{FLOWS}:pages")
    become("clio")
    waited = cli("start", "pages", json.dumps({"text": "x" * 100_000}), "--wait")
    assert json.loads(waited.stdout) == {"check": {"title": "<p>long"}}, waited.stderr

    become("otto")
    (run,) = json.loads(cli("runs", "--json").stdout)
    assert (run["flow_slug"], run["status"], run["steps_done"]) == ("pages", "completed", 3)
    assert "check (after title) completed in " in cli("show", run["run_id"]).stdout
    shown = json.loads(cli("show", run["run_id"], "--json").stdout)
    assert shown["steps"][0]["blob"]["raw_size"] == 1_800_003
    assert not {"input", "output"} & (shown.keys() | shown["steps"][0].keys())
    stat = cli("blob", "stat", "--json")
    assert stat.stderr == "values in rows are not counted: this role may not read them\n"
    assert {step["step_slug"]: step["blobs"] for step in json.loads(stat.stdout)} == {
        "run": 1, "website": 1,
    }  # fmt: skip
    assert "permission denied" in cli("show", run["run_id"], "--values").stderr
    report = json.loads(cli("doctor", "--json").stdout)
    assert {check["status"] for check in report["checks"]} == {"ok"}
    code, errors = end(process)
    assert (code, "permission denied" in errors) == (0, False), errors


OWNED = "only the owner of the schema pgflow may do that: connect as the owner"


def grant(role: str) -> str:
    return f"have the owner of the schema pgflow grant this login {role}"


@pytest.mark.parametrize(
    ("user", "arguments", "advice"),
    [
        ("wanda", ["migrate"], "connect as olga"),
        ("wanda", ["prune", "--older-than", "1s"], OWNED),
        ("wanda", ["start", "pages", "{}"], grant("pgflow_client")),
        ("wanda", ["blob", "check"], OWNED),
        ("clio", ["worker", FLOWS], grant("pgflow_worker")),
        ("clio", ["prune", "--older-than", "1s"], OWNED),
        ("otto", ["start", "pages", "{}"], grant("pgflow_client")),
        ("otto", ["worker", FLOWS], grant("pgflow_worker")),
        (
            "otto",
            ["blob", "cat", "0199f3a4-7f5e-7cc1-8a52-3f0c2d1b9e6a"],
            grant("pgflow_client"),
        ),
        ("paul", ["runs"], grant("pgflow_observer")),
        ("paul", ["doctor"], grant("pgflow_observer")),
    ],
)
def test_a_command_that_a_login_has_no_rights_for_says_so_in_one_line(
    cli: Cli, become: As, user: str, arguments: list[str], advice: str
) -> None:
    become(user)
    refused = cli(*arguments)
    assert refused.returncode == 1
    said = refused.stdout if arguments == ["doctor"] else refused.stderr
    lacking = "belongs to the role olga" if arguments == ["migrate"] else "permission denied for "
    assert lacking in said
    assert advice in " ".join(said.split())
    assert "Traceback" not in refused.stderr


def test_a_client_is_told_that_no_worker_is_there(cli, spawn, worker, become):
    become("wanda")
    assert end(worker(f"{FLOWS}:pages"))[0] == 0
    become("clio")
    start = spawn("start", "pages", "--wait")
    assert start.stderr.readline().startswith("started run ")
    assert start.stderr.readline() == "no worker of pages is known to be alive: waiting for one\n"
