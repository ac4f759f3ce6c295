"""What a worker finds out before it starts to work."""

import pytest
import trio

from pgflow_events import Flow, FlowMismatch, MigrationError, Worker

from ...parts.observing import execute, rows


def flow(*edges: tuple[str, tuple[str, ...]], **options) -> Flow:
    """A flow of these steps with their dependencies."""
    made = Flow("flow", **options)
    for slug, dependencies in edges:
        made.step(*(made.steps[name] for name in dependencies), slug=slug)(lambda *_: None)
    return made


async def test_a_flow_of_another_shape_is_refused_with_all_the_differences(work, database):
    await work(flow(("a", ()), ("b", ("a",)), ("c", ())))
    with pytest.raises(FlowMismatch) as mismatch:
        await Worker([flow(("a", ()), ("b", ()), ("d", ("a",)))], database).run()
    assert "flow 'flow' is stored with another shape" in str(mismatch.value)
    for difference in (
        'step "b" depends on {}, the stored one on {a}',
        'step "c" is stored, but not defined',
        'step "d" is not stored',
    ):
        assert difference in str(mismatch.value)
    assert 'step "a"' not in str(mismatch.value)


async def test_a_flow_of_the_same_shape_with_other_options_sets_them(work, database):
    await work(flow(("a", ())))
    await work(flow(("a", ()), max_attempts=7, base_delay=8, timeout=9, blob_threshold=10))
    (stored,) = await rows(database, "select * from pgflow.flows")
    assert (stored.opt_max_attempts, stored.opt_base_delay) == (7, 8)
    assert (stored.opt_timeout, stored.opt_blob_threshold) == (9, 10)


async def test_a_database_that_was_not_migrated_is_refused(empty_database):
    with pytest.raises(MigrationError, match="run `pgflow-events migrate`"):
        await Worker([flow(("a", ()))], empty_database).run()


async def test_a_database_of_another_release_is_refused(database):
    await execute(database, "update pgflow.schema_files set checksum = '' where path ~ 'claim_'")
    with pytest.raises(MigrationError, match="run `pgflow-events migrate`"):
        await Worker([flow(("a", ()))], database).run()


async def test_stopped_before_it_runs_it_ends_without_a_claim(database, client):
    worker = Worker([flow(("a", ()))], database)
    worker.stop()
    with trio.fail_after(5):
        await worker.run()
    await client.start("flow", None)
    (task,) = await rows(database, "select attempts_count from pgflow.step_tasks")
    assert task.attempts_count == 0
