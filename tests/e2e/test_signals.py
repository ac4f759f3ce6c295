"""Processes that are told to end, or killed, in the midst of their work."""

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import psycopg
import pytest
from psycopg.types.json import Jsonb

from .conftest import COMMAND, FLOWS, end

COMPUTING = str(Path(__file__).parents[1] / "parts" / "handlers" / "computing.py")


@pytest.fixture
def door(tmp_path: Path) -> Iterator[socket.socket]:
    """Where the handlers of the flows `patient` and `hasty` ask for what to return."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "door"))
        listening.listen()
        listening.settimeout(30)
        yield listening


@pytest.fixture
def db(database: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


def run_of(flow: str, door: socket.socket, db: psycopg.Connection) -> UUID:
    """The id of a new run that asks at the door."""
    start = "select run_id from pgflow.start_flow(%s, %s)"
    return db.execute(start, [flow, Jsonb({"door": door.getsockname()})]).fetchone()[0]


def task_of(run_id: UUID, db: psycopg.Connection) -> tuple:
    read = "select status, attempts_count, output from pgflow.step_tasks where run_id = %s"
    return db.execute(read, [run_id]).fetchone()


def await_line(process: "subprocess.Popen[str]", text: str) -> None:
    assert any(text in line for line in process.stderr), "it ended without a word"


def answer(asking: socket.socket, text: str) -> None:
    with asking:
        asking.send(text.encode())


def test_a_worker_that_is_told_to_end_finishes_its_task_and_claims_no_more(worker, door, db):
    process = worker(FLOWS, "--slots", "1")
    first = run_of("patient", door, db)
    asking, _ = door.accept()
    second = run_of("patient", door, db)
    process.send_signal(signal.SIGTERM)
    await_line(process, "finishing the tasks at hand")
    answer(asking, "finished")
    assert process.wait(30) == 0
    assert task_of(first, db) == ("completed", 1, "finished")
    assert task_of(second, db) == ("queued", 0, None)


def test_a_worker_that_is_told_twice_gives_its_task_back(worker, door, db):
    process = worker()
    run_id = run_of("patient", door, db)
    asking, _ = door.accept()
    process.send_signal(signal.SIGTERM)
    await_line(process, "finishing the tasks at hand")
    assert end(process)[0] == 0
    assert asking.recv(1) == b""  # the handler was cancelled
    asking.close()
    assert task_of(run_id, db) == ("queued", 0, None)


def test_the_task_of_a_killed_worker_is_claimed_again_after_its_timeout(worker, door, db):
    killed = worker()
    run_id = run_of("hasty", door, db)
    lost, _ = door.accept()
    assert end(killed, signal.SIGKILL)[0] == -signal.SIGKILL
    lost.close()
    other = worker()
    asking, _ = door.accept()
    answer(asking, "at last")
    assert end(other)[0] == 0
    assert task_of(run_id, db) == ("completed", 2, "at last")


def test_what_a_killed_worker_had_computed_in_a_process_is_computed_no_more(worker, tmp_path, db):
    process = worker(COMPUTING)
    note = tmp_path / "note"
    os.mkfifo(note)
    start = "select pgflow.start_flow('computing', %s)"
    db.execute(start, [Jsonb({"how": "sleep", "note": str(note)})])
    assert note.read_text()
    process.kill()
    process.communicate(timeout=20)  # until nobody has its stdout any more


def test_a_worker_whose_stdout_nobody_reads_works_all_the_same(environment, door, db):
    reading, writing = os.pipe()
    os.close(reading)
    with subprocess.Popen(
        [*COMMAND, "worker", FLOWS],
        env=environment,
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        os.close(writing)
        while not db.execute("select from pgflow.flows where flow_slug = 'patient'").fetchall():
            assert process.poll() is None
        run_id = run_of("patient", door, db)
        asking, _ = door.accept()
        answer(asking, "done")
        code, errors = end(process)
    assert "Traceback" not in errors
    assert code == 0
    assert task_of(run_id, db) == ("completed", 1, "done")


def test_ctrl_c_ends_an_idle_worker_at_once_and_its_log_is_json(worker):
    process = worker(FLOWS, "--log-format", "json")
    code, errors = end(process, signal.SIGINT)
    assert code == 0
    assert [json.loads(line)["level"] for line in errors.splitlines()] == ["info"]


def test_ctrl_c_ends_a_wait_quietly(spawn, worker, door):
    worker()
    waiting = spawn("start", "patient", json.dumps({"door": door.getsockname()}), "--wait")
    asking, _ = door.accept()
    assert waiting.stderr.readline().startswith("started run ")
    assert end(waiting, signal.SIGINT) == (130, "")
    answer(asking, "to nobody")
