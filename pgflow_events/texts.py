"""Makes texts safe for terminals and logs. Imports nothing that is slow to import.

Values, errors and the answers of servers are text from others. A terminal obeys some characters
and does not show others. So a text can move the cursor, change the order of words, or hide what a
user copies. The functions here replace such characters.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence

LONGEST = 100  # characters of a value or an error
THOUSAND = 1000
MOST_NAMES = 20  # in a message
MINUTE = 60
MOST_MARKS = 8  # combining marks on a character: no script needs more, and many hide other lines
# Invisible characters that `str.isprintable` accepts: fillers, joiners, variation selectors.
INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
HEAP = re.compile(rf"\W{{{MOST_MARKS + 1}}}")  # perhaps all marks: a mark is not a \w
NOT_PLAIN = re.compile(r"[^ -~]+")  # everything except blanks and visible ASCII characters
UNITS = (("d", 86400), ("h", 3600), ("min", MINUTE), ("s", 1))
ENDS = (".", ":", ";", ",", "?", "!", "-")  # of a line that needs no `; ` after it
SIZES = ("kB", "MB", "GB", "TB", "PB", "EB")


def one_line(text: str, longest: int = LONGEST) -> str:
    """All lines of a text as one, shortened, without control characters."""
    return shortened(joined(text), longest)


def shortened(text: str, longest: int = LONGEST) -> str:
    """The beginning of a text, without control characters."""
    return printable(text if len(text) <= longest else f"{text[: longest - 1]}…")


def printable(text: str, *, keep: str = "") -> str:
    """A text in which U+FFFD replaces each control or invisible character that is not in `keep`."""
    return spelled(text, lambda _: "\N{REPLACEMENT CHARACTER}", keep)


def unambiguous(text: str) -> str:
    """A text on one line, with Python's escapes for control and invisible characters."""
    return spelled(text, lambda c: c.encode("unicode_escape").decode())


def plain_json(text: str, *, keep: str = "\n") -> str:
    """JSON of the same value, with JSON's escapes for control and invisible characters."""
    return spelled(text, json_escape, keep)


def json_escape(character: str) -> str:
    """The JSON escape of a character: two escapes for one beyond U+FFFF."""
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def spelled(text: str, spell: Callable[[str], str], keep: str = "") -> str:
    """A text in which `spell` replaces each control or invisible character."""

    def spell_run(match: re.Match[str]) -> str:
        run, marks, spelled = match[0], 0, []
        if run.isprintable() and not INVISIBLE.search(run) and not HEAP.search(run):
            return run
        for c in run:
            marks = marks + 1 if unicodedata.category(c) in {"Mn", "Me"} else 0
            shown = c.isprintable() and marks <= MOST_MARKS and not INVISIBLE.match(c)
            spelled.append(c if shown or c in keep else spell(c))
        return "".join(spelled)

    return NOT_PLAIN.sub(spell_run, text)


def enumeration(names: Sequence[str]) -> str:
    """The first of these names, and how many more there are; `nothing` if the list is empty."""
    named = ", ".join(names[:MOST_NAMES]) or "nothing"
    return named if len(names) <= MOST_NAMES else f"{named} and {len(names) - MOST_NAMES} more"


def duration(seconds: float) -> str:
    """Seconds in one or two units, such as `12 ms`, `1.5 s`, `3 min 5 s`.

    The seconds are rounded before the unit is chosen, so that 1000 ms and 60.0 s never come out.
    If clocks of two machines differ, the seconds may be negative: then the text is `0 ms`.
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
    """Seconds in one unit, such as `3 min`."""
    return " ".join(duration(seconds).split()[:2])


def size(count: int) -> str:
    """Bytes in one unit of thousands, such as `999 bytes`, `1.0 kB`; rounded first, as above."""
    if count < THOUSAND:
        return counted(count, "byte")
    power = 1
    while power < len(SIZES) and round(count / THOUSAND**power, 1) >= THOUSAND:
        power += 1
    return f"{count / THOUSAND**power:,.1f} {SIZES[power - 1]}"


def counted(count: int, noun: str) -> str:
    """A number with its noun, such as `1 run`, `1,200 runs`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def joined(text: str) -> str:
    """Join the lines of a text, with `; ` after a line that has no punctuation at its end.

    Errors of libpq name the fault in one line and a possible cause in the next one.
    """
    told = ""
    for line in text.splitlines():
        if words := " ".join(line.split()):
            told += f"{_between(told)}{words}"
    return told


def _between(told: str) -> str:
    if not told:
        return ""
    return " " if told.endswith(ENDS) else "; "
