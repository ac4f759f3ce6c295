"""`pgflow-events blob sweep`."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from functools import partial
from uuid import UUID

import click
import trio

from blobstore.objects import ObjectStore
from blobstore.sweep import Swept
from blobstore.sweep import sweep as sweep_objects
from pgflow_events.cli.command import Command, Failure, json_option, print_json, say
from pgflow_events.cli.database import database, dsn_option
from pgflow_events.cli.quantities import age
from pgflow_events.cli.stores import object_store, objects_option
from pgflow_events.errors import PgflowError, SettingsError
from pgflow_events.postgres.connection import Connection
from pgflow_events.texts import counted, size
from pgflow_events.upkeep.inventory import find_needing_objects, is_standby

STRANGE = "none of which has a row in this database: is it the wrong one?"


@click.command(
    cls=Command,
    examples=(
        "pgflow-events blob sweep --objects s3://bucket/prefix",
        "pgflow-events blob sweep --objects s3://bucket/prefix --grace 7d --delete",
    ),
)
@objects_option
@click.option(
    "--grace",
    type=age,
    default="24h",
    show_default=True,
    metavar="AGE",
    help="Leave what is younger; at least 1h, and longer than any upload takes.",
)
@click.option("--delete", is_flag=True, help="Delete. Without it, only list what would be deleted.")
@click.option("--force", is_flag=True, help="Delete even if none of the objects is known here.")
@dsn_option
@json_option
def sweep(
    *,
    objects: str | None,
    grace: timedelta,
    delete: bool,
    force: bool,
    dsn: str | None,
    as_json: bool,
) -> None:
    """Remove from the object storage what no blob needs.

    Objects of a blob that has no row in the database, or was forgotten, are deleted once they
    are older than the grace period. The database must be the one whose workers write there:
    to any other one, all objects look unneeded. So nothing is deleted without --delete. Where
    this database knows none of the objects, --force is needed too.
    """
    store = object_store(objects)
    if store is None:
        raise SettingsError("no object storage is named: give --objects or PGFLOW_OBJECTS")
    try:
        with database(dsn) as found:
            swept = trio.run(partial(sweep_now, found, store, grace, delete=delete, force=force))
    except ValueError as error:
        raise Failure(str(error)) from error
    if as_json:
        print_json(asdict(swept) | {"deleted": delete})
    else:
        say("\n".join(lines(swept, delete=delete)))


async def sweep_now(
    dsn: str, store: ObjectStore, grace: timedelta, *, delete: bool, force: bool
) -> Swept:
    """Look at all objects first, and only then delete."""
    async with await Connection.connect(dsn) as connection:

        async def exists(ids: Sequence[UUID]) -> Sequence[UUID]:
            return await find_needing_objects(connection, ids)

        if delete and await is_standby(connection):
            raise PgflowError("this is a standby, which may not know the newest rows yet")
        swept = await sweep_objects(store, exists, older_than=grace, dry_run=True)
        strange = swept.removed > 0 and swept.kept == 0
        if strange:
            say(f"WARNING: found {counted(swept.removed, 'blob')}, {STRANGE}", err=True)
        if not delete:
            return swept
        if strange and not force:
            raise PgflowError("nothing was deleted; if this is the right database, say --force")
        return await sweep_objects(store, exists, older_than=grace)


def lines(swept: Swept, *, delete: bool) -> list[str]:
    """What was found, and what was done."""
    done = "deleted" if delete else "would delete"
    objects = counted(swept.removed_objects, "object")
    told = [
        f"needed: {counted(swept.kept, 'blob')}; within the grace period: {swept.young:,}",
        f"{done} {counted(swept.removed, 'blob')}: {objects}, {size(swept.removed_bytes)}",
    ]
    return told if delete or not swept.removed else [*told, "--delete deletes them"]
