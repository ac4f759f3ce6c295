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
    """The DSN of the command, or else the one that stands before it."""
    return ctx.find_root().params.get("dsn") if value is None else value


dsn_option = click.option(
    "--dsn",
    metavar="DSN",
    callback=own_or_top,
    help="Where the database is, as libpq takes it. Default: PGFLOW_DSN.",
)
listen_dsn_option = click.option(
    "--listen-dsn",
    metavar="DSN",
    envvar="PGFLOW_LISTEN_DSN",
    show_envvar=True,
    help="Where to LISTEN, if --dsn leads to a pooler: it would swallow notifications.",
)


@contextmanager
def database(dsn: str | None, listen_dsn: str | None = None) -> Iterator[str]:
    """The DSN of the database, which is there while the block runs.

    The embedded one is started here, outside of trio, and migrated.

    Raises:
        SettingsError: The DSN cannot be understood, or it is said where to LISTEN and not where
            the database is.
    """
    if (dsn := dsn_of(dsn)) is not None:
        yield checked(dsn)
        return
    if listen_dsn:
        raise SettingsError(
            "a DSN to listen on is given (--listen-dsn, PGFLOW_LISTEN_DSN or a credential), and"
            " none of the database: give --dsn or PGFLOW_DSN too"
        )
    with EmbeddedServer() as server:
        say(f"using the embedded PostgreSQL in {server.folder}", err=True)
        trio.run(bring_up_to_date, server.conninfo)
        yield server.conninfo


def dsn_of(dsn: str | None) -> str | None:
    """The DSN that is given, here or by the environment; None for the embedded database."""
    return dsn_from_environment() if dsn is None else dsn


def checked(dsn: str) -> str:
    """The DSN itself.

    Raises:
        SettingsError: It cannot be understood. The message does not quote it: it may hold a
            password.
    """
    if is_garbled(dsn):
        raise SettingsError(GARBLED)
    return dsn


async def bring_up_to_date(dsn: str) -> None:
    """Migrate the database, unless it is at this release: that would disturb those who use it."""
    async with await Connection.connect(dsn) as connection:
        try:
            await check_schema(connection)
        except DatabaseTooNew:
            raise
        except MigrationError:
            await migrate(connection)
