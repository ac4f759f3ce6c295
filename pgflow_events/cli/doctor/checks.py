"""The checks of the doctor."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

import psycopg
import trio

from pgflow_events.cli.command import OTHER_SCHEMA, reason
from pgflow_events.cli.doctor.losses import queue_losses, schema_losses
from pgflow_events.core import summaries
from pgflow_events.core.waking import ping
from pgflow_events.errors import MigrationError
from pgflow_events.postgres.connection import Connection
from pgflow_events.postgres.listener import Listener
from pgflow_events.postgres.passing import STANDBY
from pgflow_events.postgres.session import Fixed
from pgflow_events.schema.migrations import check_schema
from pgflow_events.schema.pgmq import pgmq_state
from pgflow_events.schema.rights import missing_grants
from pgflow_events.schema.strangers import refuse_another_pgmq, refuse_unseen
from pgflow_events.texts import counted, duration, enumeration

OLDEST_SERVER = 15
FULL_QUEUE = 0.1  # of the server's 8 GiB for notifications; at 1, commits that notify fail
OLD_TRANSACTION = 300.0  # seconds
LONG_WAIT = 60.0  # seconds a task may wait before the doctor warns
LISTENS_WITHIN = 10.0  # seconds to connect and LISTEN
ON_ITS_WAY = 2.0  # seconds a notification may take


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found."""

    check: str
    status: str
    """``ok``, ``warning`` or ``failed``."""
    found: str


Verdicts = list[tuple[str, str]]  # status and finding; a check of all queues has one for each
Check = Callable[[Connection], Awaitable[Verdicts]]


async def examine(dsn: str, listen_dsn: str) -> list[Finding]:
    """Make all checks. If the server cannot be reached, return only that."""
    try:
        connection = await Connection.connect(dsn)
    except psycopg.OperationalError as error:
        return [Finding("server", "failed", reason(error) or "")]
    except MigrationError as error:
        return [Finding("schema", "failed", str(error))]
    checks: dict[str, Check] = {
        "server": server,
        "pgmq": pgmq,
        "schema": schema,
        "settings": settings,
        "notifications": partial(notifications, listen_dsn),
        "notification queue": notification_queue,
        "transactions": transactions,
        "queues": partial(of_ours, queues),
        "workers": partial(of_ours, workers),
        "failed runs": partial(of_ours, failed_runs),
    }
    async with connection:
        return [
            Finding(name, *verdict)
            for name, check in checks.items()
            for verdict in await verdicts(check, connection)
        ]


async def verdicts(check: Check, connection: Connection) -> Verdicts:
    """Make a check. If it raises an error, the verdict says why."""
    try:
        return await check(connection)
    except OTHER_SCHEMA as error:
        # The check "schema" says what to do.
        return [("failed", f"cannot be checked: {error.diag.message_primary}")]
    except Exception as error:
        if text := reason(error):
            return [("failed", text)]
        raise


async def of_ours(check: Check, connection: Connection) -> Verdicts:
    """Make a check that reads our tables, unless this role cannot see them."""
    await refuse_unseen(connection)
    return await check(connection)


async def server(connection: Connection) -> Verdicts:
    """Whether the server is supported, and takes writes."""
    info = connection.info
    version = info.server_version // 10000
    number = info.parameter_status("server_version")
    found = f"PostgreSQL {number}, database {info.dbname}, role {info.user}"
    if version < OLDEST_SERVER:
        return [("failed", f"{found}: upgrade to PostgreSQL {OLDEST_SERVER} or newer")]
    if await summaries.is_read_only(connection):
        return [("warning", f"{found}: {STANDBY}, and workers wait until it takes writes")]
    return [("ok", found)]


async def pgmq(connection: Connection) -> Verdicts:
    """Whether pgmq is installed, and recent enough."""
    if missing := await missing_grants(connection, roles=True):
        return [("failed", missing)]
    state = await pgmq_state(connection)
    if not state.plain:
        await refuse_another_pgmq(connection)
        return [("failed", f"{state}: run `pgflow-events migrate`")]
    if not state.recent:
        return [("failed", f"{state}: upgrade it to 1.5.0 or newer")]
    return [("ok", str(state))]


async def schema(connection: Connection) -> Verdicts:
    """Whether the schema is at this release, and complete."""
    await check_schema(connection)
    return await schema_losses(connection) or [("ok", "at this release")]


async def settings(connection: Connection) -> Verdicts:
    """Whether the session has the settings that the engine needs."""
    place = f"role {connection.info.user} in database {connection.info.dbname}"
    return [
        ("failed", f"{fixed.name} is {value}, and {fixed.why}: {advice(fixed, place)}")
        for fixed, value in connection.strange.items()
        if fixed.privileged
    ] or [("ok", "as they should be")]


def advice(fixed: Fixed, place: str) -> str:
    """The statement that sets a parameter which only a superuser may set."""
    return f"let a superuser run `alter {place} set {fixed.name} = '{fixed.value}'`"


async def notifications(listen_dsn: str, connection: Connection) -> Verdicts:
    """Whether a notification from one connection reaches another."""
    if await summaries.is_standby(connection):
        return [("warning", "a standby delivers none: clients look at their runs each second")]
    # A listener retries for ever, so try first whether the server answers.
    await (await Connection.connect(listen_dsn)).close()
    listener = Listener(listen_dsn, [], lambda _: None, lambda: None)
    heard, began = False, trio.current_time()
    async with trio.open_nursery() as nursery:
        with trio.move_on_after(LISTENS_WITHIN):
            await nursery.start(listener.run)
            began = trio.current_time()
            heard = await listener.check(partial(ping, connection), ON_ITS_WAY)
        took = trio.current_time() - began
        nursery.cancel_scope.cancel()
    if heard:
        return [("ok", f"arrive after {1000 * took:.1f} ms")]
    return [("failed", "do not arrive: if the DSN leads to a pooler, give --listen-dsn the server")]


async def notification_queue(connection: Connection) -> Verdicts:
    """Whether the queue of notifications fills up, because a listening session does not read."""
    usage = await summaries.notification_queue_usage(connection)
    if usage > FULL_QUEUE:
        return [("warning", f"{usage:.0%} full: end the long transaction of a listening session")]
    return [("ok", f"{usage:.0%} full")]


async def transactions(connection: Connection) -> Verdicts:
    """Whether an old transaction blocks vacuum."""
    oldest = await summaries.oldest_transaction(connection)
    seen = "" if await summaries.sees_all_sessions(connection) else " of this role"
    if oldest is None:
        return [("ok", f"no other transaction{seen} is open")]
    found = (
        f"the oldest transaction{seen} is {duration(oldest.age)} old"
        f" ({oldest.state}, pid {oldest.pid}, {oldest.application_name or 'nameless'})"
    )
    if oldest.age > OLD_TRANSACTION:
        return [("warning", f"{found}: end it, because it blocks vacuum")]
    return [("ok", found)]


async def queues(connection: Connection) -> Verdicts:
    """Whether the queues of all flows are complete, and how many tasks wait in them."""
    losses = await queue_losses(connection)
    depths = await summaries.queue_depths(connection)
    return [*losses, *map(depth_verdict, depths)] or [("ok", "no flow is defined")]


def depth_verdict(depth: summaries.QueueDepth) -> tuple[str, str]:
    """How many tasks wait in a queue, and whether they wait too long."""
    if not depth.messages:
        return "ok", f"{depth.flow_slug}: no tasks are queued"
    found = f"{depth.flow_slug}: {counted(depth.messages, 'task')} queued"
    if depth.waited is None:
        return "ok", f"{found}, all of them claimed already or due later"
    found += f", {depth.visible:,} can be claimed, the first for {duration(depth.waited)}"
    if depth.waited > LONG_WAIT:
        return "warning", f"{found}: start a worker for this flow, or more workers"
    return "ok", found


async def workers(connection: Connection) -> Verdicts:
    """Whether each flow with tasks has a worker. One that listens through a pooler is not seen."""
    worked = await summaries.worked_flows(connection)
    depths = await summaries.queue_depths(connection)
    alone = [
        f"{depth.flow_slug}: {counted(depth.messages, 'task')} queued, but no worker is known to be"
        " alive: start one"
        for depth in depths
        if depth.messages and depth.flow_slug not in worked
    ]
    if alone:
        return [("warning", found) for found in alone]
    if not worked:
        return [("ok", "none is alive, and no task waits for one")]
    return [("ok", f"alive for {enumeration(sorted(worked))}")]


async def failed_runs(connection: Connection) -> Verdicts:
    """Whether runs failed in the last 24 hours."""
    failed = await summaries.failed_runs(connection)
    if not failed:
        return [("ok", "none in the last 24 hours")]
    by_flow = ", ".join(f"{count} of {slug}" for slug, count in failed.items())
    return [
        ("warning", f"in the last 24 hours: {by_flow}; see `pgflow-events runs --status failed`")
    ]
