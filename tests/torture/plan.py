"""What goes wrong and when, and what there is to do: pure functions of a seed."""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

CYCLE = 12.0  # seconds: a backlog for the first of them, then a trickle alone, which shows zombies
BACKLOG = 7.0

# Faults a second.
RATES = {
    "SIGKILL": 1.0,
    "SIGSTOP": 1.0,
    "SIGTERM": 0.3,
    "backend": 1.1,
    "crash": 0.1,
    "backend killed": 0.02,
    "backend stopped": 0.2,
    "listeners": 0.1,
    "lock": 0.15,
    "vacuum full": 0.1,
    "snapshot": 0.1,
    "disk full": 0.1,
    "migrate": 0.05,
    "prune": 0.1,
    "blob check": 0.1,
    "way": 0.2,
}
# Seconds that a worker is stopped: one in four for about as long as a claim lasts, its timeout and
# two seconds, or longer. When it goes on, others are at its tasks.
BRIEF, LONG, LONG_SHARE = (0.05, 0.6), (2.8, 5.5), 0.25
DOWN = (0.0, 1.0)  # seconds a server is gone, or others are kept waiting
SHORT, SHORTLY = (0.05, 0.5), {"backend stopped", "lock", "disk full"}


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that goes wrong."""

    at: float
    """Seconds from the start."""
    kind: str
    where: float
    """Which one of those there are: a share of their number."""
    length: float
    """Seconds it lasts."""


def faults(seed: int, seconds: float) -> list[Fault]:
    """The faults of so many seconds, in their order."""
    return sorted(
        (fault for kind in RATES for fault in _of_kind(kind, seed, seconds)),
        key=lambda fault: fault.at,
    )


def _of_kind(kind: str, seed: int, seconds: float) -> Iterator[Fault]:
    chance = Random(f"{seed} {kind}")
    number = round(RATES[kind] * seconds)
    for n in range(number):
        # One in each share of the time: so the number is certain, and two may still be close.
        at = (n + chance.random()) * seconds / number
        yield Fault(at, kind, chance.random(), _length(kind, chance))


def _length(kind: str, chance: Random) -> float:
    if kind == "SIGSTOP":
        return chance.uniform(*(LONG if chance.random() < LONG_SHARE else BRIEF))
    return chance.uniform(*(SHORT if kind in SHORTLY else DOWN))


def is_backlog(elapsed: float) -> bool:
    """Whether there is more to do just now than can be done."""
    return elapsed % CYCLE < BACKLOG
