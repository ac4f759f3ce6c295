"""Rounds put together, and drawn."""

import statistics
from dataclasses import dataclass, field
from typing import Any

from rich.table import Table

from tests.bench.measuring import percentile
from tests.bench.peers.catalog import Peer
from tests.bench.peers.scenarios import Figures

UNITS = {
    "wake": "ms",
    "drain": "jobs/s",
    "chain": "ms, runs/s",
    "payload": "ms, bytes a run",
    "small": "bytes a run",
    "idle": "statements a minute, % CPU, connections",
}


@dataclass
class Result:
    """What a peer did with one setting in one scenario, round by round."""

    peer: Peer
    setting: str
    scenario: str
    rounds: list[Figures] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def figures(self) -> dict[str, float]:
        """Medians of what is one a round, percentiles over all rounds of what is many."""
        return {
            name: value
            for figure in (self.rounds[0] if self.rounds else {})
            for name, value in pooled(figure, [figures[figure] for figures in self.rounds]).items()
        }

    def as_json(self, noise: dict[str, float]) -> dict[str, Any]:
        """All of it, and how quiet the machine was."""
        return {
            "peer": self.peer.name,
            "version": self.peer.version,
            "setting": self.setting,
            "scenario": self.scenario,
            "unit": UNITS[self.scenario],
            "figures": self.figures(),
            "settings": self.peer.settings[self.setting].options,
            "rounds": len(self.rounds),
            "failures": self.failures,
            "noise": noise,
        }


def pooled(name: str, values: list[Any]) -> dict[str, float]:
    """One figure, of all rounds."""
    if not isinstance(values[0], list):
        return {name: statistics.median(values)}
    together = [value for one in values for value in one]
    return {
        f"{name} p50": percentile(together, 0.5),
        f"{name} p99": percentile(together, 0.99),
        f"{name} n": len(together),
    }


def table(scenario: str, results: list[Result]) -> Table:
    """A scenario, a line a peer and setting."""
    chosen = [result for result in results if result.scenario == scenario]
    names = list(dict.fromkeys(name for r in chosen for name in r.figures()))
    drawn = Table("peer", "setting", *names, title=scenario, title_justify="left")
    for result in chosen:
        figures = result.figures()
        cells = [written(figures[name]) if name in figures else "" for name in names]
        if result.failures:
            cells[0:1] = [f"did not finish ({len(result.failures)})"] if not figures else cells[0:1]
        drawn.add_row(f"{result.peer.name} {result.peer.version}", result.setting, *cells)
    return drawn


def written(value: float) -> str:
    """Three digits are more than there is to know."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.3g}"
