"""What the doctor says of what is lost, and of what belongs to others."""

from pgflow_events.postgres.connection import Connection
from pgflow_events.schema.losses import Queue, count_strange_messages, find_queues
from pgflow_events.schema.migrations import find_missing
from pgflow_events.texts import counted

MIGRATE = "run `pgflow-events migrate`"

Verdicts = list[tuple[str, str]]


async def schema_losses(connection: Connection) -> Verdicts:
    """What migrations made and somebody dropped, disabled or changed."""
    return [("failed", str(thing)) for thing in await find_missing(connection)]


async def queue_losses(connection: Connection) -> Verdicts:
    """What flows lack, and messages in their queues that are not theirs."""
    found = [
        ("failed", f"{queue.flow_slug}: {fault}")
        for queue in await find_queues(connection)
        for fault in faults(queue)
    ]
    for slug, count in (await count_strange_messages(connection)).items():
        found.append(("warning", f"{slug}: {strange(slug, count)}"))
    return found


def faults(queue: Queue) -> list[str]:
    """What is wrong with the queue of a flow, and what to do."""
    said = []
    if queue.others:
        said.append(
            f"{tables(queue.others)} to another application: give the flow another slug; or, if it"
            f" was made for this flow, run `select pgflow.adopt_queue('{queue.flow_slug}')`"
        )
    elif queue.lost:
        lost = " and ".join(f"pgmq.{name}" for name in queue.lost)
        tasks = f", with the messages of {counted(queue.lost_tasks, 'task')}"
        said.append(
            f"{lost} of its queue {'are' if len(queue.lost) > 1 else 'is'} lost"
            f"{tasks if queue.lost_tasks else ''}: {MIGRATE}, which brings them back"
        )
    elif queue.lost_tasks:
        said.append(
            f"the messages of {counted(queue.lost_tasks, 'task')} are lost, so that no worker finds"
            f" these: {MIGRATE}, which sends them again"
        )
    if queue.lost_steps:
        said.append(
            "its steps or their dependencies are lost, since a table was emptied by hand: restart a"
            " worker that has this flow, which defines them again, or restore a backup"
        )
    if queue.stuck_runs:
        said.append(
            f"{counted(queue.stuck_runs, 'run')} cannot go on, since a table was emptied by hand:"
            f" restore a backup, or `{queue.delete_stuck}`"
        )
    if queue.functions and not queue.lost:
        names = ", ".join(f"pgflow_queues.{name}" for name in queue.functions)
        said.append(f"its queue has lost {names}: {MIGRATE}")
    if queue.reuses_ids and not queue.others:
        said.append(f"the ids of its messages began again: {MIGRATE}, which goes on after the old")
    return said


def tables(names: list[str]) -> str:
    """These tables, as a subject and its verb."""
    verb = "belong" if len(names) > 1 else "belongs"
    return f"{' and '.join(f'pgmq.{name}' for name in names)} {verb}"


def strange(slug: str, count: int) -> str:
    """What to do with messages that no flow sent."""
    return (
        f"{counted(count, 'message')} that no flow sent, which workers leave alone: find out what"
        f" calls pgmq.send('{slug}', ...), and move or delete them"
    )
