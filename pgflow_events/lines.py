"""Joins the lines of a text."""

ENDS = (".", ":", ";", ",", "?", "!", "-")


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
