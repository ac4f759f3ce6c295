"""The client starts runs and waits for them.

    async with connect(dsn) as client:
        run = await client.start(greet, "world")
        print(await run.output(shout))  # HELLO WORLD
        for run in await client.start_many(greet, ["Ada", "Grace"]):
            print(await run.result())  # the outputs of the leaf steps by slug

All trio tasks of a program may share one client.
"""

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Never, TypeVar, overload
from uuid import UUID

import psycopg
import trio

from blobstore import Blob, Blobs, BlobStore, Keys
from blobstore.postgres.ids import new_id
from pgflow_events.client.moments import moment
from pgflow_events.client.run import Reader, Run
from pgflow_events.client.starting import Starter
from pgflow_events.client.watch import Watch
from pgflow_events.core import runs as run_queries
from pgflow_events.errors import Misuse, UnknownFlow
from pgflow_events.flow.flow import Flow
from pgflow_events.flow.option_faults import quoted
from pgflow_events.flow.step_faults import SLUG
from pgflow_events.misuse import AsyncOnly, need_trio
from pgflow_events.postgres.calls import Calls
from pgflow_events.postgres.pool import Pool
from pgflow_events.settings import Settings

log = logging.getLogger("pgflow_events.client")

In = TypeVar("In")

QUEUE_IS_FULL = "54000"  # that of notifications; there is no code of its own


def connect(
    dsn: str = "",
    *,
    settings: Settings | None = None,
    listen_dsn: str | None = None,
    connections: int | None = None,
    value_cap: int | None = None,
    keys: Keys | None = None,
    objects: BlobStore | None = None,
    object_threshold: int | None = None,
    sealed_only: datetime | None = None,
) -> "Connecting":
    """Open a client, for ``async with``.

    An exception that leaves the block is raised as it is, not in a group. While the database does
    not answer, calls that only read are repeated until it does. A start raises the error, because
    it may have been committed.

    Args:
        dsn: The database, as a connection string for libpq. The empty one leaves everything to
            libpq's environment variables.
        settings: The settings of the workers, so that both agree on keys and storage. Settings
            that only a worker needs are ignored. Each argument below replaces one of them.
        listen_dsn: Where to LISTEN, if the DSN leads to a pooler, which swallows notifications.
            Without it, a client behind a pooler looks at awaited runs each second.
        connections: The most connections that it opens, besides the one that listens while runs
            are awaited.
        value_cap: The most bytes that an input or output may have. Give the workers' cap if it is
            not the default.
        keys: The keys that seal inputs and open outputs: the workers' own.
        objects: The storage for large values: the workers' own.
        object_threshold: Bytes. An input of this size or larger goes to the storage.
        sealed_only: Refuse unencrypted values of runs that started at this time or later; see
            :class:`Settings`.

    Raises:
        SettingsError: A number is out of its range, or ``sealed_only`` is given without keys.
    """
    given = {
        "listen_dsn": listen_dsn,
        "connections": connections,
        "value_cap": value_cap,
        "keys": keys,
        "objects": objects,
        "object_threshold": object_threshold,
        "sealed_only": sealed_only,
    }
    own: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return Connecting(opened(dsn, replace(Settings.of(settings), **own)))


class Connecting(AsyncOnly, AbstractAsyncContextManager["Client"]):
    """What :func:`connect` returns, to be entered."""

    how_to = "async with connect(dsn) as client: ..."

    def __init__(self, client: AbstractAsyncContextManager["Client"]) -> None:
        self._client = client

    async def __aenter__(self) -> "Client":
        need_trio("connect()")
        return await self._client.__aenter__()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> bool | None:
        return await self._client.__aexit__(exc_type, exc_val, exc_tb)

    if not TYPE_CHECKING:  # type checkers know already

        def __getattr__(self, name: str) -> Never:
            raise AttributeError(f"connect() has no {name!r}: {self.how_to}")


@asynccontextmanager
async def opened(dsn: str, settings: Settings) -> AsyncIterator["Client"]:
    """Open a client with these settings."""
    async with Pool(dsn, max_size=settings.connections) as pool:
        calls = Calls(pool, settings.call_timeout)
        blobs = Blobs(
            calls.make,
            cap=settings.value_cap,
            keys=settings.keys,
            objects=settings.objects,
            object_threshold=settings.object_threshold,
            sealed_only=settings.sealed_only,
        )
        watch = Watch(settings.listen_dsn or dsn, calls)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(watch.run)
                yield Client(pool, blobs, Reader(calls, blobs, watch))
                nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            if len(group.exceptions) > 1:
                raise
            raise group.exceptions[0] from group.exceptions[0].__cause__


def an_id(given: object) -> UUID:
    """The id of a run; type checkers take no text, but it serves."""
    try:
        return given if isinstance(given, UUID) else UUID(str(given))
    except ValueError:
        raise Misuse(f"the id of a run is a UUID, not {quoted(given)}") from None


class Client:
    """Starts runs and finds them again; :func:`connect` makes it."""

    def __init__(self, pool: Pool, blobs: Blobs, reader: Reader) -> None:
        self._pool = pool
        self._starter = Starter(pool, blobs)
        self._reader = reader

    @overload
    async def start(
        self,
        flow: Flow[In],
        input: In,
        *,
        run_id: UUID | None = None,
        delay: float | None = None,
        at: datetime | None = None,
    ) -> Run: ...
    @overload
    async def start(
        self,
        flow: str,
        input: Any,
        *,
        run_id: UUID | None = None,
        delay: float | None = None,
        at: datetime | None = None,
    ) -> Run: ...
    async def start(
        self,
        flow: Flow[Any] | str,
        input: Any,  # noqa: A002 - what users call it
        *,
        run_id: UUID | None = None,
        delay: float | None = None,
        at: datetime | None = None,
    ) -> Run:
        """Start a run, and return once it is committed.

        If the call is cancelled, the run may have been started or not.

        Args:
            flow: A flow that is defined in the database, or its slug.
            input: The input of the run: any value that a handler may return. A stream occupies a
                connection of this client, and a transaction, until it ends.
            run_id: The id for the run, by which to find it if the answer gets lost. The default
                is a new one.
            delay: Seconds from the start until a worker may take the first tasks of the run.
            at: The time from which a worker may take them, with a time zone. The clock of the
                database decides. A time that is over is at once.

        Raises:
            UnknownFlow: The database has no flow of this slug; the message lists those that it
                has. A worker defines its flows when it starts, so one may do so soon.
            ValueRefused: The input cannot be stored exactly.
            NotAList: A map goes over the input, and it is no list.
            Misuse: The flow, the id, the delay or the time is of another type, both delay and
                time are given, or trio does not run.
            RunExists: A run has this id already.
        """
        need_trio("Client.start()")
        ids = [run_id or new_id()]
        (run,) = await self.start_many(flow, [input], run_ids=ids, delay=delay, at=at)
        return run

    async def start_many(
        self,
        flow: Flow[Any] | str,
        inputs: Sequence[Any],
        *,
        run_ids: Sequence[UUID] | None = None,
        delay: float | None = None,
        at: datetime | None = None,
    ) -> list[Run]:
        """Start a run for each input, all in one commit.

        Args:
            flow: A flow that is defined in the database, or its slug.
            inputs: The inputs, each as for :meth:`start`.
            run_ids: An id for each run, in the order of the inputs. The default are new ones.
            delay: As for :meth:`start`, for all of the runs.
            at: As for :meth:`start`, for all of the runs.

        Returns:
            The runs, in the order of the inputs.

        Raises:
            ValueError: The number of ids is not that of the inputs.
            PgflowError: As for :meth:`start`. No run has been started.
        """
        need_trio("Client.start_many()")
        if not isinstance(flow, Flow | str):
            raise Misuse(f"start() takes a flow or its slug, not {quoted(flow)}")
        if isinstance(inputs, str | bytes | Mapping):
            raise Misuse("start_many() takes a list of inputs: give [input] for one")
        begins = moment(delay, at)
        slug = flow if isinstance(flow, str) else flow.slug
        if not SLUG.fullmatch(slug):
            raise await self._unknown(slug)
        ids = [new_id() for _ in inputs] if run_ids is None else [*map(an_id, run_ids)]
        if len(ids) != len(inputs):
            raise ValueError(f"{len(inputs)} inputs, but {len(ids)} run_ids")
        # To read a handle takes a connection, and the one below may be the last.
        inputs = [await value.value() if isinstance(value, Blob) else value for value in inputs]
        try:
            await self._starter.start(flow, ids, inputs, begins)
        except psycopg.errors.NoDataFound as error:
            raise await self._unknown(slug) from error
        except psycopg.errors.UniqueViolation as error:
            if exists := run_queries.run_exists(str(error), ids):
                raise exists from error
            raise
        return [Run(self._reader, run_id, slug) for run_id in ids]

    async def _unknown(self, slug: str) -> UnknownFlow:
        try:
            async with self._pool.connection() as connection:
                return run_queries.unknown_flow(slug, await run_queries.find_flows(connection))
        except (psycopg.Error, trio.TooSlowError):  # nobody can tell which there are
            return UnknownFlow(f'unknown flow "{slug}": no worker has defined it')

    async def find(self, run_id: UUID) -> Run:
        """Return the run of this id.

        Raises:
            UnknownRun: No run has this id.
            Misuse: It is not a UUID.
        """
        need_trio("Client.find()")
        run_id = an_id(run_id)
        return Run(self._reader, run_id, (await self._reader.row(run_id)).flow_slug)
