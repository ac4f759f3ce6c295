"""`prune`, `blob check`, and what a worker is told of keeping: as processes of their own."""

import json
import random
import re
import signal
import stat
import time
from datetime import timedelta

import click
import psycopg
import pytest
import trio

from blobstore.keys import KeyRing
from pgflow_events import connect
from pgflow_events.cli.quantities import age, size, size_text
from pgflow_events.upkeep import retention

from ...parts.past import add_days, caller, faults, fill, past
from ..conftest import FLOWS, end

WAITS = "select from pg_stat_activity where wait_event_type = 'Lock' and query like %s"
CONNECTED = "select from pg_stat_activity where datname = current_database() and query like %s"


def scalar(database, query, *parameters):
    with psycopg.connect(database, autocommit=True) as connection:
        return connection.execute(query, parameters).fetchone()[0]


def until(connection, query, *parameters):
    """Return when the query has an answer: nobody tells what another session does."""
    deadline = time.monotonic() + 20
    while not connection.execute(query, parameters).fetchall():
        assert time.monotonic() < deadline, query
        time.sleep(0.002)  # of a poll with a deadline


def test_a_dry_run_says_in_numbers_what_prune_then_deletes(cli, database):
    add_days(database, 30)
    for days in (30, 20):
        fill(database, days, 30)
    fill(database, 1, 5)
    said = json.loads(cli("prune", "--older-than", "7d", "--dry-run", "--json").stdout)
    assert said.items() >= {
        "days": [past(30).isoformat()], "runs": 60, "tasks": 60, "blobs": 60, "messages": 60,
        "busy_days": [], "forgotten": 0, "dictionaries": 0, "dry_run": True, "finished": True,
    }.items()  # fmt: skip
    assert said["bytes"] > 60 * 3000
    assert scalar(database, "select count(*) from pgflow.runs") == 65

    shown = cli("prune", "--older-than", "7d", "--dry-run").stdout.splitlines()
    assert shown[0].strip() == "would be deleted"
    done = json.loads(cli("prune", "--older-than", "1w", "--json").stdout)
    assert done == said | {"dry_run": False}
    nothing = cli("prune", "--older-than", "7d")
    assert nothing.returncode == 0
    assert [line.split() for line in nothing.stdout.splitlines()[:3]] == [
        ["deleted"], ["days", "of", "blobs", "0"], ["runs", "0"]
    ]  # fmt: skip
    assert scalar(database, "select count(*) from pgflow.runs") == 5


def test_a_day_in_use_is_named_and_left_to_the_next_time(cli, database):
    add_days(database, 30)
    fill(database, 30, 10)
    with psycopg.connect(database) as reader:
        reader.execute("select from pgflow.output_blobs")
        busy = cli("prune", "--older-than", "7d")
    assert busy.returncode == 0
    assert f"in use, left for the next call: {past(30)}" in busy.stdout
    assert json.loads(cli("prune", "--older-than", "7d", "--json").stdout)["runs"] == 10


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
def test_whoever_interrupts_it_learns_what_was_deleted(spawn, database, as_json):
    add_days(database, 30)
    fill(database, 30, 10)
    with psycopg.connect(database) as other, psycopg.connect(database, autocommit=True) as observer:
        other.execute("lock table pgmq.a_past")
        process = spawn("prune", "--older-than", "7d", *(["--json"] if as_json else []))
        until(observer, WAITS, "%delete_archived%")
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=10)
    assert process.returncode == 130
    assert errors == "interrupted: call it again to delete the rest\n"
    if as_json:
        said = json.loads(output)
        assert (said["runs"], said["messages"], said["finished"]) == (10, 0, False)
    else:
        assert re.search(r"^runs +10$", output, re.MULTILINE)


def test_what_the_server_ends_for_a_deadlock_is_made_again(spawn, database, environment):
    add_days(database, 30)
    fill(database, 30, 10)
    environment["PGOPTIONS"] = "-c deadlock_timeout=1s"
    with psycopg.connect(database) as other, psycopg.connect(database, autocommit=True) as observer:
        other.execute("set deadlock_timeout = '1h'")  # so that it is not the one that is ended
        other.execute("lock table pgflow.runs in exclusive mode")
        process = spawn("prune", "--older-than", "7d", "--json")
        until(observer, WAITS, "%delete_runs%")
        other.execute("select pgflow.lock_retention()")
    output, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (0, "")
    assert json.loads(output)["runs"] == 10


def kill_at_any_moment(process, observer):
    """Kill it after a while that chance tells, once it has made its first call."""
    until(observer, CONNECTED, "%pgflow.%(%")
    time.sleep(random.random() / 5)
    process.kill()
    process.communicate()


async def test_killed_at_any_moment_it_leaves_nothing_half_done_and_the_next_goes_on(
    spawn, cli, database
):
    add_days(database, *range(20, 26))
    for days in range(20, 30):
        fill(database, days, 400)
    kills = 0
    with psycopg.connect(database, autocommit=True) as observer:
        while scalar(database, "select count(*) from pgmq.a_past"):
            kill_at_any_moment(spawn("prune", "--older-than", "7d"), observer)
            kills += 1
            assert not await faults(database)
            assert kills < 50
    assert kills > 1
    done = json.loads(cli("prune", "--older-than", "7d", "--json").stdout)
    assert done["finished"]
    assert scalar(database, "select count(*) from pgflow.runs") == 0
    assert scalar(database, "select count(*) from pgflow.output_blobs") == 0
    assert cli("blob", "check", "--deep").returncode == 0


BUSY = """
from pgflow_events import Flow

busy = Flow("busy", keep_output=0)

@busy.step(busy.input)
async def page(run):
    return "<p>" * 20_000 + str(run["n"])

@busy.step(page, by_element=True)
async def parts(page):
    return [page, page[:20_000], 1]

@busy.step(busy.input, parts)
async def done(run, parts):
    with open(run["file"], "a") as file:
        file.write(f"{parts[0][60_000:]}\\n")
"""


async def test_beside_workers_it_takes_what_has_ended_and_nothing_younger(
    worker, cli, database, tmp_path
):
    (tmp_path / "busy_flow.py").write_text(BUSY)
    ended = tmp_path / "ended"
    workers = [worker(str(tmp_path / "busy_flow.py"), "--keep-runs", "1s") for _ in range(2)]
    make = caller(database)
    pruned = retention.Pruned()
    started = 0

    async def prune():
        while True:
            older_than = await retention.cutoff(make, timedelta(seconds=0.1))
            await retention.prune(make, older_than, pruned)

    async with connect(database) as client, trio.open_nursery() as nursery:
        nursery.start_soon(prune)
        with trio.fail_after(50):
            for _ in range(12):
                inputs = [{"n": started + n, "file": str(ended)} for n in range(30)]
                runs = await client.start_many("busy", inputs)
                started += len(runs)
                for run in runs:
                    await run.wait()
                assert not await faults(database)
        nursery.cancel_scope.cancel()
    assert sorted(map(int, ended.read_text().split())) == list(range(started))
    assert pruned.runs > 0
    for process in workers:
        code, errors = end(process)
        assert code == 0
        assert not re.search("WARNING|ERROR|Traceback", errors), errors
    assert json.loads(cli("prune", "--older-than", "0s", "--json").stdout)["finished"]
    for table in ("runs", "step_tasks", "output_blobs", "blob_chunks"):
        assert scalar(database, f"select count(*) from pgflow.{table}") == 0


def test_the_check_says_what_is_wrong_and_exits_with_1(cli, database):
    add_days(database, 30)
    fill(database, 30, 9)
    well = cli("blob", "check", "--deep")
    assert (well.returncode, well.stderr) == (0, "")
    lines = [line.split() for line in well.stdout.splitlines()]
    assert ["blobs", "9"] in lines
    assert ["read", "9"] in lines
    assert ["faults", "0"] in lines

    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("delete from pgflow.blob_chunks")
    ill = cli("blob", "check")
    assert ill.returncode == 1
    assert ill.stdout.count(": 0 of its 1 chunks are there\n") == 3
    report = json.loads(cli("blob", "check", "--json").stdout)
    assert not report["ok"]
    assert report["faults"][0]["fault"] == "0 of its 1 chunks are there"


@pytest.mark.parametrize("text", ["36500d", "5300w", "999999999d", "9" * 400 + "s"])
def test_an_age_of_a_century_is_refused(text):
    assert age("36499d") == timedelta(days=36499)
    with pytest.raises(click.BadParameter, match="too long: use less than 36500d"):
        age(text)


# What a worker is told


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--keep-runs", "7"], "'7' has no unit: add one of s, m, h, d and w, as in 7d"),
        (["--keep-runs", "99999999999w"], "'99999999999w' is too long"),
        (
            ["--input-budget", "1 apple"],
            "'1 apple' is not a size: use 16MB, 16MiB or 16000000",
        ),
        (["--stop-timeout", "nan"], "'nan' is not a number of seconds: use 30 or 0.5"),
        (["--stop-timeout", "-1"], "'-1' is not a number of seconds"),
        (["--stop-timeout", "0"], "'0' is too short: use more than 0 seconds"),
        (["--keys", "/nowhere"], "error: /nowhere: No such file or directory"),
        (
            ["--objects", "s3://user:hunter2@x"],
            "error: the URL of an object storage may have",
        ),
        (["--input-budget", "0"], "error: input_budget must be more than 0"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_option_that_cannot_be_used_is_told_in_a_line(cli, arguments, message):
    answer = cli("worker", FLOWS, *arguments)
    assert answer.returncode == (1 if message.startswith("error") else 2)
    assert message in answer.stderr
    assert "hunter2" not in answer.stderr


@pytest.mark.parametrize("by", ["option", "credential"])
def test_a_worker_says_what_seals_and_where_large_values_go(worker, environment, tmp_path, by):
    keys = tmp_path / "pgflow-keys"
    keys.write_text(KeyRing.new_line("2026-05"))
    keys.chmod(stat.S_IRUSR)
    environment["PGFLOW_OBJECTS"] = tmp_path.as_uri()
    if by == "credential":
        environment["CREDENTIALS_DIRECTORY"] = str(tmp_path)
    arguments = ["--keys", str(keys)] if by == "option" else []
    started = worker(FLOWS, *arguments, "--object-threshold", "1MB", "--keep-runs", "7d")
    code, errors = end(started)
    assert code == 0
    assert "values are encrypted with key 2026-05\n" in errors
    assert f"values of 1000000 or more go to {tmp_path.as_uri()}\n" in errors
    assert "runs are deleted 7 d 0 h after their end\n" in errors


def test_ages_and_sizes_are_read_in_their_units():
    assert [age(text) for text in ("90s", "1.5h", "2w")] == [
        timedelta(seconds=90), timedelta(hours=1.5), timedelta(weeks=2)
    ]  # fmt: skip
    assert [size(text) for text in ("16MB", "16MiB", "16", "1.5 kB", "2GiB")] == [
        16_000_000, 16 * 2**20, 16, 1500, 2**31
    ]  # fmt: skip
    assert [size(size_text(number)) for number in (0, 1, 2**20, 3 * 2**30, 10**6)] == [
        0, 1, 2**20, 3 * 2**30, 10**6
    ]  # fmt: skip
