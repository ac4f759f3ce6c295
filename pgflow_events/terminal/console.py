"""Where commands print what has colours and columns."""

from collections.abc import Iterator

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderableType, RenderHook
from rich.segment import Segment

from pgflow_events.texts import printable

WIDE = 10_000  # characters; nothing is that wide


class Plain:
    """What something looks like, with nothing in it that a terminal would obey or hide."""

    def __init__(self, what: ConsoleRenderable) -> None:
        self._what = what

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        """The same segments. Those of rich itself, such as to move the cursor, stay as they are."""
        for segment in console.render(self._what, options):
            text, style, control = segment
            yield segment if control else Segment(printable(text, keep="\n"), style)


class Plainly(RenderHook):
    """Makes all plain that is printed, wherever its text has come from."""

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        """Each of them, made plain."""
        return [Plain(what) for what in renderables]


def output_console(*, stderr: bool = False) -> Console:
    """The standard output or error; a line is never wrapped for a reader that is no terminal.

    A text has no markup of rich's: what looks like it was written by others.
    """
    console = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    console.push_render_hook(Plainly())
    if not console.is_terminal:
        console.width = WIDE
    return console


def print_whole(console: Console, *whats: RenderableType) -> None:
    """Print; a word that is longer than the terminal is wide is left in one piece."""
    for what in whats:
        least = console.measure(what, options=console.options.update(max_width=WIDE)).minimum
        console.width = max(console.width, least)
        console.print(what)
