"""Durations and sizes on the command line: 7d, 90m, 2.5, 16MB, 16MiB."""

import re
from datetime import timedelta
from math import nan

import click

from pgflow_events.settings import LONGEST

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
BYTES = {"": 1, "b": 1} | {
    f"{prefix}{suffix}": base**power
    for suffix, base in (("b", 1000), ("ib", 1024))
    for power, prefix in enumerate("kmgt", 1)
}
MOST = 2**62  # bytes; the database's numbers end soon after
QUANTITY = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", re.ASCII)


def age(text: str) -> timedelta:
    """A number and its unit: s, m, h, d or w. For `type=` of an option."""
    match = QUANTITY.fullmatch(text)
    if match and not match[2]:
        raise click.BadParameter(f"{text!r} has no unit: add one of s, m, h, d and w, as in 7d")
    if not match or match[2] not in SECONDS:
        raise click.BadParameter(f"{text!r} is not a duration: use one such as 90s, 30m, 12h or 7d")
    seconds = float(match[1]) * SECONDS[match[2]]
    if seconds >= LONGEST.total_seconds():
        raise click.BadParameter(f"{text!r} is too long: use less than {LONGEST.days}d")
    return timedelta(seconds=seconds)


def seconds(text: str | float) -> float:
    """A number of seconds, 0 or more; inf is for ever. For `type=` of an option."""
    try:
        number = float(text)
    except ValueError:
        number = nan
    if not number >= 0:  # nor nan
        raise click.BadParameter(f"{text!r} is no number of seconds: use one such as 30 or 0.5")
    return number


def some_seconds(text: str | float) -> float:
    """The same, more than 0."""
    if not (number := seconds(text)):
        raise click.BadParameter(f"{text!r} is too short: use more than 0 seconds")
    return number


def size(text: str) -> int:
    """Bytes: a plain number, or one with a unit as in 16MB (of 1000) or 16MiB (of 1024)."""
    match = QUANTITY.fullmatch(text)
    if not match or match[2].lower() not in BYTES:
        raise click.BadParameter(f"{text!r} is not a size: use one such as 16MB, 16MiB or 16000000")
    size = float(match[1]) * BYTES[match[2].lower()]
    if size > MOST:
        raise click.BadParameter(f"{text!r} is too large: use at most 4194304TiB")
    return int(size)


def size_text(size: int) -> str:
    """A size as the command line takes it: in the largest unit without a rest."""
    for unit in ("GiB", "MiB", "KiB"):
        if size and size % BYTES[unit.lower()] == 0:
            return f"{size // BYTES[unit.lower()]}{unit}"
    return str(size)
