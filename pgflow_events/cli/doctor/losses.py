"""The doctor's findings about lost objects, and about objects of other applications."""

from pgflow_events.postgres.connection import Connection
from pgflow_events.schema.alterations import find_altered, find_changed_views
from pgflow_events.schema.losses import Queue, count_strange_messages, find_queues
from pgflow_events.schema.migrations import find_missing
from pgflow_events.texts import counted

MIGRATE = "run `pgflow-events migrate`"

Verdicts = list[tuple[str, str]]


async def schema_losses(connection: Connection) -> Verdicts:
    """Objects of the schema that were dropped, disabled or changed."""
    lost = await find_missing(connection)
    if not any(thing.kind == "relation" for thing in lost):
        lost += [*await find_altered(connection), *await find_changed_views(connection)]
    return [("failed", str(thing)) for thing in lost]


async def queue_losses(connection: Connection) -> Verdicts:
    """What the queues of flows have lost, and messages in them that no flow sent."""
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
            f"{tables(queue.others)} to another application: give the flow another slug; or, if the"
            f" queue is this flow's own, run `select pgflow.adopt_queue('{queue.flow_slug}')`"
        )
    elif queue.lost:
        lost = " and ".join(f"pgmq.{name}" for name in queue.lost)
        tasks = f", with the messages of {counted(queue.lost_tasks, 'task')}"
        said.append(
            f"{lost} of its queue {'are' if len(queue.lost) > 1 else 'is'} lost"
            f"{tasks if queue.lost_tasks else ''}: {MIGRATE}, which restores them"
        )
    elif queue.lost_tasks:
        said.append(
            f"the messages of {counted(queue.lost_tasks, 'task')} are lost, so no worker can find"
            f" them: {MIGRATE}, which sends the messages again"
        )
    if queue.lost_steps:
        said.append(
            "its steps or their dependencies were deleted by hand: restart a worker of this flow,"
            " which defines them again, or restore a backup"
        )
    if queue.stuck_runs:
        said.append(
            f"{counted(queue.stuck_runs, 'run')} cannot go on, because rows were deleted by hand:"
            f" restore a backup, or run `{queue.delete_stuck}`"
        )
    if queue.functions and not queue.lost:
        names = ", ".join(f"pgflow_queues.{name}" for name in queue.functions)
        said.append(f"its queue has lost {names}: {MIGRATE}")
    if queue.is_unnumbered:
        said.append(
            f"its queue no longer numbers its messages, so none can be sent: `{queue.number_again}`"
        )
    elif queue.reuses_ids and not queue.others:
        said.append(f"the ids of its messages began again: {MIGRATE}, which corrects that")
    return said


def tables(names: list[str]) -> str:
    """The tables and their verb, as the beginning of a sentence."""
    verb = "belong" if len(names) > 1 else "belongs"
    return f"{' and '.join(f'pgmq.{name}' for name in names)} {verb}"


def strange(slug: str, count: int) -> str:
    """What to do about messages that no flow sent."""
    return (
        f"the queue has {counted(count, 'message')} that no flow sent and workers ignore: find out"
        f" what calls pgmq.send('{slug}', ...), and move or delete these messages"
    )
