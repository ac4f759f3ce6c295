"""Where commands print what has colours and columns."""

from rich.console import Console, RenderableType

WIDE = 10_000  # characters; nothing is that wide


def output_console() -> Console:
    """The standard output; a line is never wrapped for a reader that is no terminal."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDE
    return console


def print_whole(console: Console, *whats: RenderableType) -> None:
    """Print; a word that is longer than the terminal is wide is left in one piece."""
    for what in whats:
        least = console.measure(what, options=console.options.update(max_width=WIDE)).minimum
        console.width = max(console.width, least)
        console.print(what)
