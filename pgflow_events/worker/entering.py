"""How a worker enters the database: it defines its flows, and listens."""

from collections.abc import Sequence
from typing import Any

from pgflow_events.core import workers as seats
from pgflow_events.core.flows import define_flow
from pgflow_events.core.waking import task_channels
from pgflow_events.errors import FlowMismatch
from pgflow_events.flow.flow import Flow
from pgflow_events.postgres.calls import Calls
from pgflow_events.postgres.connection import Connection
from pgflow_events.postgres.listener import Listener
from pgflow_events.schema.migrations import check_schema
from pgflow_events.worker.claiming.claims import Claims
from pgflow_events.worker.claiming.dispatcher import Dispatcher
from pgflow_events.worker.liveness import Liveness
from pgflow_events.worker.stops import Stops


class Entering:
    """Defines the flows, and listens for their queued tasks and for peers.

    Args:
        calls: Makes the calls.
        flows: The flows of the worker.
        claims: Is told from which queues it claims.
        dispatcher: Is woken when tasks of these flows are queued.
        liveness: Looks when peers come or go, and takes the seat.
        stops: Looks when tasks at hand may be this worker's no more.
    """

    def __init__(
        self,
        calls: Calls,
        flows: Sequence[Flow[Any]],
        claims: Claims,
        dispatcher: Dispatcher,
        liveness: Liveness,
        *,
        stops: Stops,
    ) -> None:
        self._calls, self._flows, self._claims = calls, flows, claims
        self._dispatcher, self._liveness, self._stops = dispatcher, liveness, stops

    async def define(self) -> None:
        """Define the flows in the database, or compare them with the stored ones.

        Raises:
            MigrationError: The database is not at the release of this package.
            FlowMismatch: A flow is stored with another shape.
        """
        await self._calls.make(self._define)

    async def _define(self, connection: Connection) -> None:
        await check_schema(connection)
        for flow in self._flows:
            if differences := await define_flow(connection, flow.definition()):
                raise FlowMismatch(
                    f"flow {flow.slug!r} is stored with another shape: {'; '.join(differences)}."
                    " Give the new shape a slug of its own"
                )

    async def listener(self, dsn: str) -> Listener:
        """The listener at this DSN, which is still to be run."""
        slugs = [flow.slug for flow in self._flows]
        sources = await self._calls.make(lambda connection: task_channels(connection, slugs))
        self._claims.know(sources)
        flows = {source.channel: source.slug for source in sources}
        stops = {source.stop_channel for source in sources}
        peers = await self._calls.make(seats.workers_channel)

        def hear(channel: str) -> None:
            if channel == peers:
                self._liveness.look()
            elif channel in stops:
                self._stops.look()
            else:
                self._dispatcher.notify(flows[channel])

        def hear_all() -> None:
            self._liveness.look()
            self._stops.look()
            self._dispatcher.wake()

        channels = [*flows, *stops, peers]
        return Listener(dsn, channels, hear, hear_all, on_listen=self._liveness.take_seat)
