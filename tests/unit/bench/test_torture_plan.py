"""What goes wrong in a torture, and how its runs have to end, follows from the seed alone."""

from collections import Counter

import pytest

from tests.torture import plan
from tests.torture.behaviour import behaviour
from tests.torture.expected import ending, ending_of
from tests.torture.flows import FLOWS, SMALL, file_of, flow_of, page_of


def test_a_seed_has_the_same_faults_each_time_and_another_one_has_others():
    assert plan.faults(7, 60) == plan.faults(7, 60)
    assert plan.faults(7, 60) != plan.faults(8, 60)


def test_ten_minutes_have_as_many_faults_as_are_wanted():
    faults = plan.faults(1, 600)
    counts = Counter(fault.kind for fault in faults)
    assert counts["SIGKILL"] >= 500
    assert counts["SIGSTOP"] >= 500
    assert counts["backend"] >= 500
    assert counts["crash"] >= 50
    assert [fault.at for fault in faults] == sorted(fault.at for fault in faults)
    assert 0 <= faults[0].at < faults[-1].at < 600
    stops = [fault.length for fault in faults if fault.kind == "SIGSTOP"]
    assert 0.15 < sum(length > 2 for length in stops) / len(stops) < 0.35


def test_a_backlog_and_a_trickle_alone_take_turns():
    assert {plan.is_backlog(second) for second in range(12)} == {True, False}


@pytest.mark.parametrize("n", range(40))
def test_what_a_run_does_follows_from_its_input(n):
    given = {"seed": 1, "n": n}
    again = dict(given)
    assert flow_of(given) is flow_of(again)
    assert behaviour(given, "step") == behaviour(again, "step")
    assert page_of(given) == page_of(again)
    assert ending(given) == ending(again)


def test_runs_of_all_flows_are_started_and_some_attempts_fail():
    inputs = [{"seed": 1, "n": n} for n in range(1000)]
    assert {flow_of(given).slug for given in inputs} == {flow.slug for flow in FLOWS}
    failures = [behaviour(given, "step").failures for given in inputs]
    assert 0 < sum(map(bool, failures)) < 200
    assert any(len(file_of(given)) > 4 * 1024 * 1024 for given in inputs[:20])


def test_a_run_of_a_small_flow_ends_with_the_double_and_one():
    assert ending_of(f"{SMALL}7", {"seed": 1, "n": 3}).output == {"add": 7}
