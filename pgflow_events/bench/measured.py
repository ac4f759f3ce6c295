"""What a scenario measured, and how it is passed on."""

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
    """Figures of one setting of a scenario; the first one is the one that counts.

    Attributes:
        setting: What is special to it, if the scenario has several.
        unit: Of the figures whose names tell no other. With "/s" at its end, more is better.
        ours: The engine's.
        floor: The same figures of what has to be done in any case, done by hand.
        beside: What else was done for comparison, by name.
    """

    setting: str = ""
    unit: str
    ours: Figures
    floor: Figures = field(default_factory=dict)
    beside: Mapping[str, Figures] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result(Measured):
    """What was measured, with all that is needed to judge it.

    Attributes:
        scenario: Its name.
        ratio: How many times the floor it costs, by the first figure that both have: 2 is twice
            the time, or half the rate. None without a floor.
        peers: The same figures of other engines, by name.
        machine: Where it was measured.
    """

    scenario: str
    ratio: float | None
    peers: Mapping[str, Figures] = field(default_factory=dict)
    machine: Mapping[str, Any]

    @classmethod
    def of(cls, scenario: str, measured: Measured, machine: Mapping[str, Any]) -> Self:
        """What a scenario measured on a machine."""
        return cls(
            scenario=scenario,
            ratio=multiple(measured, measured.ours),
            machine=machine,
            **asdict(measured),
        )


def multiple(measured: Measured, figures: Figures) -> float | None:
    """How many times the floor these cost, by the first figure that both have."""
    name = next((name for name in measured.ours if name in figures and name in measured.floor), "")
    if not name or not figures[name] or not measured.floor[name]:
        return None
    times = figures[name] / measured.floor[name]
    return 1 / times if f"{name}{unit_of(measured, name)}".endswith("/s") else times


def unit_of(measured: Measured, name: str) -> str:
    """The unit of a figure, if its name does not tell it."""
    return measured.unit if PLAIN.fullmatch(name) else ""


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of all is not above."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def latencies(seconds: Sequence[float]) -> dict[str, float]:
    """Median and 99th percentile, in milliseconds."""
    return {f"p{int(p * 100)}": percentile(seconds, p) * MILLISECONDS for p in (0.5, 0.99)}


def rate(count: float, seconds: float) -> dict[str, float]:
    """How many a second, in the one try there was."""
    return {"rate": count / seconds}


def scaled(count: int) -> int:
    """So many, times PGFLOW_BENCH_SCALE: those who only want to see that it works have little."""
    return max(2, round(count * float(os.environ.get("PGFLOW_BENCH_SCALE", "1"))))
