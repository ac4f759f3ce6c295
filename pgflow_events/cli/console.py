"""Where commands print what has colours and columns."""

from rich.console import Console


def output_console() -> Console:
    """The standard output; a line is never wrapped for a reader that is no terminal."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 10_000
    return console
