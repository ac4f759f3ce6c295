"""The proof of the torture finds whatever must not be, and nothing where all is right."""

import os
from collections.abc import Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import count, islice
from pathlib import Path
from types import SimpleNamespace

import psycopg
import pytest
import trio
from psycopg.conninfo import conninfo_to_dict

from blobstore.postgres.ids import new_id
from pgflow_events import Worker, connect
from pgflow_events.postgres.connection import Connection
from pgflow_events.postgres.pool import Pool
from tests.torture import journal, noted, report
from tests.torture.commands import others
from tests.torture.expected import values
from tests.torture.flows import FLOWS, doomed, fan, flow_of, pages
from tests.torture.injecting import Happened
from tests.torture.leavers import prove_processes
from tests.torture.map_flows import maps, skips
from tests.torture.proof import HERE, named, prove, prove_blobs, prove_log
from tests.torture.verdict import complaints

from ...conftest import migrated_database, new_database

RUNS = {fan: 3, pages: 1, doomed: 2, maps: 6, skips: 6}


def inputs(flow, number):
    """The first inputs whose runs are of this flow; a doomed run fails at once if n is odd."""
    every = ({"seed": 1, "n": n} for n in count() if flow is not doomed or n % 2)
    return list(islice((given for given in every if flow_of(given) is flow), number))


async def work(dsn, folder):
    """Let runs of some flows come to their ends; their inputs."""

    @asynccontextmanager
    async def resources():
        async with Pool(dsn) as pool:
            yield {"journal": journal.Journal(folder), "pool": pool}

    started = {}
    async with trio.open_nursery() as nursery, connect(dsn) as client:
        await nursery.start(Worker(FLOWS, dsn, resources=resources).run)
        for flow, number in RUNS.items():
            given = inputs(flow, number)
            ids = [new_id() for _ in given]
            started |= dict(zip(ids, given, strict=True))
            for run in await client.start_many(flow, given, run_ids=ids):
                await run.wait()
                if flow is not doomed:
                    assert await run.result() == values(started[run.id])
        nursery.cancel_scope.cancel()
    return started


@pytest.fixture(scope="module")
def world(server, tmp_path_factory) -> Iterator[str]:
    """A database in which all went well, with what was noted of it; its dsn."""
    folder = tmp_path_factory.mktemp("journals")
    with migrated_database(server.dsn) as dsn:
        with psycopg.connect(dsn) as connection:
            connection.execute((HERE / "schema.sql").read_text().encode())
        started = trio.run(work, dsn, folder)
        with psycopg.connect(dsn) as connection:
            noted.load(connection, started, journal.read(folder), [])
        yield dsn


@pytest.fixture
def connection(world) -> Iterator[psycopg.Connection]:
    """A connection to it, in a transaction that is rolled back."""
    with psycopg.connect(world) as connected:
        yield connected
        connected.rollback()


def violations(connection, damage: str) -> list[str]:
    """What is said after the damage."""
    connection.execute(damage.encode())
    connection.execute("set local session_replication_role = origin")
    return [violation.name for violation in prove(connection)]


def test_where_nothing_went_wrong_no_invariant_is_violated(connection):
    assert violations(connection, "select") == []


# Damages that no trigger sees.
QUIETLY = "set local session_replication_role = replica; "
TOTAL = "where step_slug = 'total'"
FAN = "where flow_slug = 'torture_fan'"
# What must be said of a damage.
DAMAGES = {
    f"{QUIETLY} delete from pgflow.runs {FAN}": "a run that was started is not there",
    f"delete from torture.expected {FAN}": "a run is there that nobody started",
    f"{QUIETLY} update pgflow.runs set status = 'started' {FAN}": "a run has not ended",
    f"{QUIETLY} update pgflow.runs set status = 'failed' {FAN}": (
        "a run ended in a state that is not right"
    ),
    f"{QUIETLY} update pgflow.runs set status = 'completed' where flow_slug = 'torture_doomed'": (
        "a run ended in a state that is not right"
    ),
    f"{QUIETLY} update pgflow.runs set output = '{{\"total\": 1}}' {FAN}": (
        "a run has an output that is not right"
    ),
    f"{QUIETLY} update pgflow.runs set output = null {FAN}": (
        "a run has an output that is not right"
    ),
    f"{QUIETLY} update pgflow.step_states set status = 'failed' where step_slug = 'root'": (
        "a run failed in another step than it had to"
    ),
    f"{QUIETLY} update pgflow.step_states set remaining_deps = 1 {TOTAL}": (
        "a step and its run do not agree"
    ),
    f"{QUIETLY} update pgflow.step_states set status = 'started' where step_slug = 'fatal'": (
        "a step and its run do not agree"
    ),
    f"{QUIETLY} update pgflow.runs set remaining_steps = 1 {FAN}": (
        "a run and its count of steps do not agree"
    ),
    f"{QUIETLY} update pgflow.step_states set status = 'failed' {TOTAL}": (
        "a task and its step do not agree"
    ),
    f"update pgflow.step_tasks set output = '1' {TOTAL}": "a task that had ended was changed",
    f"{QUIETLY} update pgflow.step_tasks set status = 'queued' where status = 'skipped'": (
        "a task and its step do not agree"
    ),
    f"{QUIETLY} delete from pgflow.step_tasks where step_slug = 'told' and task_index = 0": (
        "a map and its tasks do not agree"
    ),
    f"{QUIETLY} update pgflow.step_states set lost_tasks = 0 where step_slug = 'tried'": (
        "a map and its tasks do not agree"
    ),
    f"{QUIETLY} update pgflow.step_tasks set output = '1' where step_slug = 'seen'": (
        "the output of a map is not that of its tasks in their order"
    ),
    f"{QUIETLY} update pgflow.output_blobs set elements = elements[2:] || elements[1] "
    f"where step_slug = 'told' and task_index = -1": (
        "the output of a map is not that of its tasks in their order"
    ),
    "insert into pgflow.map_elements select run_id, step_slug, 1, '[1]' from pgflow.step_states "
    "where step_slug = 'sized' and initial_tasks > 1": (
        "an element is there twice, or of another map"
    ),
    f"insert into torture.changes select run_id, step_slug, task_index, 'queued', 'completed' "
    f"from pgflow.step_tasks {TOTAL}": "a task ended unseen, or twice",
    f"delete from torture.changes {TOTAL}": "a task ended unseen, or twice",
    "update pgflow.runs set completed_at = null": (
        "a run that had ended was changed, or ended twice"
    ),
    "delete from torture.changes where step_slug is null": "a run ended unseen, or twice",
    f"insert into torture.attempts select * from torture.attempts {TOTAL}": (
        "an attempt number ran twice"
    ),
    f"{QUIETLY} update pgflow.step_tasks set attempts_count = 2 where step_slug = 'split'": (
        "a task has the output of another attempt than its last"
    ),
    f"delete from torture.attempts {TOTAL}": ("a task was completed by an attempt that never ran"),
    f"update torture.attempts set step_slug = 'none' {TOTAL}": (
        "an attempt ran of a task that is not there"
    ),
    f"delete from torture.effects {TOTAL}": "an effect of a completed task was lost",
    f"update torture.effects set attempt = 9 {TOTAL}": (
        "an effect is there of an attempt that never ran"
    ),
    f"{QUIETLY} update pgflow.step_tasks set attempts_count = 51 {TOTAL}": (
        "a task had more attempts than it may have"
    ),
    f"update torture.attempts set attempt = 51 {TOTAL}": (
        "a task had more attempts than it may have"
    ),
    "insert into pgmq.q_torture_fan (vt, message) values (now(), '{}')": (
        "a message is queued whose task is not"
    ),
    f"{QUIETLY} update pgflow.step_tasks set status = 'queued' {TOTAL}": (
        "a task is queued whose message is not"
    ),
    "delete from pgmq.a_torture_fan": "a message is not archived once for the task that ended",
    f"{QUIETLY} delete from pgflow.step_tasks {TOTAL}": (
        "a message is archived of no task that ended"
    ),
    "update pgmq.a_torture_fan set message = '{}'": "a message does not say what its task is",
}


@pytest.mark.parametrize(("damage", "said"), DAMAGES.items(), ids=DAMAGES)
def test_a_damage_is_named(connection, damage, said):
    assert said in violations(connection, damage)


def test_each_invariant_was_violated_once():
    assert set(named("invariants.sql")) == set(DAMAGES.values())


async def test_a_blob_that_is_missing_is_named(server, world):
    with new_database(server.dsn, conninfo_to_dict(world)["dbname"]) as dsn:
        async with await Connection.connect(dsn) as connection:
            assert await prove_blobs(connection) == []
            await connection.execute("delete from pgflow.output_blobs where step_slug = 'page'")
            (violation,) = await prove_blobs(connection)
    assert violation.name == "a blob is missing, left over or damaged"


def again(pid: int | None = None, after: float = 60) -> str:
    """Let the attempts of a step run once more, by this process, so many seconds later."""
    return f"""
      insert into torture.attempts
      select run_id, step_slug, task_index, attempt, {pid or "pid"}, at + interval '{after} s'
      from torture.attempts {TOTAL}
    """


def fault(kind: str, pid: int | None, after: float, until: str = "null") -> str:
    """Let something happen so many seconds after these attempts."""
    return f"""
      insert into torture.faults
      select '{kind}', {pid or "null"}, max(at) + interval '{after} s', {until}
      from torture.attempts {TOTAL} and pid = {os.getpid()}
    """


OTHER = 1
TWICE = ["an attempt number ran twice"]
# When it ran again, what happened when, and what is said of it.
EXCUSES = {
    "a crash between the two starts": (fault("crash", None, 30, "'infinity'"), []),
    "a crash after both": (fault("crash", None, 90, "'infinity'"), TWICE),
    "a server that was back before the first": (fault("crash", None, -90, "'-infinity'"), TWICE),
    "its worker was told to end": (fault("SIGTERM", os.getpid(), 30), []),
    "its worker was told to end after both": (fault("SIGTERM", os.getpid(), 90), TWICE),
    "another worker was told to end": (fault("SIGTERM", OTHER, 30), TWICE),
    "its worker was killed": (fault("SIGKILL", os.getpid(), 30), TWICE),
}


@pytest.mark.parametrize(("happened", "said"), EXCUSES.values(), ids=EXCUSES)
def test_only_a_crash_or_a_worker_that_leaves_may_let_an_attempt_number_run_twice(
    connection, happened, said
):
    assert violations(connection, f"{again(OTHER)}; {happened}") == said
    done = report.done(connection)
    excused = done["attempt numbers that ran twice for a crash in between"]
    excused += done["attempt numbers that were given back and ran again"]
    assert excused == (0 if said else RUNS[fan])


def test_a_deadlock_that_the_server_tells_of_is_named(tmp_path: Path):
    log = tmp_path / "log"
    log.write_text("2026-11-30 02:37:09 UTC [7] 57P01 FATAL:  terminating connection\n")
    assert prove_log(log) == []
    with log.open("a") as lines:
        lines.write("2026-11-30 02:37:10 UTC [7] 40P01 ERROR:  deadlock detected\n")
    assert [violation.name for violation in prove_log(log)] == ["a deadlock"]


@pytest.mark.parametrize(
    ("wrong", "waiting", "unexpected", "left", "said"),
    [
        ([], 0, [], True, None),
        (["run 1"], 0, [], True, "a client got a wrong answer"),
        ([], 1, [], True, "a client waits for a run that ended"),
        ([], 0, [1], True, "a worker ended that was not told to"),
        ([], 0, [], False, "workers did not end when they were told to"),
    ],
)
def test_what_clients_and_processes_complain_of_is_named(wrong, waiting, unexpected, left, said):
    ordeal = SimpleNamespace(
        load=SimpleNamespace(wrong=wrong, waiting=waiting),
        crew=SimpleNamespace(unexpected=unexpected),
        left=left,
    )
    assert [violation.name for violation in complaints(ordeal)] == ([said] if said else [])


RUNS_OF_FAN = "select run_id, input from pgflow.runs where flow_slug = 'torture_fan'"
TOLD = """\
2026-11-30 17:34 7 pgflow_events.tasks: torture_fan.split of run x failed in 2 s (attempt 1 of 3)
Traceback (most recent call last):
  File "flows.py", line 1, in split
tests.torture.behaviour.MeantError: attempt 1 was meant to fail

During handling of the above exception, another exception:

Traceback (most recent call last):
  File "flows.py", line 1, in split
OSError: meant too
"""
CLOSED = """\
2026-11-30 17:35 8 root: ended
Traceback (most recent call last):
  File "worker.py", line 1, in run
trio.ClosedResourceError
"""
OUT_OF_ORDER = "a worker that was told to leave did not do so in order"


@pytest.mark.parametrize(
    ("log", "codes", "said"),
    [
        (TOLD, {7: 0}, []),
        (TOLD, {7: 1}, [OUT_OF_ORDER]),
        (TOLD, {7: -15}, [OUT_OF_ORDER]),
        (TOLD, {8: -15}, []),
        ("1 of 1 tasks could not be given back", {7: 1}, []),
        ("1 of 1 tasks could not be given back", {7: -2}, [OUT_OF_ORDER]),
        (TOLD + CLOSED, {7: 0}, ["a traceback in workers.log"]),
    ],
    ids=["in order", "1", "ended", "before it began", "in vain", "interrupted", "a traceback"],
)
def test_how_a_worker_left_is_seen_by_its_exit_code_and_its_log(tmp_path: Path, log, codes, said):
    (tmp_path / "workers.log").write_text(log)
    (tmp_path / "attempts-7").touch()
    assert [each.name for each in prove_processes(tmp_path, codes)] == said


def test_a_deadlock_that_a_migration_may_be_part_of_is_no_fault(tmp_path: Path):
    log = tmp_path / "log"
    log.write_text("2026-11-30 02:37:10.250 UTC [7] 40P01 ERROR:  deadlock detected\n")
    at = datetime(2026, 11, 30, 2, 37, 10, tzinfo=UTC).timestamp()
    assert prove_log(log, [Happened("migrate", None, at, at + 1)]) == []
    assert prove_log(log, [Happened("migrate", None, at + 5, at + 6)])
    assert prove_log(log, [Happened("prune", None, at, at + 1)])


def test_what_killed_processes_have_noted_is_compared_with_runs(connection, tmp_path: Path):
    known = {given["n"]: run_id for run_id, given in connection.execute(RUNS_OF_FAN)}
    (first, _), *_ = known.items()
    (tmp_path / "starts-client-1").write_text(f"about {first}\nstarted {first}\nabout 5000000\n")
    found, wrong = others(connection, tmp_path, [])
    assert (list(found), wrong) == ([known[first]], [])
    (tmp_path / "starts-client-2").write_text("about 5000001\nstarted 5000001\nwrong answer\n")
    assert others(connection, tmp_path, [])[1] == ["answer", "the run of 5000001 is not there"]
