"""A worker as a service: a real process, and a real socket on which its manager hears it."""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pgflow_events.service.shutdown import HANDLERS_END

from ..conftest import COMMAND, FLOWS, end
from ..test_signals import answer, await_line, db, door, run_of, task_of

__all__ = ["db", "door"]  # fixtures

EXAMPLE = Path(__file__).parents[3] / "examples" / "systemd"
STUBBORN = str(Path(__file__).parents[1] / "stubborn_flows.py")


class Manager:
    """What systemd would hear."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)

    def hear(self, within: float = 20) -> list[str] | None:
        """The assignments of the next message; None if there is none in time."""
        self.socket.settimeout(within)
        try:
            return self.socket.recv(4096).decode().split("\n")
        except TimeoutError:
            return None

    def await_assignment(self, wanted: str) -> list[str]:
        """The message with this assignment (a regular expression), and what came before."""
        heard: list[str] = []
        while not any(re.fullmatch(wanted, assignment) for assignment in heard):
            message = self.hear()
            assert message, f"{wanted} was not heard, but {heard}"
            heard += message
        return heard

    def forget(self) -> None:
        """Forget what was said until now."""
        while self.hear(within=0.001):
            pass


@pytest.fixture
def manager(tmp_path: Path, environment: dict[str, str]) -> Iterator[Manager]:
    address = str(tmp_path / "notify")
    environment["NOTIFY_SOCKET"] = address
    hearing = Manager(address)
    with hearing.socket:
        yield hearing


QUEUES = "lock table pgmq.q_pages, pgmq.q_patient, pgmq.q_hasty, pgmq.q_raw"


def test_it_is_ready_when_the_first_claim_is_answered(worker, manager, db):
    assert end(worker(FLOWS))[0] == 0  # which has defined the flows
    manager.forget()
    with db.transaction():
        db.execute(QUEUES)
        process = worker(FLOWS)  # and notifications arrive
        assert manager.hear() == ["STATUS=connecting to the database"]
        assert manager.hear(within=0.5) is None
    assert manager.hear() == ["READY=1"]
    assert manager.hear() == ["STATUS=0 of 50 slots in use"]
    assert end(process)[0] == 0


def test_its_status_tells_what_it_does(worker, manager, door, db):
    process = worker(FLOWS, "--slots", "7")
    run_of("patient", door, db)
    asking, _ = door.accept()
    manager.await_assignment("STATUS=1 of 7 slots in use")
    answer(asking, "done")
    manager.await_assignment("STATUS=0 of 7 slots in use; 1 completed")
    assert end(process)[0] == 0


def test_told_to_end_it_says_that_it_stops_and_asks_for_time(worker, manager, door, db):
    process = worker(FLOWS)
    run_id = run_of("patient", door, db)
    asking, _ = door.accept()
    process.send_signal(signal.SIGTERM)
    manager.await_assignment("STOPPING=1")
    heard = manager.await_assignment(r"EXTEND_TIMEOUT_USEC=15000000")
    assert any(text.startswith("STATUS=stopping: 1 of 50 slots in use") for text in heard)
    answer(asking, "finished")
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 0
    assert errors.splitlines()[-1].endswith("done: 1 completed")
    assert task_of(run_id, db) == ("completed", 1, "finished")


def test_a_handler_that_blocks_the_loop_starves_the_watchdog(worker, watchdog, door, db):
    process = worker(STUBBORN)
    watchdog.await_assignment("READY=1")
    for _ in range(3):
        watchdog.await_assignment("WATCHDOG=1")
    run_of("hang", door, db)
    asking, _ = door.accept()
    watchdog.forget()
    assert watchdog.hear(within=1) is None
    answer(asking, "sorry")
    watchdog.await_assignment("WATCHDOG=1")
    assert end(process)[0] == 0


@pytest.fixture
def closed(database: str) -> Iterator[Callable[[bool], None]]:
    """Closes the database to everybody, or opens it again."""
    name = conninfo_to_dict(database)["dbname"]
    with psycopg.connect(make_conninfo(database, dbname="postgres"), autocommit=True) as admin:

        def close(closed: bool) -> None:
            admin.execute(f"alter database {name} allow_connections {not closed}")
            if closed:
                end_all = "select pg_terminate_backend(pid) from pg_stat_activity"
                admin.execute(f"{end_all} where datname = %s", [name])

        yield close
        close(False)


@pytest.fixture
def watchdog(manager: Manager, environment: dict[str, str]) -> Manager:
    """A manager that wants to hear each 0.4 seconds that the worker is well."""
    environment["WATCHDOG_USEC"] = "400000"
    return manager


def test_a_database_that_does_not_answer_starves_the_watchdog(worker, watchdog, door, db, closed):
    process = worker(FLOWS)
    run_of("patient", door, db)
    asking, _ = door.accept()
    closed(True)
    answer(asking, "in vain")
    await_line(process, "the database does not answer: systemd's watchdog is not fed")
    watchdog.forget()
    assert watchdog.hear(within=1) is None
    closed(False)
    watchdog.await_assignment("STATUS=.*1 completed")
    watchdog.await_assignment("WATCHDOG=1")
    assert end(process)[0] == 0


@pytest.mark.parametrize(
    ("step", "code"),
    [("endless.wait", 0), ("deaf.swallow", 1)],
    ids=["in a thread", "a task of trio"],
)
def test_a_handler_that_does_not_end_is_named_and_its_task_given_back(worker, door, db, step, code):
    process = worker(STUBBORN, "--stop-timeout", "0.5")
    run_id = run_of(step.partition(".")[0], door, db)
    with door.accept()[0]:
        began = time.monotonic()
        answered, errors = end(process)
        assert answered == code
        assert time.monotonic() - began < 0.5 + (HANDLERS_END if code else 0) + 5
    assert f"{step} of run {run_id}, attempt 1 ignores its cancellation" in errors
    assert "done: 1 given back" in errors
    assert task_of(run_id, db) == ("queued", 0, None)


@contextmanager
def impatient(environment: dict[str, str], *options: str) -> Iterator["subprocess.Popen[str]"]:
    """A worker that is ready, and ends itself one second after it should have ended."""
    program = (
        "from pgflow_events.service import shutdown; shutdown.UNTIL_LAST_RESORT = 1;"
        "from pgflow_events.cli import main; main()"
    )
    arguments = ["worker", STUBBORN, *options, "--stop-timeout", "0.1"]
    with subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdout.readline().startswith("ready: ")
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("resources", ["never_closed", "left_behind"])
def test_what_hangs_when_all_is_done_does_not_keep_the_process(environment, resources):
    with impatient(environment, "--resources", f"{STUBBORN}:{resources}") as process:
        code, errors = end(process)
    assert code == 1
    assert "something does not end: ending the process without it" in errors


@pytest.mark.parametrize("times", [1, 2])
def test_a_handler_that_never_comes_back_from_c_code_does_not_keep_the_process(
    environment, door, db, times
):
    with impatient(environment) as process:
        run_of("computes", door, db)
        with door.accept()[0] as knocking:
            assert knocking.recv(1) == b""  # it begins
        for _ in range(times - 1):
            process.send_signal(signal.SIGTERM)
        code, errors = end(process)
    assert code == 1
    assert "attempt 1 ignores its cancellation and ends with the process" in errors


@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_handler_that_blocks_the_loop_does_not_keep_the_process(environment, door, db, times):
    with impatient(environment) as process:
        run_of("hang", door, db)
        with door.accept()[0]:
            for _ in range(times - 1):
                process.send_signal(signal.SIGTERM)
            code, errors = end(process)
    assert code == 1
    assert "attempt 1 ignores its cancellation and ends with the process" in errors


def test_what_is_given_back_is_claimed_by_another_worker_at_once(worker, door, db):
    leaving = worker(FLOWS, "--stop-timeout", "0.1")
    run_id = run_of("patient", door, db)
    first, _ = door.accept()
    other = worker(FLOWS)
    leaving.send_signal(signal.SIGTERM)
    asking, _ = door.accept()  # long before its timeout of 60 seconds
    assert first.recv(1) == b""
    first.close()
    answer(asking, "again")
    assert leaving.wait(30) == 0
    assert end(other)[0] == 0
    assert task_of(run_id, db) == ("completed", 1, "again")


def test_a_socket_that_is_gone_does_not_disturb_the_worker(worker, environment, tmp_path):
    environment["NOTIFY_SOCKET"] = str(tmp_path / "nobody")
    environment["WATCHDOG_USEC"] = "100000"
    process = worker(FLOWS)
    code, errors = end(process)
    assert code == 0
    assert errors.count("cannot reach systemd") == 1


def test_lines_for_the_journal_have_a_priority_and_are_json(worker, door, db):
    process = worker(STUBBORN, "--log-format", "journal", "--stop-timeout", "0.1")
    run_of("endless", door, db)
    with door.accept()[0]:
        _, errors = end(process)
    lines = [re.fullmatch(r"<(\d)>(\{.*\})", line) for line in errors.splitlines()]
    told = [(int(line[1]), json.loads(line[2])["level"]) for line in lines if line]
    assert len(told) == len(lines)
    assert set(told) == {(6, "info"), (4, "warning"), (3, "error")}


# The unit


def unit(cli, *arguments: str) -> str:
    written = cli("systemd-unit", "--no-check", *arguments)
    assert written.returncode == 0, written.stderr
    return written.stdout


def settings(text: str) -> dict[str, list[str]]:
    """The assignments of a unit, by name."""
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE):
        found.setdefault(name, []).append(value)
    return found


def analyze(*arguments: str, folder: Path, user: bool) -> str:
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    answer = subprocess.run(
        ["systemd-analyze", *(["--user"] if user else []), *arguments],
        env={**os.environ, "XDG_RUNTIME_DIR": str(folder), "SYSTEMD_COLORS": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=50,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout
    return answer.stdout


@pytest.mark.parametrize(("option", "most"), [("--system", 1.1), ("--user", 1.7)])
def test_systemd_finds_no_fault_with_the_unit_and_little_to_gain(cli, tmp_path, option, most):
    file, user = tmp_path / "worker@.service", option == "--user"
    file.write_text(unit(cli, "app:flow", option, "--directory", "/opt/app"))
    assert analyze("verify", str(file), folder=tmp_path, user=user) == ""
    assert exposure(file, user=user) <= most
    if user:  # it is taken for root's, unless it names another user: it will not be root's
        file.write_text(file.read_text().replace("[Service]", "[Service]\nUser=games"))
        assert exposure(file, user=user) <= 1.4


def test_systemd_finds_no_fault_with_a_unit_of_hostile_words(cli, tmp_path):
    file = tmp_path / "worker@.service"
    words = shlex.join(["--resources", 'it\'s "%h" $HOME ${X} ; # \\', "--stop-timeout", "1e9"])
    options = ("--user", "--directory", '/opt/%h $HOME "a', "--worker-options", words)
    file.write_text(unit(cli, "app:flow", *options))
    assert analyze("verify", str(file), folder=tmp_path, user=True) == ""


def exposure(file: Path, *, user: bool) -> float:
    report = analyze("security", "--offline=true", str(file), folder=file.parent, user=user)
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", report)
    assert found
    return float(found[1])


def test_the_unit_runs_the_worker_with_its_options(cli):
    found = settings(
        unit(
            cli, "app:flow", "my flows.py", "--system", "--directory", "/srv/100%",
            "--worker-options", "--slots 9 --stop-timeout 100 --objects 'file:///a $b\"c'",
        )
    )  # fmt: skip
    (start,) = found["ExecStart"]
    program, _, arguments = start.partition(" worker ")
    assert Path(program).is_absolute()
    assert arguments == (
        'app:flow "my flows.py" --slots 9 --stop-timeout 100 --objects'
        r' "file:///a $$b\"c" --log-format journal'
    )
    assert found["WorkingDirectory"] == ["/srv/100%%"]
    assert found["TimeoutStopSec"] == ["125s"]
    assert found["Type"] == ["notify"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--slots many", "'many' is not a valid integer"),
        ("--dsn postgresql://u:hunter2@db/app", "put the DSN into the credential's file"),
        ("--listen-dsn=host=db", "put the DSN into the credential's file"),
        ("'--slots", "No closing quotation"),
        ("--keys 'a\nExecStart=b'", "a unit cannot hold"),
    ],
)
def test_options_that_the_worker_would_refuse_or_all_would_read_are_refused(cli, options, message):
    refused = cli("systemd-unit", "app:flow", "--no-check", "--system", "--worker-options", options)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert message in refused.stderr
    assert "hunter2" not in refused.stderr


# The example


class Machine:
    """A folder in the place of `/`, with what systemd does of its own: it starts services."""

    def __init__(self, root: Path, environment: dict[str, str], dsn: str) -> None:
        self.root, self.environment, self.dsn = root, environment, dsn
        self.services: dict[str, subprocess.Popen[str]] = {}
        (root / "etc/systemd/system").mkdir(parents=True)

    def moved(self, text: str) -> str:
        """A text whose paths lie in the folder."""
        return re.sub(r"(?<![\w.])/(opt|etc)\b", rf"{self.root}/\1", text)

    def follow(self, line: str) -> None:
        """Do what a line says; but what is installed is this checkout."""
        match shlex.split(line):
            case ["systemctl", "enable", "--now", *units]:
                self.services |= {unit: self.start(*unit.split("@")) for unit in units}
            case ["systemctl", "restart", _]:
                for unit, process in self.services.items():
                    assert end(process)[0] == 0
                    self.services[unit] = self.start(*unit.split("@"))
            case ["systemctl" | "journalctl", *_]:
                pass
            case ["python3", "-m", "venv", folder]:
                command = Path(self.moved(folder), "bin/pgflow-events")
                command.parent.mkdir(parents=True)
                command.write_text(f'#!/bin/sh\nexec {shlex.join(COMMAND)} "$@"\n')
                command.chmod(0o755)
            case [pip, "install", *_] if pip.endswith("/pip"):
                pass
            case ["echo", dsn, *_]:
                self.call(line.replace(dsn, self.dsn))
            case _:
                self.call(line)

    def call(self, line: str) -> None:
        subprocess.run(
            ["sh", "-c", self.moved(line)],
            cwd=EXAMPLE,
            env=self.environment,
            check=True,
            timeout=30,
        )

    def start(self, name: str, instance: str) -> "subprocess.Popen[str]":
        """Start an instance of a template, and return when it is ready."""
        unit = (self.root / f"etc/systemd/system/{name}@.service").read_text()
        found = settings(unit.replace("%E", str(self.root / "etc")))
        credential, _, source = found["LoadCredential"][0].partition(":")
        folder = Path(tempfile.mkdtemp(prefix=f"{name}-{instance}-", dir=self.root))
        shutil.copy(source, folder / credential)
        manager = Manager(str(folder / "notify"))
        process = subprocess.Popen(
            shlex.split(found["ExecStart"][0]),
            cwd=self.moved(found["WorkingDirectory"][0]),
            env={
                **self.environment,
                "NOTIFY_SOCKET": str(folder / "notify"),
                "CREDENTIALS_DIRECTORY": str(folder),
                "STATE_DIRECTORY": str(self.root),
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        with manager.socket:
            manager.await_assignment("READY=1")
        return process


@pytest.fixture
def machine(tmp_path: Path, environment: dict[str, str]) -> Iterator[Machine]:
    dsn = environment.pop("PGFLOW_DSN")
    made = Machine(tmp_path, environment, dsn)
    yield made
    for process in made.services.values():
        process.kill()
        process.communicate()


def test_who_follows_the_example_has_two_workers(machine, tmp_path):
    for line in re.findall(r"^    (.*)$", (EXAMPLE / "README.md").read_text(), re.MULTILINE):
        machine.follow(line)
    assert [*machine.services] == ["pages@1", "pages@2"]
    (tmp_path / "page.html").write_text("<p>")
    (tmp_path / "run").write_text(json.dumps({"url": (tmp_path / "page.html").as_uri()}))
    machine.call('PGFLOW_DSN="$(cat /etc/pgflow/dsn)" /opt/pages/venv/bin/pgflow-events'
                 f" start measure_pages - --wait < {tmp_path}/run")  # fmt: skip
    assert (tmp_path / "sizes.txt").read_text().startswith("3 file:")
    for process in machine.services.values():
        assert end(process)[0] == 0


def test_the_unit_of_the_example_is_the_one_that_is_written(cli):
    written = unit(cli, "flows.py", "--system", "--directory", "/opt/pages")
    (start,) = settings(written)["ExecStart"]
    program = start.partition(" worker ")[0]
    installed = written.replace(program, "/opt/pages/venv/bin/pgflow-events")
    assert (EXAMPLE / "pages@.service").read_text() == installed
