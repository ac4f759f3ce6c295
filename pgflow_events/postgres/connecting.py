"""How a connection comes about: where to, with which parameters, and what its session is set to."""

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


class Connecting(psycopg.AsyncConnection[Row]):
    """A connection until it can be used, from which :class:`connection.Connection` goes on.

    Attributes:
        defaults: Parameters that hold unless the DSN or libpq's environment gives them;
            with these a dead server is noticed within about half a minute.
        settings: Server options, put between PGOPTIONS and those of the DSN; left out for servers
            that refuse them, as PgBouncer does.
        strange: What could not be set to what `session.py` wants, with its value.
        is_pooled: Whether there is a pooler in between. What a session keeps (locks, LISTEN)
            may then be lost with each transaction; statements are not prepared.
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
        """Connect to the first host and address that will have us.

        The arguments are psycopg's; adapters given by `context` are used as they are.

        Raises:
            psycopg.OperationalError: Nobody answered within `connect_timeout` seconds
                for each, or nobody would have us; the message tells of all.
            psycopg.ProgrammingError: The DSN cannot be understood; the message does not quote it.
            MigrationError: A superuser, or the owner of the database, connects, and something in
                our schemas belongs to a role of fewer rights, whose code would run with theirs.
        """
        need_trio("Connection.connect()")
        params = await cls._get_connection_params(conninfo, **kwargs)
        self = await cls._begin(params)
        self._autocommit = autocommit
        self.prepare_threshold = None if self.is_pooled else prepare_threshold
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
        # Another one, as PGCLIENTENCODING may name, cannot hold all that is said here.
        return defaults | params | {"client_encoding": "utf8"}

    @classmethod
    def _options(cls, params: ConnDict) -> str:
        # PGOPTIONS may be meant for others, what is in the DSN is not.
        if given := params.get("options"):
            return f"{cls.settings} {given}"
        return f"{libpq_environment().get('options', '')} {cls.settings}"

    @classmethod
    async def _begin(cls, params: ConnDict) -> Self:
        options = cls._options(params)
        try:
            return await cls._begin_with(params, options)
        except psycopg.Error as error:
            # A transaction may be over before its time limit can be set.
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
            # Empty ones keep PGOPTIONS away.
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
            # In a thread, as this waits for the server.
            if not await trio.to_thread.run_sync(server.start_again, abandon_on_cancel=True):
                raise
        return await cls._open_one_of(params | server.place)

    @classmethod
    async def _open_one_of(cls, params: ConnDict) -> Self:
        timeout, failures = timeout_from_conninfo(params), list[psycopg.Error]()
        hosts = (libpq_environment() | params).get("host", "")
        with time_limit(timeout, errors.ConnectionTimeout(f"looking up {hosts!r} takes too long")):
            # In a thread, as this looks up names.
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
        """Set what each of our sessions is set to, and see whether it is one of the server's own.

        A pooler tells numbers of processes that are not the server's. One that gives each
        transaction another session of the server, of which others have prepared statements by the
        same names, looks like any other.
        """
        self._autocommit = True  # it shall open no transaction
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
        if refusal := session.refusal(self.strange):
            raise errors.OperationalError(refusal)

    async def refuse_foreign_code(self) -> None:
        """Raise before anything is read that a role of fewer rights has made.

        Raises:
            MigrationError: There is something; the message says what to do.
        """
        if not self.rules:
            return
        cursor = await self.execute(owners.STRANGERS)
        for name, owner in cast("list[tuple[str, str]]", await cursor.fetchall()):
            raise MigrationError(owners.refusal(name, owner))
