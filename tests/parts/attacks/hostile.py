"""Characters that do something to a terminal, a log or its reader, and what looks for them."""

import unicodedata

# Each is a member of another kind.
HOSTILE = {
    "escape": "\x1b[2J\x1b[31m",
    "title": "\x1b]0;owned\x07",
    "link": "\x1b]8;;https://evil.example\x1b\\click\x1b]8;;\x1b\\",
    "clipboard": "\x1b]52;c;cm0gLXJmIC8=\x07",
    "c1": "\x9b31m\x90q\x9d0;x\x9c",
    "bell and backspace": "\x07\x08\x7f",
    "return": "kept\rforged",
    "lines": "a\x0bb\x0cc\x1cd\x1de\x1ef\x85g\u2028h\u2029i",
    "bidi": "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c",
    "invisible": "\u200b\u200c\u200d\u2060\ufeff\u00ad\u180e\u034f\u115f\u3164\uffa0",
    "selectors": "\ufe00\ufe0f\U000e0100\U000e01ef\U000e0001\U000e0041",
    "private": "\ue000\U000f0000\U0010fffd\ufffe",
    "heap": "e" + "\u0301\u0489" * 40,
    "markup": "[red]x[/red] [link=https://evil.example]y[/link] [/] :skull:",
}
ALL = " ".join(HOSTILE.values())

_IGNORABLE = {
    *"\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180e\u180f\u3164\uffa0",
    *map(chr, range(0xFE00, 0xFE10)),
    *map(chr, range(0xE0000, 0xE1000)),
}
MOST_MARKS = 8


def offences(text: str, keep: str = "\n") -> list[str]:
    """What a terminal would obey or hide, by its number; a heap of marks too."""
    found, marks = [], 0
    for c in text:
        marks = marks + 1 if unicodedata.category(c) in {"Mn", "Me"} else 0
        kind = unicodedata.category(c)
        bad = kind[0] == "C" or kind in {"Zl", "Zp"} or c in _IGNORABLE or marks > MOST_MARKS
        if bad and c not in keep:
            found.append(f"U+{ord(c):04X}")
    return found
