"""`pgflow-events migrate`."""

import click

from pgflow_events.cli.command import Command, json_option, print_json, say
from pgflow_events.cli.database import database, dsn_option
from pgflow_events.schema import migrations


@click.command(
    cls=Command,
    examples=(
        "pgflow-events migrate",
        "pgflow-events migrate --roles --dsn postgresql://owner@db.example.org/app",
    ),
)
@click.option(
    "--roles",
    is_flag=True,
    help="Also make the roles pgflow_worker, pgflow_client and pgflow_observer. Grant them to the"
    " logins of workers, clients and monitoring.",
)
@dsn_option
@json_option
def migrate(*, roles: bool, dsn: str | None, as_json: bool) -> None:
    """Bring the database to this release.

    Makes the schema pgflow, and pgmq where it is missing, in one transaction. It may be called
    at any time, and by several at once. The first caller owns the schema, and calls it again for
    each new release. It brings back what was lost: queues, functions, triggers, and the messages
    of tasks.

    Once the roles are there, each call brings their rights up to date. They are made without a
    login: `grant pgflow_worker to app` lets the user app be a worker.
    """
    with database(dsn) as found:
        applied = migrations.migrate_now(found, roles=roles)
    if as_json:
        print_json({"applied": applied})
    else:
        for path in applied:
            say(f"applied {path}")
        if roles:
            say("made the roles pgflow_worker, pgflow_client, pgflow_observer")
        say("the database is at this release")
