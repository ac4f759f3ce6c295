"""`pgflow-events bench`: what it says, and what it leaves."""

import json
import signal
from pathlib import Path

import psycopg
import pytest

TINY = ("--scale", "0.02")
LEFT = """
select
  array(select flow_slug from pgflow.flows), array(select run_id from pgflow.runs),
  array(select queue_name from pgmq.meta), to_regnamespace('pgflow_bench'),
  array(select proname from pg_proc where pronamespace = 'pgflow_queues'::regnamespace)
"""
NOTHING = ([], [], [], None, [])


def left(database: str) -> tuple[object, ...]:
    with psycopg.connect(database, autocommit=True) as connection:
        return connection.execute(LEFT).fetchall()[0]


def execute(database: str, statement: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(statement)


def test_figures_of_a_scenario_stand_beside_its_floor_and_nothing_is_left(cli, database):
    (wake,) = json.loads(cli("bench", "wake", "--json", *TINY).stdout)
    assert wake.keys() == {
        "scenario", "setting", "unit", "ours", "floor", "beside", "ratio", "peers", "machine"
    }  # fmt: skip
    assert (wake["scenario"], wake["unit"], wake["peers"]) == ("wake", "ms", {})
    for figures in (wake["ours"], wake["floor"], wake["beside"]["NOTIFY alone"]):
        assert 0 < figures["p50"] <= figures["p99"]
    assert wake["ratio"] == pytest.approx(wake["ours"]["p50"] / wake["floor"]["p50"])
    machine = wake["machine"]
    assert machine["cpus"] > 0
    assert machine["cpu_model"]
    assert machine["fsync"] == "off"
    assert machine["postgres"].split(".")[0].isdigit()
    assert machine["noise"]["cpu_p90_by_p10"] >= 1
    assert machine["noise"]["commit_p90_by_p10"] >= 1
    assert left(database) == NOTHING


@pytest.mark.parametrize("scenario", ["rest", "chain", "payload", "fan"])
def test_each_scenario_can_be_measured_and_leaves_nothing(cli, database, scenario):
    answer = cli("bench", scenario, "--json", *TINY)
    assert (answer.returncode, answer.stderr) == (0, "")
    results = json.loads(answer.stdout)
    assert len({result["setting"] for result in results}) == len(results) > 1
    for result in results:
        assert result["ours"].keys() == result["floor"].keys()
        assert all(figure > 0 for figure in [*result["ours"].values(), result["ratio"]])
    assert left(database) == NOTHING


def test_an_idle_worker_takes_next_to_no_cpu(cli, database):
    (idle,) = json.loads(cli("bench", "idle", "--json", *TINY).stdout)
    assert 0 <= idle["ours"]["CPU %"] < 50
    assert left(database) == NOTHING


def test_peers_stand_beside_ours_in_table_and_picture(cli, tmp_path):
    figures = {"ms p50": 12345.6, "ms p99": 23456.7, "ms n": 3}
    peer = {
        "peer": "other", "version": "1.2", "setting": "", "scenario": "wake", "unit": "ms",
        "figures": figures, "rounds": 3,
    }  # fmt: skip
    peers, picture = tmp_path / "peers.jsonl", tmp_path / "bench.png"
    peers.write_text(json.dumps(peer) + "\n")
    answer = cli("bench", "wake", "--peers", str(peers), "--plot", str(picture), *TINY)
    assert answer.returncode == 0, answer.stderr
    assert "other 1.2" in answer.stdout
    assert "12,346" in answer.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size < 150_000


def test_a_file_that_is_none_of_peers_is_refused(cli, tmp_path, database):
    file = tmp_path / "peers.jsonl"
    file.write_text('{"peer": "other"}\n')
    answer = cli("bench", "wake", "--peers", str(file))
    assert answer.returncode == 1
    assert answer.stderr.startswith(f"error: {file} is not a file of peers' figures: ")


def test_flows_of_others_that_have_such_a_name_are_left_alone(cli, database):
    execute(database, "select pgflow.create_flow('bench_mine')")
    answer = cli("bench", "wake", *TINY)
    assert answer.returncode == 1
    assert "there are flows whose names begin with bench_: bench_mine" in answer.stderr
    assert left(database)[:4] == (["bench_mine"], [], ["bench_mine"], None)


def test_a_schema_of_others_that_has_our_name_is_left_alone(cli, database):
    execute(database, "create schema pgflow_bench")
    answer = cli("bench", "wake", *TINY)
    assert (answer.returncode, answer.stderr) == (
        1,
        'error: schema "pgflow_bench" already exists\n',
    )
    assert left(database)[:4] == ([], [], [], "pgflow_bench")


def test_what_a_killed_benchmark_left_is_removed_by_the_next_one(cli, spawn, database):
    process = spawn("bench", "idle")
    until_defined(database)
    process.kill()
    process.wait()
    assert left(database) != NOTHING
    terminate_others(database)
    assert cli("bench", "wake", *TINY).returncode == 0
    assert left(database) == NOTHING


def test_an_interrupted_benchmark_leaves_nothing(spawn, database):
    process = spawn("bench", "idle")
    until_defined(database)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (130, "")
    assert left(database) == NOTHING


def test_two_benchmarks_do_not_meet_in_a_database(cli, spawn, database):
    spawn("bench", "idle")
    until_defined(database)
    answer = cli("bench", "wake", *TINY)
    assert (answer.returncode, answer.stderr) == (
        1,
        "error: another benchmark is running on this database: wait until it ends\n",
    )


def until_defined(database: str) -> None:
    """Wait until a flow is there; the database tells nobody."""
    with psycopg.connect(database, autocommit=True) as connection:
        while not connection.execute("select from pgflow.flows").fetchall():
            connection.execute("select pg_sleep(0.01)")


def terminate_others(database: str) -> None:
    """A killed process's sessions end a little later than it does."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        )


def test_every_scenario_is_named_in_the_docs():
    from pgflow_events.bench import SCENARIOS  # noqa: PLC0415 - the others need the command only

    docs = Path(__file__).parents[3] / "docs" / "measured" / "benchmarks.md"
    assert [name for name in SCENARIOS if f"`{name}`" not in docs.read_text()] == []
