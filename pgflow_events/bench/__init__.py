"""Benchmarks that need nothing but a database: `pgflow-events bench`.

A scenario is an async function that is given the DSN of a migrated database and returns what it
measured. Its flows have slugs that begin with `bench_`; its other tables are in a schema of their
own, `pgflow_bench`. Nothing of either is left when it has ended.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

import trio

from pgflow_events.bench.chain import chain
from pgflow_events.bench.drain import drain
from pgflow_events.bench.fan import fan
from pgflow_events.bench.idle import idle
from pgflow_events.bench.machine import machine
from pgflow_events.bench.measured import Measured, Result
from pgflow_events.bench.payload import payload
from pgflow_events.bench.peers import Peer, beside
from pgflow_events.bench.reservation import reserved
from pgflow_events.bench.wake import wake

Scenario = Callable[[str], Awaitable[list[Measured]]]

SCENARIOS: Mapping[str, Scenario] = {
    scenario.__name__: scenario for scenario in (wake, chain, drain, payload, fan, idle)
}


def measure(
    dsn: str, scenarios: Mapping[str, Scenario], peers: Sequence[Peer] = ()
) -> Iterator[Sequence[Result]]:
    """Measure one scenario after the other; the results of each as soon as they are known.

    Args:
        dsn: A migrated database, as libpq takes it.
        scenarios: What to measure, by name.
        peers: What was measured of other engines.

    Raises:
        PgflowError: A flow is there that is not ours but has the name of one of ours, or
            another benchmark has this database.
    """
    for name, scenario in scenarios.items():
        with reserved(dsn):
            of = machine(dsn)
            measured = trio.run(scenario, dsn)
        yield beside([Result.of(name, each, of) for each in measured], peers)
