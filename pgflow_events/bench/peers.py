"""Figures of other engines, read from a file."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import orjson

from pgflow_events.bench.measured import Figures, Result
from pgflow_events.errors import SettingsError

LATENCIES = {"ms p50": "p50", "ms p99": "p99"}

# By our scenario and setting: the peers' names of figures, and our names.
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
    """The figures of another engine in one scenario."""

    peer: str
    version: str
    setting: str
    scenario: str
    unit: str
    figures: Figures

    @property
    def name(self) -> str:
        """The name in a table."""
        return f"{self.peer} {self.version}{', ' * bool(self.setting)}{self.setting}"


def read_peers(path: Path) -> list[Peer]:
    """Read a file with one JSON object a line. Each has at least the fields of `Peer`.

    Raises:
        SettingsError: A line is not such an object.
        OSError: The file cannot be read.
    """
    names = [field.name for field in fields(Peer)]
    try:
        found = [orjson.loads(line) for line in path.read_text().splitlines() if line.strip()]
        return [Peer(**{name: each[name] for name in names}) for each in found]
    except (TypeError, KeyError, ValueError) as error:
        raise SettingsError(f"{path} is not a file of peers' figures: {error!r}") from error


def beside(results: Sequence[Result], peers: Iterable[Peer]) -> list[Result]:
    """Add to each result the figures of peers that are comparable."""
    known = list(peers)
    return [
        replace(result, peers={peer.name: has for peer in known if (has := of(result, peer))})
        for result in results
    ]


def of(result: Result, peer: Peer) -> Figures:
    """The figures of a peer that are comparable to a result, by our names."""
    if peer.scenario != result.scenario:
        return {}
    names = dict(NAMES.get((result.scenario, result.setting), {}))
    if peer.setting == result.setting:
        names |= {name: name for name in result.ours}
    return {ours: peer.figures[name] for name, ours in names.items() if name in peer.figures}
