"""`pgflow-events migrate`."""

import click

from pgflow_events import migrations
from pgflow_events.cli.command import Command, json_option, print_json
from pgflow_events.cli.database import database, dsn_option


@click.command(
    cls=Command,
    examples=(
        "pgflow-events migrate",
        "pgflow-events migrate --dsn postgresql://app@db.example.org/app",
    ),
)
@dsn_option
@json_option
def migrate(dsn: str | None, as_json: bool) -> None:
    """Bring the database to this release.

    Makes the schema pgflow, and pgmq where it is missing, in one transaction. It may be called
    at any time, and by several at once.
    """
    with database(dsn) as found:
        applied = migrations.migrate_now(found)
    if as_json:
        print_json({"applied": applied})
    else:
        for path in applied:
            click.echo(f"applied {path}")
        click.echo("the database is at this release")
