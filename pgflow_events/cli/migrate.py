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
    help="Also create the roles pgflow_worker, pgflow_client and pgflow_observer, and grant them"
    " their rights.",
)
@dsn_option
@json_option
def migrate(*, roles: bool, dsn: str | None, as_json: bool) -> None:
    """Create or upgrade the schema of the database.

    Creates the schema pgflow, and pgmq if it is missing, in one transaction. The role of the first
    call owns the schema. The same role must call it again for each new release. It also repairs
    the schema: it restores lost queues, functions and triggers, and the messages of tasks.

    Workers may run meanwhile, and several calls may run at once.

    The roles of --roles have no login. `grant pgflow_worker to app` lets the login app be a
    worker. Once the roles exist, each call brings their rights up to date.
    """
    with database(dsn) as found:
        applied = migrations.migrate_now(found, roles=roles)
    if as_json:
        print_json({"applied": applied})
    else:
        for path in applied:
            say(f"applied {path}")
        if roles:
            say("the roles pgflow_worker, pgflow_client and pgflow_observer are up to date")
        say("the database is at this release")
