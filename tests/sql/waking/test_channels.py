"""The names under which workers and those who wait are woken."""

import pytest


def channel(core, topic, slug):
    return core.value("select pgflow.channel(%s, %s)", topic, slug)


@pytest.mark.parametrize("topic", ["tasks", "runs"])
def test_the_channel_of_the_longest_slug_has_a_name_that_listen_does_not_cut(core, topic):
    name = channel(core, topic, "f" * 128)
    assert name.startswith(f"pgflow_{topic}_")
    assert core.value("select %s::name::text", name) == name


def test_channels_differ_by_topic_and_by_flow(core):
    names = {channel(core, topic, slug) for topic in ("tasks", "runs") for slug in ("f", "F", "g")}
    assert len(names) == 6


def test_those_who_wait_for_runs_of_different_flows_hold_different_locks(core):
    keys = {core.value("select pgflow.waiting_key(%s)", slug) for slug in ("f", "F", "g")}
    assert len(keys) == 3
