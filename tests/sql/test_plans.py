"""Plans of what workers call, where statistics are missing or old and 10,000 tasks wait.

A plan is judged by what it did: each node tells how many rows it read. A plan that reads a
table where it should look up a few rows reads thousands, whichever way it does so.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.rows import namedtuple_row

from ..conftest import new_database
from ..parts.models.core import Claim, Core, Outcome

TASKS = 10_000
BATCH = 50
FEW = 20 * BATCH  # rows: each task has a run of four steps, and is looked up a few times
MANY = 20 * TASKS
GROWING = {
    "runs": "pgflow",
    "step_states": "pgflow",
    "step_tasks": "pgflow",
    "q_f": "pgmq",
    "a_f": "pgmq",
    "output_blobs": "pgflow",
    "blob_chunks": "pgflow",
}
EMPTY = "truncate pgflow.runs, pgflow.step_states, pgflow.step_tasks, pgmq.q_f, pgmq.a_f"
DAY = re.compile(r"_(\d{8}|default)$")
TABLES = """
select oid::regclass from pg_class
where relkind = 'r' and relname like any(%s) and relnamespace::regnamespace::text ~ '^pg(flow|mq)$'
"""
AUTO_EXPLAIN = {
    "log_min_duration": "0",
    "log_nested_statements": "on",
    "log_analyze": "on",
    "log_timing": "off",
    "log_format": "json",
    "log_level": "notice",
}


@dataclass(frozen=True)
class Plan:
    """A plan that was executed by a call."""

    call: str
    tree: dict[str, Any]
    limit: int

    def __repr__(self) -> str:
        return f"\n{self.call}: {' '.join(self.tree['Query Text'].split())}\n{self.steps()}"

    def steps(self) -> str:
        return "\n".join(
            f"  {node['Node Type']} {node.get('Relation Name', '')}: {read(node)} rows"
            for node in nodes(self.tree["Plan"])
        )


def nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from nodes(child)


def read(node: dict[str, Any]) -> float:
    dropped = ("Rows Removed by Filter", "Rows Removed by Join Filter")
    rows = node["Actual Rows"] + sum(node.get(name, 0) for name in dropped)
    return rows * node["Actual Loops"]


class Planned:
    """Calls of the core whose plans are kept."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.plans: list[Plan] = []
        self.call, self.limit = "", FEW
        core.db.add_notice_handler(self._keep)
        core.db.execute("load 'auto_explain'")
        for name, value in AUTO_EXPLAIN.items():
            core.db.execute(f"set auto_explain.{name} = '{value}'")

    def _keep(self, notice: psycopg.errors.Diagnostic) -> None:
        text = notice.message_primary or ""
        by_hand = self.call == "db"
        if text.startswith("duration:") and not by_hand:
            self.plans.append(Plan(self.call, json.loads(text[text.index("{") :]), self.limit))

    def __getattr__(self, call: str) -> Any:
        self.call, self.limit = call, FEW
        return getattr(self.core, call)

    def bulk(self, call: str, query: str, *params: Any) -> None:
        """Make a call that is about all tasks; of its 10,000 plans only the slow ones are kept."""
        self.call, self.limit = call, MANY
        self.core.rows("select set_config('auto_explain.log_min_duration', '5ms', false)")
        self.core.rows(query, *params)
        self.core.rows("select set_config('auto_explain.log_min_duration', '0', false)")


def grows(node: dict[str, Any]) -> bool:
    return DAY.sub("", node.get("Relation Name", "")) in GROWING


def done(claim: Claim, **outcome: Any) -> list[Outcome]:
    return [Outcome(t.run_id, t.step_slug, t.attempts_count, **outcome) for t in claim.tasks]


def stored(core: Any, claim: Claim) -> list[Outcome]:
    """The same with blobs: in a row, in chunks, by elements."""

    def by_elements(run: UUID, step: str) -> UUID:
        return core.blob(run, step, elements=[core.blob(run, step)])

    makers = cycle([core.blob, core.upload, by_elements])
    return [
        Outcome(t.run_id, t.step_slug, blob=make(t.run_id, t.step_slug))
        for t, make in zip(claim.tasks, makers, strict=False)
    ]


def unfinished(core: Any, claim: Claim) -> None:
    """Begin an upload for each task, and do not end it."""
    for task in claim.tasks:
        core.write(core.open(task.run_id, task.step_slug, None), 0)


def work(core: Any, batch: int) -> None:
    """Make each call of the seed, about one task, and then those of a worker, about `batch`."""
    run = core.start()
    core.poll(1)
    core.complete(run, "root")
    core.fail(run, "left")
    core.complete(run, "right")
    roots = core.claim(batch)
    outputs = stored(core, roots)
    halves = core.settle(*outputs, qty=batch, max_bytes=10**9)
    core.settle(*outputs)  # again
    late = [
        Outcome(t.run_id, "left", attempt=9, blob=core.blob(t.run_id, "left")) for t in roots.tasks
    ]
    core.settle(*late)
    core.settle(*[Outcome(t.run_id, t.step_slug, attempt=9) for t in halves.tasks])  # stale
    others = core.settle(*done(halves), qty=batch)
    unfinished(core, others)
    again = core.settle(*done(others, error="boom"), qty=batch)
    core.settle(*done(again, error="poison", permanent=True))
    core.claim(batch)
    core.db.execute("update pgflow.step_tasks set attempts_count = 3 where started_at is not null")
    core.db.execute("update pgmq.q_f set vt = clock_timestamp() where read_ct > 0")
    core.claim(batch, max_bytes=10)
    read = core.db.execute("select msg_id from pgmq.read('f', 2, %s)", [batch])
    started = core.start_tasks([row.msg_id for row in read.fetchall()])
    for task in started[:1]:
        core.complete(task.run_id, task.step_slug)
    for task in started[1:2]:
        core.fail(task.run_id, task.step_slug)
    core.rows("select set_config('enable_seqscan', 'off', false)")  # as our functions do
    for blob in core.blobs_of(roots.tasks[0].run_id):
        core.read(blob)
    core.delete([task.run_id for task in roots.tasks[::2]])
    core.rows("select set_config('enable_seqscan', 'on', false)")
    core.rows("select pgflow.start_flow('f', to_jsonb(repeat('x', 10000)))")


STATISTICS = ["none", "none, plans of empty tables", "old", "of empty tables"]


@pytest.fixture(scope="module", params=STATISTICS)
def plans(
    request: pytest.FixtureRequest, any_server: Any, any_template: str
) -> Iterator[list[Plan]]:
    """The plans of every call, made in one session while 10,000 tasks wait."""
    with (
        new_database(any_server.dsn, any_template) as dsn,
        psycopg.connect(dsn, autocommit=True, row_factory=namedtuple_row) as connection,
    ):
        core = Core(connection)
        core.flow("root", "left<root", "right<root", "join<left,right", base_delay=0)
        for (table,) in core.rows(TABLES, [f"{name}%" for name in GROWING]):
            connection.execute(f"alter table {table} set (autovacuum_enabled = off)")
        if request.param != "none":
            for n in range(8):  # from the sixth on, plans are kept
                core.start_many(3)
                work(core, 3)
                if n == 0 and request.param == "old":
                    connection.execute("analyze")
                if n == 0 and request.param == "of empty tables":
                    connection.execute(EMPTY)
                    connection.execute("analyze")
        planned = Planned(core)
        planned.bulk(
            "start_flows",
            "select from pgflow.start_flows('f', array_fill('1'::jsonb, array[%s]))",
            TASKS,
        )
        work(planned, BATCH)
        planned.bulk(
            "requeue", "update pgflow.step_tasks set queued_at = clock_timestamp() returning 1"
        )
        planned.bulk("requeue_stalled_tasks", "select pgflow.requeue_stalled_tasks()")
        planned.bulk("end", "update pgflow.runs set status = 'failed' returning 1")
        yield planned.plans


def test_a_worker_reads_no_table_from_end_to_end(plans):
    assert [
        plan
        for plan in plans
        if plan.limit == FEW
        for node in nodes(plan.tree["Plan"])
        if node["Node Type"] == "Seq Scan" and grows(node)
    ] == []


def test_a_worker_reads_only_the_rows_of_its_own_tasks(plans):
    calls = {plan.call for plan in plans}
    assert calls >= {"claim", "settle", "poll", "complete", "fail", "start_flows", "requeue", "end"}
    assert calls >= {"upload", "open", "read", "delete", "start_tasks", "requeue_stalled_tasks"}
    assert [
        plan for plan in plans if any(read(node) > plan.limit for node in nodes(plan.tree["Plan"]))
    ] == []


def test_no_plan_is_dear_enough_to_be_compiled(plans):
    assert [plan for plan in plans if "JIT" in plan.tree] == []
