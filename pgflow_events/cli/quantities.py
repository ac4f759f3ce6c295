"""Durations, times and sizes on the command line: 7d, 90m, 2.5, 2026-12-24T18:00Z, 16MB, 16MiB."""

import re
from datetime import datetime, timedelta
from math import nan

import click

from pgflow_events.settings import LONGEST

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
BYTES = {"": 1, "b": 1} | {
    f"{prefix}{suffix}": base**power
    for suffix, base in (("b", 1000), ("ib", 1024))
    for power, prefix in enumerate("kmgt", 1)
}
TIME = "2026-12-24T18:00+01:00"
MOST = 2**62  # bytes: a bigint of the database ends at 2**63
QUANTITY = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", re.ASCII)


def age(text: str) -> timedelta:
    """Parse a number and its unit (s, m, h, d or w): the `type=` of an option."""
    match = QUANTITY.fullmatch(text)
    if match and not match[2]:
        raise click.BadParameter(f"{text!r} has no unit: add one of s, m, h, d and w, as in 7d")
    if not match or match[2] not in SECONDS:
        raise click.BadParameter(f"{text!r} is not a duration: use 90s, 30m, 12h, 7d or 2w")
    seconds = float(match[1]) * SECONDS[match[2]]
    if seconds >= LONGEST.total_seconds():
        raise click.BadParameter(f"{text!r} is too long: use less than {LONGEST.days}d")
    return timedelta(seconds=seconds)


def seconds(text: str | float) -> float:
    """Parse a number of seconds, 0 or more, or inf: the `type=` of an option."""
    try:
        number = float(text)
    except ValueError:
        number = nan
    if not number >= 0:  # nor nan
        raise click.BadParameter(f"{text!r} is not a number of seconds: use 30 or 0.5")
    return number


def some_seconds(text: str | float) -> float:
    """Parse a number of seconds that is more than 0."""
    if not (number := seconds(text)):
        raise click.BadParameter(f"{text!r} is too short: use more than 0 seconds")
    return number


def finite_seconds(text: str | float) -> float:
    """Parse a number of seconds, 0 or more, of which a delay may consist."""
    if (number := seconds(text)) > LONGEST.total_seconds():
        most = f"{LONGEST.total_seconds():,.0f}"
        raise click.BadParameter(f"{text!r} is too long: use at most {most} seconds")
    return number


def moment(text: str | datetime) -> datetime:
    """Parse a time with its zone."""
    if isinstance(text, datetime):
        return text
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a time: use {TIME}") from None
    if time.utcoffset() is None:
        raise click.BadParameter(f"{text!r} has no time zone: add one, as in {TIME}")
    return time


def size(text: str) -> int:
    """Parse a number of bytes, with or without a unit: 16MB is by 1000, 16MiB by 1024."""
    match = QUANTITY.fullmatch(text)
    if not match or match[2].lower() not in BYTES:
        raise click.BadParameter(f"{text!r} is not a size: use 16MB, 16MiB or 16000000")
    size = float(match[1]) * BYTES[match[2].lower()]
    if size > MOST:
        raise click.BadParameter(f"{text!r} is too large: use at most 4194304TiB")
    return int(size)


def size_text(size: int) -> str:
    """A size as the command line takes it, in the largest unit that divides it."""
    for unit in ("GiB", "MiB", "KiB"):
        if size and size % BYTES[unit.lower()] == 0:
            return f"{size // BYTES[unit.lower()]}{unit}"
    return str(size)
