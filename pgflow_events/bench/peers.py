"""Figures of other engines, measured by themselves and read from a file."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import orjson

from pgflow_events.bench.measured import Figures, Result
from pgflow_events.errors import SettingsError

LATENCIES = {"ms p50": "p50", "ms p99": "p99"}

# By scenario and setting of ours, how their figures are called here.
NAMES: Mapping[tuple[str, str], Mapping[str, str]] = {
    ("wake", ""): LATENCIES,
    ("chain", "idle"): LATENCIES,
    ("chain", "loaded"): {"runs/s": "rate"},
    ("drain", "1 process, no-op, 50 slots"): {"jobs/s": "rate"},
    ("drain", "2 processes, no-op, 50 slots"): {"jobs/s, 2 processes": "rate"},
    **{
        ("payload", size): {
            f"{size}, ms p50": "p50",
            f"{size}, ms p99": "p99",
            f"{size}, bytes stored": "bytes stored",
            f"{size}, WAL bytes": "WAL bytes",
        }
        for size in ("3 MB", "20 MB")
    },
    ("idle", ""): {"statements a minute": "statements a minute", "CPU %": "CPU %"},
}


@dataclass(frozen=True, slots=True)
class Peer:
    """What another engine did in one of the scenarios."""

    peer: str
    version: str
    setting: str
    scenario: str
    unit: str
    figures: Figures

    @property
    def name(self) -> str:
        """What it is called in a table."""
        return f"{self.peer} {self.version}{', ' * bool(self.setting)}{self.setting}"


def read_peers(path: Path) -> list[Peer]:
    """The peers of a file: a JSON object a line, with the fields of `Peer` and perhaps more.

    Raises:
        SettingsError: It has a line of another kind.
        OSError: It cannot be read.
    """
    names = [field.name for field in fields(Peer)]
    try:
        found = [orjson.loads(line) for line in path.read_text().splitlines() if line.strip()]
        return [Peer(**{name: each[name] for name in names}) for each in found]
    except (TypeError, KeyError, ValueError) as error:
        raise SettingsError(f"{path} is no file of peers: {error!r}") from error


def beside(results: Sequence[Result], peers: Iterable[Peer]) -> list[Result]:
    """Put to each result what the peers have of its figures."""
    known = list(peers)
    return [
        replace(result, peers={peer.name: has for peer in known if (has := of(result, peer))})
        for result in results
    ]


def of(result: Result, peer: Peer) -> Figures:
    """The figures of a peer that are of the same kind, by the names that they have here."""
    if peer.scenario != result.scenario:
        return {}
    names = dict(NAMES.get((result.scenario, result.setting), {}))
    if peer.setting == result.setting:
        names |= {name: name for name in result.ours}
    return {ours: peer.figures[name] for name, ours in names.items() if name in peer.figures}
