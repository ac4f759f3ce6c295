"""A text of several lines as one."""

ENDS = (".", ":", ";", ",", "?", "!", "-")


def joined(text: str) -> str:
    """The lines of a text as one, without blanks at their ends, and a sign where one had none.

    libpq says in one line what happened, and in the next one what may be the cause.
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
