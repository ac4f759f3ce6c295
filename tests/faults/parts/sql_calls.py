"""All that a plain SQL caller does to a flow, from its definition to the deletion of its runs."""

from typing import Any

import psycopg

PAGE = "<p>'a long' \\ \"page\", " * 2000
INPUT = {"null": [None, 0.1, 1e-300], "text": "NULL \\ ' \" \u20ac"}

DEFINE = """
select
  pgflow.create_flow('f', 2, 0, 30), pgflow.add_step('f', 'a'), pgflow.add_step('f', 'b', '{a}')
"""
START = "select run_id from pgflow.start_flow('f', %s::jsonb)"
POLL = """
select step_slug, input, attempts_count, timeout, blobs_refs
from pgflow.poll_for_tasks('f', 1, 9, 0)
"""
FAIL = "select status, error_message from pgflow.fail_task(%s, 'a', 0, %s)"
COMPLETE = "select status, attempts_count from pgflow.complete_task(%s, %s, 0, %s::jsonb)"
ENDED = """
select status, output, (select jsonb_object_agg(step_slug, status) from pgflow.step_states)
from pgflow.runs
"""
DAYS = """
select d.day - (clock_timestamp() at time zone 'UTC')::date, lower < upper,
  lower = pgflow.first_id((extract(epoch from d.day) * interval '1 second') + 'epoch'::timestamptz),
  to_regclass(pgflow.blob_partition('output_blobs', d.day)) is not null
from pgflow.blob_days() d
"""
BLOBS = """
select b.run_id = r.run_id, pgflow.blob_json(b.id) #>> '{}',
  b.id >= pgflow.first_blob_id(r.run_id), b.id <= pgflow.last_blob_id(r.run_id)
from pgflow.output_blobs b, pgflow.runs r
"""
LATER = "clock_timestamp() + interval '1 minute'"
PRUNABLE = f"select runs, tasks, blobs from pgflow.prunable({LATER})"
DELETE = f"select runs, tasks, blobs from pgflow.delete_runs({LATER}, null, 100, '{{}}')"
LEFT = """
select (select count(*) from pgflow.runs), (select count(*) from pgflow.step_tasks),
  (select count(*) from pgflow.step_states), (select count(*) from pgflow.output_blobs)
"""


def do_all(dsn: str) -> list[Any]:
    """What each call answers; it is the same whenever and wherever it is called."""
    answers: list[Any] = []
    with psycopg.connect(dsn, autocommit=True, client_encoding="utf8") as connection:

        def call(statement: str, *parameters: object) -> list[Any]:
            rows = connection.execute(statement, parameters or None).fetchall()
            answers.append(rows)
            return rows

        connection.execute(DEFINE)
        ((run_id,),) = connection.execute(START, [psycopg.types.json.Jsonb(INPUT)]).fetchall()
        call(POLL)
        call(FAIL, run_id, PAGE)
        call(POLL)
        call(COMPLETE, run_id, "a", psycopg.types.json.Jsonb(PAGE))
        ((_, _, _, _, refs),) = connection.execute(POLL).fetchall()
        answers.append(list(refs))
        call(COMPLETE, run_id, "b", psycopg.types.json.Jsonb(INPUT))
        call(ENDED)
        connection.execute("select pgflow.ensure_blob_days(3)")
        call(DAYS)
        call(BLOBS)
        call("select count(*) from pgflow.blob_faults()")
        call(PRUNABLE)
        call(DELETE)
        call(LEFT)
    return answers
