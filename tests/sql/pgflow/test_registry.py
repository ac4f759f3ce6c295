"""What programs written for pgflow find: runs with their states, messages, workers, deletion."""

from uuid import UUID

import pytest
from psycopg import errors
from psycopg.types.json import Jsonb

WORKER = UUID(int=0xA)
REGISTER = """
insert into pgflow.workers (worker_id, queue_name, function_name) values (%s, 'f', 'scraper')
on conflict (worker_id) do update set last_heartbeat_at = now()
"""
VISIBLE_IN = (
    "select round(extract(epoch from vt - clock_timestamp())) from pgmq.q_f order by msg_id"
)


def test_a_run_comes_with_its_states_in_the_order_of_definition(core):
    core.flow("zeta", "alpha<zeta")
    started = core.value("select pgflow.start_flow_with_states('f', '7', %s)", WORKER)
    assert started == core.value("select pgflow.get_run_with_states(%s)", WORKER)
    assert started["run"]["run_id"] == str(WORKER)
    assert started["run"]["input"] == 7
    assert [(step["step_slug"], step["status"]) for step in started["steps"]] == [
        ("zeta", "started"),
        ("alpha", "created"),
    ]


def test_a_flow_without_steps_and_an_unknown_run(core):
    core.flow()
    assert core.value("select pgflow.start_flow_with_states('f', 'null')")["steps"] == []
    assert core.value("select pgflow.get_run_with_states(%s)", WORKER) is None


def test_the_id_of_a_run_is_taken_once(core):
    core.flow("a")
    core.rows("select pgflow.start_flow_with_states('f', '1', %s)", WORKER)
    with pytest.raises(errors.UniqueViolation):
        core.rows("select pgflow.start_flow_with_states('f', '1', %s)", WORKER)


def test_each_message_becomes_visible_after_its_own_time(core):
    core.flow("a", "b", "c")
    core.start()
    ids = [row[0] for row in core.rows("select msg_id from pgmq.q_f order by msg_id")]
    found = core.rows(
        "select * from pgflow.set_vt_batch('f', %s, %s)", [ids[2], ids[0], 99], [30, 10, 5]
    )
    assert {row.msg_id: row.message["step_slug"] for row in found} == {ids[2]: "c", ids[0]: "a"}
    assert [row.headers for row in found] == [None, None]
    assert [row[0] for row in core.rows(VISIBLE_IN)] == [10, 0, 30]


@pytest.mark.parametrize("nothing", ["null", "'{}'"])
def test_without_messages_none_is_found(core, nothing):
    core.flow("a")
    assert core.rows(f"select pgflow.set_vt_batch('f', {nothing}, array[1])") == []
    assert core.rows(f"select pgflow.set_vt_batch('f', array[1], {nothing})") == []


def test_what_cannot_be_set_is_named(core):
    with (
        pytest.raises(errors.RaiseException, match=r"length \(2\) must equal .* length \(1\)"),
        core.db.transaction(),
    ):
        core.rows("select pgflow.set_vt_batch('f', '{1,2}', '{1}')")
    with pytest.raises(errors.UndefinedTable, match=r'relation "pgmq.q_nowhere" does not exist'):
        core.rows("select pgflow.set_vt_batch('nowhere', '{1}', '{1}')")


def test_workers_of_pgflow_are_registered_seen_again_and_stopped(core):
    for _ in range(2):
        core.rows(REGISTER + " returning 1", WORKER)
    assert core.row("select * from pgflow.workers").stopped_at is None
    core.rows("select pgflow.mark_worker_stopped(%s)", WORKER)
    assert core.row("select * from pgflow.workers").stopped_at is not None


def test_functions_that_run_workers_are_registered_once(core):
    for _ in range(2):
        core.rows("select pgflow.track_worker_function('scraper')")
    (found,) = core.rows("select * from pgflow.worker_functions")
    assert found.enabled
    assert found.updated_at > found.created_at


def test_only_the_secret_of_local_development_is_local(core):
    assert core.value("select pgflow.is_local()") is False
    for secret, is_local in (
        ("production", False),
        ("super-secret-jwt-token-with-at-least-32-characters-long", True),
    ):
        core.rows("select set_config('app.settings.jwt_secret', %s, true)", secret)
        assert core.value("select pgflow.is_local()") is is_local


def test_a_flow_is_deleted_with_all_it_has_and_no_other(core):
    core.flow("a", "b<a", slug="other")
    other = core.start(slug="other")
    core.flow("a", "b<a")
    core.rows("update pgflow.flows set opt_blob_threshold = 10 where flow_slug = 'f' returning 1")
    core.rows("select pgflow.start_flow('f', %s)", Jsonb("x" * 100))
    core.rows("select pgflow.delete_flow_and_data('f')")
    for table in ("flows", "steps", "deps", "runs", "step_states", "step_tasks"):
        assert core.rows(f"select from pgflow.{table} where flow_slug = 'f'") == []
    assert core.rows("select from pgflow.output_blobs") == []
    assert core.rows("select from pgmq.list_queues() where queue_name = 'f'") == []
    left = "select from pg_proc where pronamespace = 'pgflow_queues'::regnamespace"
    assert core.rows(left + " and proname like '%%\\_q\\_f'") == []
    assert core.tasks(other) == {"a": "queued"}
    core.flow("a")
    assert core.tasks(core.start()) == {"a": "queued"}


def test_to_delete_a_flow_that_is_not_there_changes_nothing(core):
    core.rows("select pgflow.delete_flow_and_data('nowhere')")
