"""Texts for terminals, by means of nothing that takes long to import."""

from collections.abc import Sequence

LONGEST = 100  # characters of a value or an error
THOUSAND = 1000
MOST_NAMES = 20  # in a message
MINUTE = 60
UNITS = (("d", 86400), ("h", 3600), ("min", MINUTE), ("s", 1))
SIZES = ("kB", "MB", "GB", "TB", "PB", "EB")


def one_line(text: str) -> str:
    """The first line of a text, shortened, without what a terminal would obey."""
    first = next(iter(text.strip().splitlines()), "")
    short = first if len(first) <= LONGEST else first[: LONGEST - 1] + "…"
    return printable(short)


def printable(text: str) -> str:
    """A text whose control characters are replaced."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def enumeration(names: Sequence[str]) -> str:
    """The first names of some, and how many more there are; `nothing` if there are none."""
    named = ", ".join(names[:MOST_NAMES]) or "nothing"
    return named if len(names) <= MOST_NAMES else f"{named} and {len(names) - MOST_NAMES} more"


def duration(seconds: float) -> str:
    """Seconds in one or two units, such as `12 ms`, `1.5 s`, `3 min 5 s`.

    It is rounded before the unit is chosen, so that no 1000 ms and no 60.0 s come out. The clock
    of another machine may make it negative: then it is nothing.
    """
    if (milliseconds := round(THOUSAND * seconds)) < THOUSAND:
        return f"{max(milliseconds, 0)} ms"
    if round(seconds, 1) < MINUTE:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    largest = next(i for i, (_, length) in enumerate(UNITS) if whole >= length)
    (unit, length), (smaller_unit, smaller) = UNITS[largest : largest + 2]
    return f"{whole // length} {unit} {whole % length // smaller} {smaller_unit}"


def short_duration(seconds: float) -> str:
    """The same in its larger unit alone, such as `3 min`."""
    return " ".join(duration(seconds).split()[:2])


def size(count: int) -> str:
    """Bytes in one unit, by the thousand, such as `999 bytes`, `1.0 kB`; rounded likewise."""
    if count < THOUSAND:
        return counted(count, "byte")
    power = 1
    while power < len(SIZES) and round(count / THOUSAND**power, 1) >= THOUSAND:
        power += 1
    return f"{count / THOUSAND**power:,.1f} {SIZES[power - 1]}"


def counted(count: int, noun: str) -> str:
    """A number with its noun, such as `1 run`, `1,200 runs`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
