"""Options that a new definition changes while runs are under way: these come to their end."""

import pytest
from psycopg.types.json import Jsonb

A = {"step_slug": "a", "deps_slugs": []}
B = {"step_slug": "b", "deps_slugs": ["a"]}
C = {"step_slug": "c", "deps_slugs": ["b"]}
PLAIN = (A, B, C)
LATE = {"start_delay": 5}
OTHERS = {
    "a late root": (A | LATE, B, C),
    "a late step": (A, B | LATE, C),
    "a late leaf": (A, B, C | LATE),
}


def define(core, steps):
    options = {"max_attempts": 1, "base_delay": 0, "timeout": 60, "blob_threshold": 8192}
    definition = {"flow_slug": "f", **options, "steps": list(steps)}
    assert core.value("select pgflow.define_flow(%s)", Jsonb(definition)) == []


@pytest.mark.parametrize("done", [0, 1, 2], ids=["at its start", "after a", "after b"])
@pytest.mark.parametrize("was_plain", [True, False])
@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_a_run_goes_on_though_its_steps_become_plain_or_cease_to_be(core, other, was_plain, done):
    before, after = (PLAIN, other) if was_plain else (other, PLAIN)
    define(core, before)
    run_id = core.start()
    for slug in "abc"[:done]:
        core.complete(run_id, slug, 1)
    define(core, after)
    for slug in "abc"[done:]:
        core.complete(run_id, slug, 1)
    assert (core.run(run_id).status, core.run(run_id).output) == ("completed", {"c": 1})
    assert not core.queued()
