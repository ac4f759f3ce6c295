"""Connects: finds the server, chooses the parameters, and sets up the session."""

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Self, cast

import psycopg
import trio
from psycopg import errors
from psycopg.abc import AdaptContext, ConnDict, ConnParam
from psycopg.adapt import AdaptersMap
from psycopg.conninfo import conninfo_attempts, make_conninfo, timeout_from_conninfo
from psycopg.rows import AsyncRowFactory, Row

from pgflow_events.embedded.server import known
from pgflow_events.errors import MigrationError
from pgflow_events.misuse import need_trio
from pgflow_events.postgres import owners, session
from pgflow_events.postgres.dsn import GARBLED, is_garbled, libpq_environment, place, unresolved
from pgflow_events.postgres.waiting import drive, time_limit

SETTINGS_REFUSED = re.compile(r"startup parameter|client_connection_check_interval")
ENDED = re.compile(r"transaction timeout|server closed the connection")


PREPARED = 1000  # statements of a session: a worker has one for the queue of each flow


class Connecting(psycopg.AsyncConnection[Row]):
    """The base of :class:`connection.Connection`: all that happens until it can be used.

    Attributes:
        defaults: Parameters that apply unless the DSN or libpq's environment sets them. With
            these, a dead server is noticed within about half a minute.
        settings: Server options, put between PGOPTIONS and the options of the DSN. They are left
            out for servers that refuse them, such as PgBouncer.
        strange: The settings that could not be set as `session.py` wants, with their values.
        is_pooled: Whether a pooler is in between. Then each transaction may lose what a session
            keeps (locks, LISTEN), and statements are not prepared.
        rules: Whether the role is a superuser, or may do what the owner of the database may.
    """

    defaults: ClassVar[ConnDict] = {
        "connect_timeout": 10,
        "keepalives_idle": 15,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 20_000,
        "fallback_application_name": "pgflow_events",
    }
    settings: ClassVar[str] = (
        "-c client_connection_check_interval=5s -c idle_in_transaction_session_timeout=60s"
        f" {session.AT_START}"
    )
    strange: Mapping[session.Fixed, str] = {}
    is_pooled = False
    rules = False

    @classmethod
    async def connect(
        cls,
        conninfo: str = "",
        *,
        autocommit: bool = True,
        prepare_threshold: int | None = 5,
        context: AdaptContext | None = None,
        row_factory: AsyncRowFactory[Row] | None = None,
        cursor_factory: type[psycopg.AsyncCursor[Row]] | None = None,
        **kwargs: ConnParam,
    ) -> Self:
        """Connect to the first host and address that accepts us.

        The arguments are psycopg's; adapters given by `context` are used as they are.

        Raises:
            psycopg.OperationalError: Each server refused us, or did not answer within
                `connect_timeout` seconds; the message lists all of them.
            psycopg.ProgrammingError: The DSN cannot be understood; the message does not quote it.
            MigrationError: A superuser or the owner of the database connects, but something in our
                schemas belongs to a role of fewer rights, whose code would run with their rights.
        """
        need_trio("Connection.connect()")
        params = await cls._get_connection_params(conninfo, **kwargs)
        self = await cls._begin(params)
        self._autocommit = autocommit
        self.prepare_threshold = None if self.is_pooled else prepare_threshold
        self.prepared_max = PREPARED
        if context:
            self._adapters = AdaptersMap(context.adapters)
        self.row_factory = row_factory or self.row_factory
        self.cursor_factory = cursor_factory or self.cursor_factory
        return self

    @classmethod
    async def _get_connection_params(cls, conninfo: str, **kwargs: Any) -> ConnDict:
        if is_garbled(conninfo):
            raise psycopg.ProgrammingError(GARBLED)
        params = await super()._get_connection_params(conninfo, **kwargs)
        given = libpq_environment()
        defaults = {k: v for k, v in cls.defaults.items() if k not in given}
        # PGCLIENTENCODING may name an encoding that cannot hold every text.
        return defaults | params | {"client_encoding": "utf8"}

    @classmethod
    def _options(cls, params: ConnDict) -> str:
        # PGOPTIONS may be meant for other programs; the options of the DSN are meant for us.
        if given := params.get("options"):
            return f"{cls.settings} {given}"
        return f"{libpq_environment().get('options', '')} {cls.settings}"

    @classmethod
    async def _begin(cls, params: ConnDict) -> Self:
        options = cls._options(params)
        try:
            return await cls._begin_with(params, options)
        except psycopg.Error as error:
            # A transaction_timeout may end the first transaction before it can be reset.
            if not ENDED.search(str(error)):
                raise
            try:
                return await cls._begin_with(params, f"{options} {session.AT_NEW_START}")
            except psycopg.Error:
                raise error from None  # servers before 17 do not know the limit

    @classmethod
    async def _begin_with(cls, params: ConnDict, options: str) -> Self:
        try:
            self = await cls._open(params | {"options": options})
        except psycopg.OperationalError as error:
            if not SETTINGS_REFUSED.search(str(error)):
                raise
            # An empty text keeps PGOPTIONS away.
            self = await cls._open(params | {"options": params.get("options", "")})
        await self._settle(timeout_from_conninfo(params))
        return self

    @classmethod
    async def _open(cls, params: ConnDict) -> Self:
        if not (server := known(params.get("host"))):
            return await cls._open_one_of(params)
        try:
            return await cls._open_one_of(params | server.place)
        except psycopg.OperationalError:
            # In a thread, because this waits for the server.
            if not await trio.to_thread.run_sync(server.start_again, abandon_on_cancel=True):
                raise
        return await cls._open_one_of(params | server.place)

    @classmethod
    async def _open_one_of(cls, params: ConnDict) -> Self:
        timeout, failures = timeout_from_conninfo(params), list[psycopg.Error]()
        hosts = (libpq_environment() | params).get("host", "")
        with time_limit(timeout, errors.ConnectionTimeout(f"looking up {hosts!r} takes too long")):
            # In a thread, because this looks up names.
            attempts = await trio.to_thread.run_sync(
                conninfo_attempts, params, abandon_on_cancel=True
            )
        for attempt in attempts:
            late = errors.ConnectionTimeout(f"{place(attempt)} failed: connection timeout expired")
            try:
                with time_limit(timeout, late):
                    return await drive(cls._connect_gen(make_conninfo("", **attempt)))
            except psycopg.Error as error:
                failures.append(error)
        last, unknown = failures[-1], unresolved(hosts, attempts)
        if len(failures) == 1 and not unknown:
            raise last
        lines = [f"failed to resolve host {host!r}" for host in unknown] + [*map(str, failures)]
        raise type(last)("\n".join(lines), pgconn=last.pgconn)

    async def _settle(self, limit: float) -> None:
        """Set up the session as `session.py` says, and find out whether a pooler is in between.

        A pooler reports process numbers that are not the server's. All poolers are treated alike,
        because one that lends another session with each transaction cannot be told apart; there,
        other clients may have prepared statements of the same names.
        """
        self._autocommit = True  # this statement must not open a transaction
        late = f"{place(self.info.get_parameters())} failed: connection timeout expired"
        try:
            with time_limit(limit, errors.ConnectionTimeout(late)):
                pid = self.info.backend_pid
                cursor = await self.execute(session.SETTLE, session.settle_parameters(pid))
                row = await cursor.fetchone()
                found, rules, values = cast("tuple[int, bool, list[str | None]]", row)
                self.is_pooled, self.strange = found != pid, session.strangers(values)
                if self.is_pooled:
                    await self._settle_pooled()
                self.rules = rules
                await self.refuse_foreign_code()
        except BaseException:
            await self.close()
            raise

    async def _settle_pooled(self) -> None:
        if statements := session.track(self.strange):
            await self.execute(statements.encode())
        if fault := session.unusable(self.strange):
            raise errors.OperationalError(fault)

    async def refuse_foreign_code(self) -> None:
        """Refuse to go on if a role of fewer rights owns something in our schemas.

        Raises:
            MigrationError: Such a role does; the message says what to do.
        """
        if not self.rules:
            return
        cursor = await self.execute(owners.STRANGERS)
        for name, owner in cast("list[tuple[str, str]]", await cursor.fetchall()):
            raise MigrationError(owners.owned_by_another(name, owner))
