"""What must be true when all is over, whatever has happened meanwhile."""

from ...parts.observing import rows
from ...parts.past import faults

# Each counts something that must not be.
WRONG = {
    "runs that go on": "select from pgflow.runs where status = 'started'",
    "tasks that wait": "select from pgflow.step_tasks where status = 'queued'",
    "states that go on": """
        select from pgflow.step_states s join pgflow.runs r using (run_id)
        where s.status = 'started' or (s.status = 'created' and r.status <> 'failed')
    """,
    "runs whose count of steps is wrong": """
        select from pgflow.runs r where r.status = 'completed' and r.remaining_steps <> 0
    """,
    "attempts beyond what is allowed": """
        select from pgflow.step_tasks t join pgflow.flows f using (flow_slug)
        join pgflow.steps s using (flow_slug, step_slug)
        where t.attempts_count > coalesce(s.opt_max_attempts, f.opt_max_attempts)
    """,
}
QUEUES = "select queue_name from pgmq.meta"


async def assert_sound(dsn: str) -> None:
    """Nothing is lost, left over or half done."""
    for what, query in WRONG.items():
        assert not await rows(dsn, query), what
    for (queue,) in await rows(dsn, QUEUES):
        assert not await rows(dsn, f"select from pgmq.q_{queue}"), f"messages in {queue}"
    found = await faults(dsn)
    assert found == [], found
