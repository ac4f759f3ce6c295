"""Which database a command uses."""

from collections.abc import Iterator
from contextlib import contextmanager

import click
import trio

from pgflow_events.cli.command import say
from pgflow_events.embedded.server import EmbeddedServer
from pgflow_events.errors import DatabaseTooNew, MigrationError, SettingsError
from pgflow_events.postgres.connection import Connection
from pgflow_events.postgres.dsn import GARBLED, is_garbled
from pgflow_events.schema.migrations import check_schema, migrate
from pgflow_events.settings import dsn_from_environment


def own_or_top(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """The DSN after the command, or otherwise the DSN before it."""
    return ctx.find_root().params.get("dsn") if value is None else value


dsn_option = click.option(
    "--dsn",
    metavar="DSN",
    callback=own_or_top,
    help="The database, as a connection string of libpq. Default: PGFLOW_DSN.",
)
listen_dsn_option = click.option(
    "--listen-dsn",
    metavar="DSN",
    envvar="PGFLOW_LISTEN_DSN",
    show_envvar=True,
    help="Where to LISTEN: the server itself, if --dsn leads to a pooler. Poolers lose"
    " notifications.",
)


@contextmanager
def database(dsn: str | None, listen_dsn: str | None = None) -> Iterator[str]:
    """Give the DSN of a database that runs as long as the block.

    The embedded PostgreSQL is started and migrated here, because that must happen outside of trio.

    Raises:
        SettingsError: The DSN is not valid, or only a DSN to listen on is given.
    """
    if (dsn := dsn_of(dsn)) is not None:
        yield checked(dsn)
        return
    if listen_dsn:
        raise SettingsError(
            "there is a DSN to listen on (--listen-dsn, PGFLOW_LISTEN_DSN or a credential), but no"
            " DSN of the database: give --dsn or PGFLOW_DSN too"
        )
    with EmbeddedServer() as server:
        say(f"using the embedded PostgreSQL in {server.folder}", err=True)
        trio.run(bring_up_to_date, server.conninfo)
        yield server.conninfo


def dsn_of(dsn: str | None) -> str | None:
    """This DSN, or the one that the environment names. None means the embedded PostgreSQL."""
    return dsn_from_environment() if dsn is None else dsn


def checked(dsn: str) -> str:
    """Return the DSN if libpq can parse it.

    Raises:
        SettingsError: The DSN is not valid. The message does not quote it, because it may hold a
            password.
    """
    if is_garbled(dsn):
        raise SettingsError(GARBLED)
    return dsn


async def bring_up_to_date(dsn: str) -> None:
    """Migrate the database, unless it is at this release: migrating takes locks."""
    async with await Connection.connect(dsn) as connection:
        try:
            await check_schema(connection)
        except DatabaseTooNew:
            raise
        except MigrationError:
            await migrate(connection)
