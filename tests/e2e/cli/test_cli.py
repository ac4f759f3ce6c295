"""The command line, as its users see it: text, JSON, exit codes."""

import io
import json
import os
import pwd
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from pgflow_events.cli import SUMMARIES, commands

from ..conftest import COMMAND, FLOWS, end

ROOT = Path(__file__).parents[3]
NOWHERE = "host=127.0.0.1 port=1 user=u password=hunter2"
ABSENT = "0199f3a4-7f5e-7cc1-8a52-3f0c2d1b9e6a"


def command(name: str) -> click.Command:
    found = commands.get_command(click.Context(commands), name)
    assert found
    return found


@pytest.mark.parametrize("name", SUMMARIES)
def test_the_list_of_commands_says_of_each_what_its_help_says(name):
    assert command(name).get_short_help_str(80) == SUMMARIES[name]


def examples(name: str) -> list[str]:
    """The command lines in the help of a command."""
    shown = command(name).get_help(click.Context(command(name)))
    return [line.strip() for line in shown.partition("Examples:")[2].strip().splitlines()]


def call(line: str) -> str:
    """Parse a command line, and name its command."""
    program, name, *arguments = shlex.split(line.partition(" < ")[0].replace("@input.json", "{}"))
    assert program == "pgflow-events"
    command(name).make_context(name, arguments)
    return name


@pytest.mark.parametrize("name", SUMMARIES)
def test_the_examples_in_the_help_can_be_called(name, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"{}")))
    assert examples(name)
    assert {call(line) for line in examples(name)} == {name}


def test_the_examples_in_the_docs_can_be_called():
    docs = (ROOT / "docs" / "guide" / "cli.md").read_text()
    lines = re.findall(r"^    (?:\$ )?(pgflow-events [a-z].*)$", docs, re.MULTILINE)
    assert {call(line) for line in lines} >= {"worker", "start", "runs", "show", "blob"}


def test_help_lists_the_commands_without_importing_what_they_need(environment):
    program = (
        "import sys\n"
        "from pgflow_events.cli import main\n"
        "try: main()\n"
        "except SystemExit: sys.exit(f'rich: {\"rich\" in sys.modules}')"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program, "--help"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.stderr == "rich: False\n"
    assert [line.split()[0] for line in answer.stdout.splitlines()[-len(SUMMARIES) :]] == [
        *SUMMARIES
    ]


def test_a_run_is_started_listed_and_shown(cli, worker):
    worker()
    waited = cli("start", "pages", '{"url": "x"}', "--wait")
    assert json.loads(waited.stdout) == {"check": {"title": "<p>long"}}
    run_id = waited.stderr.removeprefix("started run ").strip()

    (listed,) = json.loads(cli("runs", "--json").stdout)
    assert listed.items() >= {
        "run_id": run_id, "flow_slug": "pages", "status": "completed",
        "steps_done": 3, "steps_total": 3,
    }.items()  # fmt: skip
    header, row = cli("runs").stdout.splitlines()
    assert header.split() == ["RUN", "FLOW", "STATUS", "AGO", "DURATION", "STEPS"]
    assert row.split()[:3] == [run_id, "pages", "completed"]
    assert row.split()[-1] == "3/3"

    assert "<p>long" not in cli("show", run_id).stdout + cli("show", run_id, "--json").stdout
    tree = cli("show", run_id, "--values").stdout
    assert tree.startswith(f"run {run_id} of pages: completed in ")
    assert "text, 1.8 MB as " in tree
    assert "check (after title) completed in " in tree
    assert '{"title": "<p>long"}' in tree

    shown = json.loads(cli("show", run_id, "--values", "--json").stdout)
    assert shown["input"] == {"url": "x"}
    assert [step["dependencies"] for step in shown["steps"]] == [[], ["website"], ["title"]]
    website = shown["steps"][0]
    assert website["output"] is None
    assert website["blob"].items() >= {"kind": "text", "raw_size": 1_800_003}.items()
    assert website["blob"]["stored_size"] < 10_000


def test_a_value_that_python_cannot_read_is_shown_as_it_is(cli, database):
    with psycopg.connect(database) as connection:
        connection.execute("select pgflow.create_flow('f'), pgflow.add_step('f', 'step')")
        ((run_id,),) = connection.execute("select run_id from pgflow.start_flow('f', '1e400')")
        connection.execute("select from pgflow.poll_for_tasks('f', 1, 1, 0)")
        connection.execute("select from pgflow.complete_task(%s, 'step', 0, '1e400')", [run_id])
    assert "10000000000" in cli("show", str(run_id), "--values").stdout
    shown = json.loads(cli("show", str(run_id), "--values", "--json").stdout)
    assert shown["input"] == shown["steps"][0]["output"] == 10**400


def test_a_run_that_fails_says_why_in_one_line_and_nothing_to_the_terminal(cli, worker):
    worker()
    failed = cli("start", "pages", "-", "--wait", text='{"fault": "too bad"}')
    assert (failed.returncode, failed.stdout) == (1, "")
    _, line = failed.stderr.splitlines()
    assert line.startswith("error: run ")
    assert line.endswith("in step 'check': ValueError: too bad [bold]�[31m; and more of it")

    (run,) = json.loads(cli("runs", "--status", "failed", "--flow", "pages", "--json").stdout)
    tree = cli("show", run["run_id"]).stdout
    assert "check (after title) failed in " in tree
    assert ", attempt 2 of 2" in tree
    assert "ValueError: too bad [bold]�[31m; and more of it\n" in tree


def test_json_tells_of_many_runs_and_of_bytes(cli, worker):
    worker(f"{FLOWS}:raw", "--resources", f"{FLOWS}:resources")
    many = cli("start", "raw", "--count", "2", "--wait", "--json")
    assert [run["output"] for run in json.loads(many.stdout)] == [
        {"key": {"base64": "AP8="}},
        {"key": {"base64": "AP8="}},
    ]
    one = json.loads(cli("start", "raw", "--json").stdout)
    assert one == {"run_id": one["run_id"], "flow_slug": "raw", "status": "started"}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (
            ["start", "nope", "--patience", "0"],
            1,
            'error: unknown flow "nope": no worker has defined it; no flow is defined here yet\n',
        ),
        (["runs", "--flow", "nope"], 1, 'error: unknown flow "nope": no worker has defined it; '),
        (["blob", "stat", "--flow", "nope", "--json"], 1, 'error: unknown flow "nope": no worker'),
        (["show", ABSENT], 1, f"error: there is no run {ABSENT}\n"),
        (["start", "nope", "{bad"], 2, "not JSON: Expecting property name"),
        (["worker", "nope.flows"], 1, "error: cannot import nope.flows: ModuleNotFoundError"),
        (["demo", "--url", "nope"], 1, "error: "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_done_is_said_in_one_line(cli, arguments, code, message):
    answer = cli(*arguments)
    assert (answer.returncode, answer.stdout) == (code, "")
    assert message in answer.stderr
    assert answer.stderr.startswith("error: ") == (code == 1)
    assert answer.stderr.count("\n") == (1 if code == 1 else 4)


@pytest.mark.parametrize(
    ("dsn", "message"),
    [
        (NOWHERE, "error: connection failed"),
        ("postgresql://u:hunter2", "error: the DSN cannot be understood"),
    ],
)
def test_a_database_that_is_not_there_is_named_without_its_password(cli, dsn, message):
    answer = cli("runs", "--dsn", dsn)
    assert answer.returncode == 1
    assert answer.stderr.startswith(message)
    assert answer.stderr.count("\n") == 1
    assert "hunter2" not in answer.stderr


def test_a_start_waits_for_a_worker_that_is_about_to_define_the_flow(spawn, worker):
    start = spawn("start", "pages", "--wait", "--patience", "30")
    assert start.stderr.readline() == (
        'unknown flow "pages": no worker has defined it; no flow is defined here yet'
        " (waiting 30 s for a worker that does)\n"
    )
    worker()
    output, _ = start.communicate(timeout=30)
    assert (start.returncode, json.loads(output)) == (0, {"check": {"title": "<p>long"}})


def test_a_start_that_waits_in_vain_says_which_flows_there_are(cli, worker):
    worker(f"{FLOWS}:raw", "--resources", f"{FLOWS}:resources")
    answer = cli("start", "nope", "--patience", "0.5")
    unknown = 'unknown flow "nope": no worker has defined it; flows here: raw'
    assert (answer.returncode, answer.stdout) == (1, "")
    assert answer.stderr == f"{unknown} (waiting 0.5 s for a worker that does)\nerror: {unknown}\n"


def test_a_start_that_waits_for_its_run_says_if_no_worker_is_there(cli, spawn, worker):
    assert end(worker())[0] == 0  # it has defined the flow
    start = spawn("start", "pages", "--wait")
    assert start.stderr.readline().startswith("started run ")
    assert start.stderr.readline() == "no worker of pages is known to be alive: waiting for one\n"
    lines = [" ".join(line.split()) for line in cli("doctor").stdout.splitlines()]
    warned = "! workers pages: 1 task queued, but no worker is known to be alive: start one"
    assert warned in lines
    worker()
    output, errors = start.communicate(timeout=30)
    assert (start.returncode, json.loads(output)) == (0, {"check": {"title": "<p>long"}})
    assert errors == ""
    (line,) = [line for line in cli("doctor").stdout.splitlines() if " workers " in line]
    assert " ".join(line.split()) == "✓ workers alive for hasty, pages, patient, raw"


def test_with_debug_the_traceback_is_shown(cli):
    answer = cli("show", ABSENT, "--debug")
    assert answer.returncode == 1
    assert "Traceback" in answer.stderr
    assert answer.stderr.endswith(f"UnknownRun: there is no run {ABSENT}\n")


@pytest.mark.parametrize("arguments", [["runs"], ["runs", "--json"]], ids=" ".join)
def test_a_reader_who_is_gone_is_no_error(arguments, environment):
    reading, writing = os.pipe()
    os.close(reading)
    try:
        answer = subprocess.run(
            [*COMMAND, *arguments],
            env=environment,
            stdout=writing,
            stderr=subprocess.PIPE,
            check=False,
        )
    finally:
        os.close(writing)
    assert (answer.returncode, answer.stderr) == (1, b"")


def test_a_database_without_the_schema_is_migrated(cli, empty_database, environment):
    environment["PGFLOW_DSN"] = empty_database
    refused = cli("runs")
    assert refused.returncode == 1
    assert refused.stderr.endswith(": run `pgflow-events migrate`\n")
    assert cli("worker", FLOWS).stderr.endswith(": run `pgflow-events migrate`\n")

    sick = cli("doctor", "--json")
    assert sick.returncode == 1
    report = json.loads(sick.stdout)
    assert not report["ok"]
    statuses = {check["check"]: check["status"] for check in report["checks"]}
    assert statuses["server"] == statuses["notifications"] == "ok"
    assert statuses["pgmq"] == statuses["schema"] == "failed"

    first = cli("migrate")
    assert first.stdout.splitlines()[0] == "applied migrations/0001_flows.sql"
    assert json.loads(cli("migrate", "--json").stdout) == {"applied": []}


def test_the_doctor_tells_of_tasks_that_wait_and_transactions_that_last(cli, database):
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("select pgflow.create_flow('lonely')")
        connection.execute("select pgflow.add_step('lonely', 'alone')")
        connection.execute("select pgflow.start_flow('lonely', '{}')")
        connection.execute("update pgmq.q_lonely set vt = clock_timestamp() - interval '1 day'")
        with psycopg.connect(database, application_name="sleeper") as other:
            other.execute("select pg_current_xact_id()")
            answer = cli("doctor")
    assert answer.returncode == 0
    lines = [" ".join(line.split()) for line in answer.stdout.splitlines()]
    assert (
        "! queues lonely: 1 task queued, 1 can be claimed, the first for 1 d 0 h:"
        " start a worker for this flow, or more workers"
    ) in "\n".join(lines)
    assert any("idle in transaction, pid" in line and "sleeper" in line for line in lines)


def test_the_doctor_finds_what_is_lost_and_the_migration_it_advises_brings_it_back(cli, database):
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("select pgflow.create_flow('f'), pgflow.add_step('f', 'a')")
        connection.execute("select pgflow.start_flows('f', '{1,2,3}')")
        connection.execute("select pgmq.drop_queue('f')")
        connection.execute("drop trigger notify_tasks_inserted on pgflow.step_tasks")
    answer = cli("doctor")
    assert answer.returncode == 1
    said = " ".join(answer.stdout.split())
    assert "✗ queues f: pgmq.q_f and pgmq.a_f of its queue are lost, with the messages of 3" in said
    assert "✗ schema the trigger notify_tasks_inserted on step_tasks is lost or disabled" in said
    mended = cli("migrate")
    assert mended.stderr == "flow f: sent the lost messages of 3 tasks again\n"
    answer = cli("doctor")
    assert answer.returncode == 0
    assert "f: 3 tasks queued, 3 can be claimed" in " ".join(answer.stdout.split())


def test_what_needs_a_table_that_is_lost_is_not_called_a_matter_of_the_release(cli, database):
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("select pgflow.create_flow('f')")
        connection.execute("drop table pgflow.step_tasks cascade")
    answer = cli("doctor")
    said = " ".join(answer.stdout.split())
    assert "✗ schema pgflow.step_tasks is lost: restore it from a backup" in said
    assert "✗ queues cannot be checked: relation" in said
    refused = cli("migrate")
    assert refused.returncode == 1
    assert "error: pgflow.step_tasks is lost: restore it from a backup" in refused.stderr


def test_a_worker_whose_flow_has_the_name_of_anothers_queue_says_what_to_do(cli, database):
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("select pgmq.create('raw'), pgmq.send('raw', '{}')")
        refused = cli("worker", FLOWS)
        assert refused.returncode == 1
        assert refused.stderr.startswith('error: the flow "raw" cannot use pgmq.q_raw and')
        assert "Give the flow another slug" in refused.stderr
        assert connection.execute("select read_ct from pgmq.q_raw").fetchall() == [(0,)]


def test_the_doctor_notices_that_notifications_do_not_arrive(cli, database):
    # A LISTEN in another database hears nothing, like one behind a pooler.
    answer = cli("doctor", "--listen-dsn", make_conninfo(database, dbname="postgres"))
    assert answer.returncode == 1
    (line,) = [line for line in answer.stdout.splitlines() if line.startswith("✗")]
    assert "notifications" in line


def test_the_doctor_of_a_server_that_cannot_be_reached_says_so(cli):
    answer = cli("doctor", "--dsn", NOWHERE, "--json")
    assert answer.returncode == 1
    (check,) = json.loads(answer.stdout)["checks"]
    assert (check["check"], check["status"]) == ("server", "failed")
    assert "Connection refused" in check["found"]


@pytest.fixture
def somebody() -> Iterator[dict]:
    """An account whose data folder is its own: root's is the machine's. For subprocess.Popen."""
    with tempfile.TemporaryDirectory(prefix="pgflow-test-") as home:
        environment = {"XDG_DATA_HOME": home, "HOME": home}
        if os.geteuid():
            yield {"args": COMMAND, "env": environment}
            return
        version = "python{}.{}".format(*sys.version_info)
        if not (python := shutil.which(version, path=os.defpath)):
            pytest.skip(f"nobody can run no {version} here")
        nobody = pwd.getpwnam("nobody")
        shutil.chown(home, nobody.pw_uid)
        site = Path(psycopg.__file__).parents[1]
        environment["PYTHONPATH"] = os.pathsep.join(map(str, (ROOT, site)))
        yield {
            "args": [python, *COMMAND[1:]], "env": environment, "cwd": "/",
            "user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": [],
        }  # fmt: skip


def test_without_any_dsn_two_processes_share_an_embedded_server(somebody):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    program = somebody.pop("args")
    with subprocess.Popen([*program, "worker", FLOWS], **somebody, **pipes) as worker:
        try:
            assert worker.stdout.readline().startswith("ready: "), worker.stderr.read()
            folder = f"{somebody['env']['XDG_DATA_HOME']}/pgflow_events/postgres-"
            said = worker.stderr.readline()
            assert said.startswith(f"using the embedded PostgreSQL in {folder}")
            answer = subprocess.run(
                [*program, "start", "pages", "--wait"], **somebody, **pipes, check=True
            )
            assert json.loads(answer.stdout) == {"check": {"title": "<p>long"}}
            assert answer.stderr.startswith(said)
            assert end(worker, signal.SIGTERM)[0] == 0
        finally:
            worker.kill()
