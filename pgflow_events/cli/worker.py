"""`pgflow-events worker`."""

import logging
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import click
import trio

from pgflow_events.cli.command import Command, say
from pgflow_events.cli.database import checked, database, dsn_option, listen_dsn_option
from pgflow_events.cli.loading import load_factory, load_flows
from pgflow_events.cli.logs import FORMATS, LEVELS, log_to_stderr
from pgflow_events.cli.quantities import age, size, size_text, some_seconds
from pgflow_events.cli.stores import (
    key_ring,
    keys_option,
    object_store,
    objects_option,
    sealed_only_option,
)
from pgflow_events.service.last_resort import end_within
from pgflow_events.service.shutdown import UNTIL_LAST_RESORT, Signals, ignore_signals
from pgflow_events.settings import Settings, credential
from pgflow_events.texts import duration
from pgflow_events.worker.worker import Worker

DEFAULTS = Settings()

log = logging.getLogger("pgflow_events.worker")


@click.command(
    cls=Command,
    examples=(
        "pgflow-events worker flows.py",
        "pgflow-events worker myapp.flows:analyze myapp.flows:report --slots 200",
        "pgflow-events worker myapp.flows --resources myapp.clients:resources --log-format json",
        "pgflow-events worker flows.py --keep-runs 7d --input-budget 1GB",
        "pgflow-events worker flows.py --keys keys --objects s3://bucket/prefix",
    ),
)
@click.argument("flows", nargs=-1, required=True, metavar="MODULE[:FLOW]...")
@click.option(
    "--slots",
    type=click.IntRange(min=1),
    default=DEFAULTS.slots,
    show_default=True,
    help="The largest number of tasks that run at once.",
)
@click.option(
    "--connections",
    type=click.IntRange(min=1),
    default=DEFAULTS.connections,
    show_default=True,
    help="The largest number of connections, besides the one that listens and the one that"
    " watches a peer.",
)
@click.option(
    "--resources",
    metavar="MODULE:FACTORY",
    help="A function without arguments that returns an async context manager. The manager gives"
    " the mapping Context.resources.",
)
@click.option(
    "--keep-runs",
    type=age,
    metavar="AGE",
    help="How long to keep runs after their end, such as 7d. A day or more counts from the last"
    " midnight in UTC. Default: for ever.",
)
@click.option(
    "--input-budget",
    type=size,
    default=size_text(DEFAULTS.input_budget),
    show_default=True,
    metavar="SIZE",
    help="The total size of the blobs that running handlers may hold in memory.",
)
@click.option(
    "--value-cap",
    type=size,
    default=size_text(DEFAULTS.value_cap),
    show_default=True,
    metavar="SIZE",
    help="The size of the largest value that the worker holds in memory. Streams may be larger.",
)
@keys_option
@sealed_only_option
@click.option(
    "--error-texts",
    is_flag=True,
    default=None,
    help="Store the text of handlers' errors even with --keys, although it may quote an encrypted"
    " value.",
)
@objects_option
@click.option(
    "--object-threshold",
    type=size,
    default=size_text(DEFAULTS.object_threshold),
    show_default=True,
    metavar="SIZE",
    help="Values of this size or more go to --objects.",
)
@click.option(
    "--stop-timeout",
    type=some_seconds,
    default=DEFAULTS.stop_timeout,
    show_default=True,
    metavar="SECONDS",
    help="How long handlers may go on after SIGTERM, before the worker gives their tasks back.",
)
@click.option(
    "--log-level",
    type=click.Choice(LEVELS, case_sensitive=False),
    default="info",
    show_default=True,
    help="Log records of this level or above. With debug, each task is logged.",
)
@click.option(
    "--log-format",
    type=click.Choice(list(FORMATS)),
    default="text",
    show_default=True,
    help="The form of a log record on stderr. json: one object a line. journal: the same after a"
    " priority for systemd.",
)
@dsn_option
@listen_dsn_option
def worker(
    *,
    flows: tuple[str, ...],
    slots: int,
    connections: int,
    resources: str | None,
    keep_runs: timedelta | None,
    input_budget: int,
    value_cap: int,
    keys: Path | None,
    sealed_only: datetime | None,
    error_texts: bool | None,
    objects: str | None,
    object_threshold: int,
    stop_timeout: float,
    log_level: str,
    log_format: str,
    dsn: str | None,
    listen_dsn: str | None,
) -> None:
    """Run the tasks of flows.

    MODULE is a dotted name or the path of a .py file. FLOW is the name of a variable. Without
    FLOW, the worker runs all flows of the module.

    The worker first stores new flows and changed options in the database. Then it prints a line
    that says it is ready.

    At SIGTERM or Ctrl-C, the worker finishes the tasks at hand and exits with 0. After
    --stop-timeout, or at a second signal, it cancels them and gives them back. The attempt does
    not count then. The exit code is 1 if something does not end, such as a handler, or if the
    database does not take the tasks back.

    Under systemd, the worker reports its readiness and health. See the command systemd-unit.
    """
    log_to_stderr(log_level, log_format)
    listen_dsn = listen_dsn or credential("pgflow-listen-dsn")
    loaded = load_flows(flows)
    options: dict[str, Any] = {"resources": load_factory(resources)} if resources else {}
    settings = Settings(
        slots=slots,
        connections=connections,
        listen_dsn=checked(listen_dsn) if listen_dsn else None,
        stop_timeout=stop_timeout,
        keep_runs=keep_runs,
        input_budget=input_budget,
        value_cap=value_cap,
        keys=key_ring(keys),
        sealed_only=sealed_only,
        error_texts=error_texts,
        objects=object_store(objects),
        object_threshold=object_threshold,
    )
    say_where(settings, objects)
    with database(dsn, listen_dsn) as found:
        ready = f"ready: {', '.join(flow.slug for flow in loaded)}"
        runs = Worker(loaded, found, settings=settings, **options)
        trio.run(work, runs, ready, Signals.kept())
    if runs.has_left_tasks:
        click.get_current_context().exit(1)


def say_where(settings: Settings, objects: str | None) -> None:
    """Log where values go. An accepted URL of an object storage holds no credentials."""
    if settings.keys:
        log.info("values are encrypted with key %s", settings.keys.active)
    if settings.objects:
        log.info("values of %s or more go to %s", size_text(settings.object_threshold), objects)
    if settings.keep_runs is not None:
        after = duration(settings.keep_runs.total_seconds())
        log.info("runs are deleted %s after their end", after)


async def work(runs: Worker, ready: str, signals: Signals) -> None:
    """Run the worker, and say when it is ready."""
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(runs.run, signals=signals))
            if not runs.is_stopping:
                with suppress(OSError):  # the reader of stdout may have left
                    say(ready)
    finally:
        # Before trio ends: it closes its wake-up sockets while signals are still written to them.
        ignore_signals()
        # At exit, Python waits for the threads that handlers left behind.
        end_within(UNTIL_LAST_RESORT)
