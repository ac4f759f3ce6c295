"""The figures of a scenario."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

Figures = Mapping[str, float]

MILLISECONDS = 1e3
PLAIN = re.compile(r"p\d+|mean|rate")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The figures of one setting of a scenario. The first figure is the most important one.

    Attributes:
        setting: The setting, if the scenario has several.
        unit: The unit of figures whose names do not contain one. With "/s" at its end, more is
            better.
        ours: The engine's figures.
        floor: The same figures for the least that PostgreSQL must do, written by hand.
        beside: The figures of other ways, by name, for comparison.
    """

    setting: str = ""
    unit: str
    ours: Figures
    floor: Figures = field(default_factory=dict)
    beside: Mapping[str, Figures] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result(Measured):
    """The figures with their context.

    Attributes:
        scenario: The name of the scenario.
        ratio: The cost in multiples of the floor, by the first figure that both have: 2 is twice
            the time, or half the rate. None without a floor.
        peers: The same figures of other engines, by name.
        machine: The machine that measured them.
    """

    scenario: str
    ratio: float | None
    peers: Mapping[str, Figures] = field(default_factory=dict)
    machine: Mapping[str, Any]

    @classmethod
    def of(cls, scenario: str, measured: Measured, machine: Mapping[str, Any]) -> Self:
        """Add the scenario and the machine to figures."""
        return cls(
            scenario=scenario,
            ratio=multiple(measured, measured.ours),
            machine=machine,
            **asdict(measured),
        )


def multiple(measured: Measured, figures: Figures) -> float | None:
    """The cost of these figures in multiples of the floor, by the first figure that both have."""
    name = next((name for name in measured.ours if name in figures and name in measured.floor), "")
    if not name or not figures[name] or not measured.floor[name]:
        return None
    times = figures[name] / measured.floor[name]
    return 1 / times if f"{name}{unit_of(measured, name)}".endswith("/s") else times


def unit_of(measured: Measured, name: str) -> str:
    """The unit of a figure; empty if the name contains it."""
    return measured.unit if PLAIN.fullmatch(name) else ""


def percentile(values: Sequence[float], share: float) -> float:
    """The percentile of these values, with `share` from 0 to 1."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def latencies(seconds: Sequence[float]) -> dict[str, float]:
    """The median and the 99th percentile, in milliseconds."""
    return {f"p{int(p * 100)}": percentile(seconds, p) * MILLISECONDS for p in (0.5, 0.99)}


def rate(count: float, seconds: float) -> dict[str, float]:
    """The number a second, from one measurement."""
    return {"rate": count / seconds}


def scaled(count: int) -> int:
    """A count times PGFLOW_BENCH_SCALE. Tests set a small scale."""
    return max(2, round(count * float(os.environ.get("PGFLOW_BENCH_SCALE", "1"))))
