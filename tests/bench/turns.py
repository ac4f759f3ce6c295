"""Compare two checkouts in turns, call by call: `python -m tests.bench.turns OLD NEW`.

Each side has a server of its own, idle workers and a client, all from its checkout and the virtual
environment there. What disturbs the machine disturbs both alike. Linux only: CPU is read in /proc.
"""

import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import psycopg
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from pgflow_events.bench.measured import percentile
from pgflow_events.bench.report import number
from tests.bench.cpu import cpu_of, postmaster_of, server_cpu

SIDE = Path(__file__).with_name("side.py")
PATIENCE = 30.0  # seconds for any answer
REST = 0.02  # seconds before each call
LOOK = 0.05  # seconds between two looks whether all is done
WARM = 10  # rounds that do not count
PROGRESS = 10.0  # seconds between two lines
PROCESSES = 4  # of all workers
WIDTH = 110

START = "select from pgflow.start_flow(%s, '1')"
START_MANY = "select pgflow.start_flow('many', to_jsonb(n)) from generate_series(1, %s) n"
NOW = "select clock_timestamp()"
LASTED = """
select extract(epoch from max(completed_at) - min(started_at))::float8
from pgflow.step_tasks where flow_slug = 'many' and started_at >= %s
"""
GOING_ON = "select exists (select from pgflow.runs where status = 'started')"
CONTROL = "create table control as select 0 as n"

Times = dict[str, list[float]]


@dataclass
class Side:
    """One of the two, and what was measured of it."""

    connection: psycopg.Connection[Any]
    heard: socket.socket
    client: "subprocess.Popen[str]"
    workers: list[int]
    postmaster: int
    times: Times = field(default_factory=dict)

    def wake(self) -> None:
        """From a commit in SQL to the handler, and what it takes of the server.

        On a busy machine the handler may start before we know of the commit.
        """
        cpu = self._server_cpu()
        time.sleep(REST)
        self.connection.execute(START, ["one"], prepare=True)
        committed = time.monotonic()
        self._note("COMMIT returned to handler, ms", 1e3 * (self._handler(0) - committed))
        time.sleep(REST)
        self._note("server CPU of that run, us", 1e6 * (self._server_cpu() - cpu))

    def start(self) -> None:
        """A call of a client."""
        time.sleep(REST)
        began, ended = map(float, asked(self.client).split())
        self._note("client.start, ms", 1e3 * (ended - began))
        self._note("client.start to handler, ms", 1e3 * (self._handler(0) - began))

    def chain(self) -> None:
        """From a call in SQL to the last of four handlers."""
        time.sleep(REST)
        began = time.monotonic()
        self.connection.execute(START, ["four"], prepare=True)
        starts = [self._handler(step) for step in range(4)]
        self._note("chain of four: call to last handler, ms", 1e3 * (starts[-1] - began))

    def control(self) -> None:
        """A commit that has nothing to do with what is compared."""
        time.sleep(REST)
        began = time.monotonic()
        self.connection.execute("update control set n = n + 1", prepare=True)
        self._note("control: a commit of one row, ms", 1e3 * (time.monotonic() - began))

    def drain(self, tasks: int) -> None:
        """Work off waiting runs."""
        ((began,),) = self.connection.execute(NOW).fetchall()
        self.connection.execute(START_MANY, [tasks])
        server, workers = self._server_cpu(), self._workers_cpu()
        while self.connection.execute(GOING_ON).fetchall() != [(False,)]:
            time.sleep(LOOK)
        spent = {
            "server CPU": self._server_cpu() - server,
            "worker CPU": self._workers_cpu() - workers,
        }
        ((spent["time"],),) = self.connection.execute(LASTED, [began]).fetchall()
        for what, seconds in spent.items():
            self._note(f"drain: {what} a task, us", 1e6 * seconds / tasks)

    def _note(self, what: str, value: float) -> None:
        self.times.setdefault(what, []).append(value)

    def _handler(self, expected: int) -> float:
        """When the handler of this step started."""
        step, at = self.heard.recv(100).split()
        if int(step) != expected:
            raise click.ClickException(f"step {int(step)} started where {expected} was due")
        return float(at)

    def _workers_cpu(self) -> float:
        return sum(map(cpu_of, self.workers))

    def _server_cpu(self) -> float:
        return server_cpu(self.postmaster)


@click.command()
@click.argument("old", type=click.Path(path_type=Path, exists=True))
@click.argument("new", type=click.Path(path_type=Path, exists=True))
@click.option("--rounds", default=100, show_default=True, help="Calls of each kind.")
@click.option("--drains", default=5, show_default=True, help="Drains of each.")
@click.option("--tasks", default=2000, show_default=True, help="Tasks of a drain.")
@click.option("--workers", default=1, show_default=True, help="Idle workers of each side.")
@click.option("--flows", default=3, show_default=True, help="Flows of each worker.")
@click.option("--slots", default=50, show_default=True, help="Slots of each worker.")
@click.option("--async", "no_wait", is_flag=True, help="Commits do not wait for the disk.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def main(
    *,
    old: Path,
    new: Path,
    rounds: int,
    drains: int,
    tasks: int,
    no_wait: bool,
    as_json: bool,
    **options: int,
) -> None:
    """Measure the checkouts OLD and NEW in turns. Each needs a .venv of its own."""
    settings = {"max_connections": "400", "synchronous_commit": "off" if no_wait else "on"}
    with ExitStack() as stack:
        sides = [stack.enter_context(side(each, settings, options)) for each in (old, new)]
        ways: tuple[Callable[[Side], None], ...] = (
            Side.wake,
            Side.start,
            Side.chain,
            Side.control,
        )
        take_turns(sides, ways, WARM, "warm-up")
        for each in sides:
            each.times.clear()
        take_turns(sides, ways, rounds, "rounds")
        take_turns(sides, (lambda each: each.drain(tasks),), drains, "drains")
        found = compared(sides[0].times, sides[1].times)
    if as_json:
        click.echo(json.dumps(found))
    else:
        Console(highlight=False, width=WIDTH).print(table(found))


def take_turns(
    sides: list[Side], ways: tuple[Callable[[Side], None], ...], rounds: int, what: str
) -> None:
    """Measure each way on both sides, the other one first each time."""
    said = time.monotonic()
    for done in range(rounds):
        for way in ways:
            for each in sides if done % 2 else reversed(sides):
                way(each)
        if time.monotonic() - said > PROGRESS:
            said = time.monotonic()
            click.echo(f"{done + 1} of {rounds} {what}", err=True)


Row = dict[str, Any]


def compared(old: Times, new: Times) -> list[Row]:
    """What was measured of both, and the ratios."""
    return [compared_row(what, old[what], new[what]) for what in old]


def compared_row(what: str, old: list[float], new: list[float]) -> Row:
    """One line: percentiles of each, and the median of the ratios of those measured in turn."""
    shares = {"p50": 0.5, "p99": 0.99}
    figures = {
        who: {name: percentile(values, share) for name, share in shares.items()}
        for who, values in (("old", old), ("new", new))
    }
    pairs = [after / before for before, after in zip(old, new, strict=True) if before > 0]
    return {"what": what, **figures, "ratio": percentile(pairs, 0.5) if pairs else None}


def table(rows: list[Row]) -> Table:
    """The same to be read."""
    drawn = Table(box=SIMPLE_HEAD)
    drawn.add_column("", no_wrap=True)
    for name in ("old p50", "new p50", "ratio", "old p99", "new p99", "ratio", "ratio of pairs"):
        drawn.add_column(name, justify="right")
    for row in rows:
        cells = [cell for name in ("p50", "p99") for cell in beside(row, name)]
        drawn.add_row(row["what"], *cells, number(row["ratio"]))
    return drawn


def beside(row: Row, name: str) -> tuple[str, str, str]:
    """A percentile of both sides, and its ratio."""
    old, new = row["old"][name], row["new"][name]
    return number(old), number(new), f"{new / old:.2f}" if old else ""


@contextmanager
def side(checkout: Path, settings: Mapping[str, str], options: Mapping[str, int]) -> Iterator[Side]:
    """The server, workers and client of a checkout; they end with the block."""
    with ExitStack() as stack:

        def started(role: str, **order: object) -> tuple["subprocess.Popen[str]", str]:
            return stack.enter_context(process(checkout, role, order))

        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pgflow-turns-")))
        heard = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        heard.settimeout(PATIENCE)
        heard.bind(str(folder / "socket"))
        _, dsn = started("serve", settings=settings)
        order = {**options, "dsn": dsn, "address": heard.getsockname()}
        workers = [
            started("work", **{**order, "workers": each})[0] for each in shares(options["workers"])
        ]
        client, _ = started("start", dsn=dsn)
        connection = stack.enter_context(psycopg.connect(dsn, autocommit=True))
        connection.execute(CONTROL)
        if not (postmaster := postmaster_of(connection)):
            raise click.ClickException("the CPU of the server is not in /proc: use Linux")
        yield Side(connection, heard, client, [each.pid for each in workers], postmaster)


def shares(workers: int) -> list[int]:
    """The workers of each process."""
    processes = min(workers, PROCESSES)
    return [workers // processes + (n < workers % processes) for n in range(processes)]


@contextmanager
def process(
    checkout: Path, role: str, order: Mapping[str, object]
) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """A process of `side.py`, and the first line that it says. It ends with the block."""
    python = checkout.resolve() / ".venv/bin/python"
    if not python.exists():
        raise click.UsageError(f"{checkout} has no .venv: run `make .venv/ready` there")
    with subprocess.Popen(
        [python, "-P", SIDE, role, json.dumps(order)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is for us, and then this ends with its input
        cwd=checkout,
    ) as started:
        try:
            yield started, line_of(started)
        finally:
            assert started.stdin
            started.stdin.close()
            try:
                started.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                started.kill()


def asked(started: "subprocess.Popen[str]") -> str:
    """Send a line, and read one."""
    assert started.stdin
    started.stdin.write("1\n")
    started.stdin.flush()
    return line_of(started)


def line_of(started: "subprocess.Popen[str]") -> str:
    """The next line of a process."""
    assert started.stdout
    if not (line := started.stdout.readline()):
        sys.exit(f"a process ended too early, with status {started.wait()}")
    return line.strip()


if __name__ == "__main__":
    main()
