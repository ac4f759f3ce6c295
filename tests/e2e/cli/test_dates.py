"""A worker and commands in a database, or an environment, that writes dates in another style."""

import json
import subprocess
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner
from psycopg.conninfo import conninfo_to_dict
from psycopg.sql import SQL, Identifier

from pgflow_events.cli import commands

from ...parts.past import fill
from ..conftest import COMMAND, FLOWS
from .test_exports import run_id

__all__ = ["run_id"]  # a fixture

KEPT = "select count(*) from pgflow.runs where flow_slug = 'past'"


@pytest.fixture(params=["SQL, DMY", "German"])
def style(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=["database", "environment"])
def elsewhere(request, database, monkeypatch, style) -> None:
    """Somebody has set this style, here or there."""
    monkeypatch.setenv("PGFLOW_DSN", database)
    if request.param == "environment":
        monkeypatch.setenv("PGDATESTYLE", style)
        return
    with psycopg.connect(database, autocommit=True) as connection:
        name = Identifier(conninfo_to_dict(database)["dbname"])
        connection.execute(SQL("alter database {} set datestyle = {}").format(name, style))


@pytest.mark.usefixtures("elsewhere")
def test_a_worker_that_deletes_old_runs_lives_whatever_the_style_of_dates(database):
    fill(database, 20, 3)
    pipe = subprocess.PIPE
    arguments = [*COMMAND, "worker", FLOWS, "--keep-runs", "7d"]
    with (
        subprocess.Popen(arguments, stdout=pipe, stderr=pipe, text=True) as worker,
        psycopg.connect(database, autocommit=True) as observer,
    ):
        try:
            while worker.poll() is None and observer.execute(KEPT).fetchone() != (0,):
                observer.execute("select pg_sleep(0.02)")
            worker.terminate()
            _, log = worker.communicate(timeout=30)
        finally:
            worker.kill()
    assert (worker.returncode, "Traceback" in log) == (0, False), log


def test_commands_answer_whatever_the_style_of_dates(run_id, elsewhere, tmp_path: Path):
    exported = tmp_path / "exported"
    answers = {}
    for command in (
        ["runs"],
        ["runs", "--json"],
        ["show", run_id],
        ["show", run_id, "--json"],
        ["blob", "export", run_id, str(exported)],
        ["prune", "--older-than", "0.001s", "--dry-run"],
        ["prune", "--older-than", "0.001s"],
    ):
        answers[" ".join(command[:2])] = CliRunner().invoke(commands, command)
    assert {name: each for name, each in answers.items() if each.exit_code or each.stderr} == {}
    assert json.loads((exported / "manifest.json").read_text())["values"]
    assert json.loads(CliRunner().invoke(commands, ["runs", "--json"]).stdout) == []
