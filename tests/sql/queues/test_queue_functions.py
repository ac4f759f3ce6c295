"""The functions that are written for the queue of each flow."""

import pytest

SET = "update pgmq.q_f set {column} = {value}"
VALUES = {"headers": "'{\"trace\": 1}'", "last_read_at": "clock_timestamp()", "read_ct": "7"}


@pytest.fixture
def columns(core):
    core.flow("a")
    named = core.rows(
        "select attname from pg_attribute where attrelid = 'pgmq.q_f'::regclass and attnum > 0"
    )
    return [row.attname for row in named]


def test_an_archived_message_keeps_all_that_its_pgmq_knows_of_it(core, columns):
    run = core.start(1)
    core.poll()
    for column in VALUES.keys() & set(columns):
        core.db.execute(SET.format(column=column, value=VALUES[column]))
    names = ", ".join(columns)
    message = core.row(f"select {names} from pgmq.q_f")
    core.complete(run, "a")
    assert core.row(f"select {names} from pgmq.a_f") == message


def test_a_queue_that_is_made_anew_is_used_by_a_session_that_knew_the_old_one(core):
    core.flow("a")
    old = core.start(1)
    core.poll()
    core.complete(old, "a")
    core.db.execute("select pgmq.drop_queue('f')")
    core.db.execute("select pgmq.create('f')")
    run = core.start(2)
    assert [task.run_id for task in core.poll()] == [run]
    core.complete(run, "a")
    assert core.queued() == []
    assert len(core.archived()) == 1


def test_a_flow_whose_name_has_capitals_has_them_under_the_name_of_its_queue(core):
    core.flow("a", slug="Shop")
    run = core.start(1, slug="Shop")
    assert [task.run_id for task in core.poll(slug="Shop")] == [run]


def test_the_longest_slug_has_functions_whose_names_are_not_cut(core):
    slug = "s" * 47
    core.flow("a", slug=slug)
    names = core.rows(
        "select proname from pg_proc where pronamespace = 'pgflow_queues'::regnamespace"
    )
    assert {row.proname.partition("_q_")[2] for row in names} == {slug}


def test_those_of_a_flow_are_dropped_and_no_others(core):
    for slug in ("f", "x_q_f", "ff"):
        core.flow("a", slug=slug)
    core.db.execute("select pgflow.drop_queue_functions('f')")
    names = core.rows(
        "select proname from pg_proc where pronamespace = 'pgflow_queues'::regnamespace"
    )
    assert {row.proname.partition("_q_")[2] for row in names} == {"x_q_f", "ff"}
    assert len(names) == 10


def test_all_of_them_have_a_fixed_search_path_and_the_rights_of_their_caller(core):
    core.flow("a")
    found = core.rows(
        "select proname, prosecdef, proconfig from pg_proc"
        " where pronamespace = 'pgflow_queues'::regnamespace"
    )
    assert len(found) == 5
    assert not any(row.prosecdef for row in found)
    assert all("search_path=pg_catalog, pg_temp" in row.proconfig for row in found)
