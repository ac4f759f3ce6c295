"""What benchmarks make of their figures."""

import sys

import pytest
from rich.console import Console

from pgflow_events.bench.measured import Measured, Result, latencies, multiple, percentile
from pgflow_events.bench.peers import Peer, beside
from pgflow_events.bench.plot import check_plot, plot
from pgflow_events.bench.report import table
from pgflow_events.errors import SettingsError

MACHINE = {
    "noise": {"cpu_p90_by_p10": 1.1, "commit_p90_by_p10": 1.2, "commit_p50_ms": 0.3},
}


def result(scenario="wake", **fields):
    given = {"unit": "ms", "ours": {"p50": 3.0, "p99": 9.0}} | fields
    return Result.of(scenario, Measured(**given), MACHINE)


def text(*results):
    console = Console(width=100)
    with console.capture() as captured:
        console.print(table(results))
    return captured.get()


def peer(**fields):
    given = {"peer": "other", "version": "2", "setting": "default", "scenario": "wake"}
    return Peer(**given | {"unit": "ms", "figures": {"ms p50": 30.0}} | fields)


def test_percentiles_are_values_that_were_measured():
    assert percentile([3, 1, 2], 0.5) == 2
    assert percentile([3, 1, 2], 0.99) == 3
    assert latencies([0.001] * 99 + [1.0]) == {"p50": 1.0, "p99": 1000.0}


def test_twice_the_time_is_twice_the_floor_and_so_is_half_the_rate():
    assert result(floor={"p50": 1.5}).ratio == 2
    rates = {"unit": "runs/s", "ours": {"rate": 500.0}, "floor": {"rate": 1000.0}}
    assert result(**rates).ratio == 2
    named = {"unit": "", "ours": {"runs/s": 500.0}, "floor": {"runs/s": 1000.0}}
    assert result(**named).ratio == 2


@pytest.mark.parametrize("floor", [{}, {"p99": 0.0}, {"p50": 0.0}, {"else": 1.0}])
def test_without_a_floor_there_is_no_ratio(floor):
    assert result(floor=floor).ratio is None


def test_others_are_compared_with_the_floor_as_well():
    measured = result(floor={"p50": 1.5})
    assert multiple(measured, {"p50": 30.0}) == 20
    assert multiple(measured, {"other": 30.0}) is None


def test_peers_come_under_our_names_to_their_settings():
    drains = [
        result("drain", setting=setting, unit="runs/s", ours={"rate": 1.0})
        for setting in ("1 process, no-op, 50 slots", "2 processes, no-op, 50 slots", "more")
    ]
    figures = {"jobs/s": 10.0, "jobs/s, 2 processes": 20.0, "WAL bytes a job": 5.0}
    one, two, more = beside(drains, [peer(scenario="drain", figures=figures), peer()])
    assert one.peers == {"other 2, default": {"rate": 10.0}}
    assert two.peers == {"other 2, default": {"rate": 20.0}}
    assert more.peers == {}


def test_a_table_has_a_line_for_each_who_was_measured():
    (found,) = beside([result(floor={"p50": 1.5}, beside={"NOTIFY": {"p50": 1.0}})], [peer()])
    lines = [line.split() for line in text(found).splitlines()]
    assert ["ours", "ms", "3", "9", "2.00"] in lines
    assert ["floor", "1.5"] in lines
    assert ["NOTIFY", "1", "0.67"] in lines
    assert ["other", "2,", "default", "30", "20.00"] in lines


def test_a_table_without_floors_has_no_column_for_them():
    assert "times the floor" not in text(result())


def test_a_picture_holds_what_can_be_compared(tmp_path):
    file = tmp_path / "bench.png"
    rates = result("drain", setting="a", unit="runs/s", ours={"rate": 5.0}, floor={"rate": 9.0})
    plot([[result(floor={"p50": 1.0})], [rates, result("drain", setting="b")]], file)
    assert file.read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(SettingsError, match=r"pip install 'pgflow-events\[bench\]'"):
        check_plot(tmp_path / "bench.png")


def test_a_picture_without_a_folder_is_refused_at_once(tmp_path):
    with pytest.raises(SettingsError, match="there is no folder"):
        check_plot(tmp_path / "no" / "bench.png")
