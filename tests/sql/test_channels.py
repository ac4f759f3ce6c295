"""The names under which workers and those who wait are woken."""

import pytest


def channel(core, topic, slug):
    return core.value("select pgflow.channel(%s, %s)", topic, slug)


@pytest.mark.parametrize("slug", ["f", "F" * 47])
def test_a_channel_has_a_name_that_listen_does_not_cut(core, slug):
    name = channel(core, "tasks", slug)
    assert name.startswith("pgflow_tasks_")
    assert len(name) < 63
    core.db.execute(f"listen {name}")
    assert core.value("select pg_listening_channels()") == name


def test_channels_differ_by_topic_and_by_flow(core):
    names = {channel(core, topic, slug) for topic in ("tasks", "runs") for slug in ("f", "F", "g")}
    assert len(names) == 6


def test_those_who_wait_for_runs_of_different_flows_hold_different_locks(core):
    keys = {core.value("select pgflow.waiting_key(%s)", slug) for slug in ("f", "F", "g")}
    assert len(keys) == 3
