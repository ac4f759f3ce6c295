"""Texts for terminals, by means of nothing that takes long to import."""

LONGEST = 100  # characters of a value or an error
MINUTE = 60
UNITS = (("d", 86400), ("h", 3600), ("min", MINUTE), ("s", 1))


def one_line(text: str) -> str:
    """The first line of a text, shortened, without what a terminal would obey."""
    first = next(iter(text.strip().splitlines()), "")
    short = first if len(first) <= LONGEST else first[: LONGEST - 1] + "…"
    return printable(short)


def printable(text: str) -> str:
    """A text whose control characters are replaced."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def duration(seconds: float) -> str:
    """Seconds in one or two units, such as `12 ms`, `1.5 s`, `3 min 5 s`."""
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < MINUTE:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    largest = next(i for i, (_, length) in enumerate(UNITS) if whole >= length)
    (unit, length), (smaller_unit, smaller) = UNITS[largest : largest + 2]
    return f"{whole // length} {unit} {whole % length // smaller} {smaller_unit}"
