"""Benchmarks that need nothing but a database: `pgflow-events bench`.

A scenario is an async function that takes the DSN of a migrated database and returns its figures.
The slugs of its flows begin with `bench_`. Its other tables are in the schema `pgflow_bench`. The
benchmark removes these flows and the schema at its end.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

import trio

from pgflow_events.bench.exclusive import exclusive
from pgflow_events.bench.machine import machine
from pgflow_events.bench.measured import Measured, Result
from pgflow_events.bench.peers import Peer, beside
from pgflow_events.bench.scenarios.chain import chain
from pgflow_events.bench.scenarios.drain import drain
from pgflow_events.bench.scenarios.fan import fan
from pgflow_events.bench.scenarios.idle import idle
from pgflow_events.bench.scenarios.payload import payload
from pgflow_events.bench.scenarios.rest import rest
from pgflow_events.bench.scenarios.wake import wake

Scenario = Callable[[str], Awaitable[list[Measured]]]

SCENARIOS: Mapping[str, Scenario] = {
    scenario.__name__: scenario for scenario in (wake, rest, chain, drain, payload, fan, idle)
}


def measure(
    dsn: str, scenarios: Mapping[str, Scenario], peers: Sequence[Peer] = ()
) -> Iterator[Sequence[Result]]:
    """Measure one scenario after the other, and yield the results of each.

    Args:
        dsn: The connection string of a migrated database.
        scenarios: The scenarios by name.
        peers: Figures of other engines.

    Raises:
        PgflowError: A user's flow has a slug that begins with `bench_`, or another benchmark is
            running on this database.
    """
    for name, scenario in scenarios.items():
        with exclusive(dsn):
            of = machine(dsn)
            measured = trio.run(scenario, dsn)
        yield beside([Result.of(name, each, of) for each in measured], peers)
