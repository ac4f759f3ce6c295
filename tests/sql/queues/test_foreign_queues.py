"""Queues that another application made, and messages in ours that no flow sent."""

import pytest
from psycopg import errors
from psycopg.types.json import Jsonb

from ...parts.models.core import Outcome

DEFINITION = {
    "flow_slug": "emails",
    "max_attempts": 3,
    "base_delay": 1,
    "timeout": 60,
    "blob_threshold": 8192,
    "steps": [{"step_slug": "a", "deps_slugs": []}],
}
TABLE = "create table pgmq.q_emails (msg_id bigint primary key, vt timestamptz, message jsonb)"
FOREIGN = {
    "a queue": "select pgmq.create('emails')",
    "a queue in other letters": "select pgmq.create('EMails')",
    "an unlogged queue": "select pgmq.create_unlogged('emails')",
    "a table that pgmq knows nothing of": TABLE,
    "a table by parts": TABLE.replace(" primary key", "") + " partition by range (vt)",
    "a view": "create view pgmq.q_emails as select 1 as msg_id",
    "a type": "create type pgmq.q_emails as (address text)",
    "another type": "create type pgmq.q_emails as enum ('sent')",
    "a domain": "create domain pgmq.a_emails as text",
    "an index": "create index q_emails on pgmq.meta (created_at)",
    "a sequence": "create sequence pgmq.a_emails",
    "an archive alone": "select pgmq.create('emails'); drop table pgmq.q_emails",
    "a queue that the engine of that name left behind": """
        select pgmq.create('emails');
        select pgmq.send('emails', '{"flow_slug": "emails", "run_id": "1", "step_slug": "a"}')
    """,
    "a queue with a comment": """
        select pgmq.create('emails');
        comment on table pgmq.q_emails is 'mine'
    """,
}
# The form of a message names a task in all four parts.
OTHERS = [
    {"to": "jane@example.org"},
    {},
    [],
    ["flow_slug", "run_id", "step_slug", "task_index"],
    "flow_slug",
    7,
    None,
    {"flow_slug": "f", "run_id": "1", "step_slug": "a"},
    {"run_id": "0199f3a4-7f5e-7cc1-8a52-3f0c2d1b9e6a"},
]


@pytest.mark.parametrize("made", FOREIGN.values(), ids=FOREIGN)
@pytest.mark.parametrize("call", ["create_flow", "define_flow", "define_flow of one there is"])
def test_what_another_application_made_is_refused_and_left_alone(core, made, call):
    if call == "define_flow of one there is":
        core.rows("select pgflow.define_flow(%s)", Jsonb(DEFINITION))
        core.rows("select pgmq.drop_queue('emails')")
    core.db.execute(made)
    argument = "emails" if call == "create_flow" else Jsonb(DEFINITION)
    with pytest.raises(errors.DuplicateTable) as refused:
        core.rows(f"select pgflow.{call.split()[0]}(%s)", argument)
    said = str(refused.value)
    assert 'the flow "emails" cannot use pgmq.' in said
    assert "to another application" in said
    assert "another slug" in said
    assert "select pgflow.adopt_queue('emails')" in said


def test_a_queue_that_was_made_for_a_flow_by_hand_can_be_adopted(core):
    core.rows("select pgmq.create('f'), pgmq.send('f', '{}')")
    core.rows("select pgflow.adopt_queue('f')")
    core.flow("a")
    run = core.start()
    assert [task.run_id for task in core.poll()] == [run]


def test_a_queue_that_is_not_there_cannot_be_adopted(core):
    with pytest.raises(errors.UndefinedTable, match=r"there is no table pgmq\.q_f"):
        core.rows("select pgflow.adopt_queue('f')")


def test_a_flow_that_was_deleted_finds_its_queue_again(core):
    core.flow()
    core.rows("delete from pgflow.flows returning 1")
    core.rows("select pgflow.drop_queue_functions('f')")
    core.flow("a")
    run = core.start()
    assert [task.run_id for task in core.poll()] == [run]


def send(core, message):
    return core.value("select pgmq.send('f', %s)", Jsonb(message))


def stored(core, message_id):
    query = "select * from pgmq.q_f where msg_id = %s"
    return core.row(query, message_id)


@pytest.mark.parametrize("message", OTHERS, ids=repr)
def test_a_message_that_no_flow_sent_is_left_as_it_is_and_nothing_waits_for_it(core, message):
    core.flow("a", "b<a")
    foreign = send(core, message)
    before = stored(core, foreign)
    run = core.start()
    claim = core.claim(1)
    assert claim.steps == ["a"]
    assert core.settle(*outcomes(claim), qty=1).steps == ["b"]
    core.lapse_of(run, "b")
    claim = core.claim(1)
    assert (claim.steps, claim.tasks[0].attempts_count) == (["b"], 2)
    assert core.settle(*outcomes(claim), qty=1).next_due is None
    assert core.run(run).status == "completed"
    claim = core.claim()
    assert (claim.tasks, claim.next_due, claim.next_bytes, claim.lapsed) == ([], None, None, False)
    assert stored(core, foreign) == before
    assert core.queued() == [foreign]


def outcomes(claim):
    return [Outcome(task.run_id, task.step_slug, task.attempts_count) for task in claim.tasks]


def test_many_messages_that_no_flow_sent_do_not_hide_a_task(core):
    core.flow("a")
    core.rows("select pgmq.send_batch('f', array_fill('{}'::jsonb, array[300]))")
    run = core.start()
    core.rows("select pgmq.send_batch('f', array_fill('{}'::jsonb, array[300]))")
    assert [task.run_id for task in core.claim(1).tasks] == [run]
    assert core.claim().next_due > 1


def test_a_message_that_no_flow_sent_is_not_archived_for_a_task_of_its_number(core):
    core.flow("a")
    run = core.start()
    (task,) = core.poll()
    core.rows("select pgmq.drop_queue('f'), pgmq.create('f')")
    foreign = send(core, {"to": "jane@example.org"})
    assert core.task(run, "a").message_id == foreign
    before = stored(core, foreign)
    core.fail(run, "a")
    assert stored(core, foreign) == before
    core.complete(run, "a", task.input)
    assert (core.run(run).status, core.queued(), core.archived()) == ("completed", [foreign], [])
