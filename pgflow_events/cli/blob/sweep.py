"""`pgflow-events blob sweep`."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from functools import partial
from uuid import UUID

import click
import trio

from blobstore.objects import ObjectStore
from blobstore.objects.sweep import Swept
from blobstore.objects.sweep import sweep as sweep_objects
from pgflow_events.cli.command import Command, Failure, json_option, print_json, say
from pgflow_events.cli.database import database, dsn_option
from pgflow_events.cli.quantities import age
from pgflow_events.cli.stores import object_store, objects_option
from pgflow_events.core.summaries import is_standby
from pgflow_events.errors import PgflowError, SettingsError
from pgflow_events.postgres.connection import Connection
from pgflow_events.texts import counted, size
from pgflow_events.upkeep.inventory import find_needing_objects

STRANGE = "and none of them has a row in this database: check that the DSN is the right one"


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
    help="Keep younger objects. At least 1h, and longer than any upload takes.",
)
@click.option("--delete", is_flag=True, help="Delete. Without it, only say what would be deleted.")
@click.option(
    "--force", is_flag=True, help="Delete even if the database knows none of the objects."
)
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
    """Delete objects that no blob needs from the object storage.

    An object is not needed if its blob has no row in the database, or was forgotten because of
    keep_output. The command deletes such objects when they are older than --grace.

    Use the database whose workers write to this storage. To any other database, all objects look
    unneeded. So the command deletes only with --delete, and if the database knows none of the
    objects, only with --force too.
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
    """Look at all objects first, and delete only after that."""
    async with await Connection.connect(dsn) as connection:

        async def exists(ids: Sequence[UUID]) -> Sequence[UUID]:
            return await find_needing_objects(connection, ids)

        if delete and await is_standby(connection):
            raise PgflowError("a standby may not know the newest rows yet: use the primary")
        swept = await sweep_objects(store, exists, older_than=grace, dry_run=True)
        strange = swept.removed > 0 and swept.kept == 0
        if strange:
            say(f"WARNING: found {counted(swept.removed, 'blob')}, {STRANGE}", err=True)
        if not delete:
            return swept
        if strange and not force:
            raise PgflowError("nothing was deleted: if the database is right, give --force")
        return await sweep_objects(store, exists, older_than=grace)


def lines(swept: Swept, *, delete: bool) -> list[str]:
    """What the sweep found, and what it did."""
    done = "deleted" if delete else "would delete"
    objects = counted(swept.removed_objects, "object")
    told = [
        f"needed: {counted(swept.kept, 'blob')}; within the grace period: {swept.young:,}",
        f"{done} {counted(swept.removed, 'blob')}: {objects}, {size(swept.removed_bytes)}",
    ]
    return told if delete or not swept.removed else [*told, "to delete them, call it with --delete"]
