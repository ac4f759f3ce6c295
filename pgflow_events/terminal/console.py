"""The console for output with colours and columns."""

from collections.abc import Iterator

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderableType, RenderHook
from rich.segment import Segment

from pgflow_events.texts import printable

WIDE = 10_000  # characters: wider than any output


class Plain:
    """Wraps a renderable, and replaces control and invisible characters in its text."""

    def __init__(self, what: ConsoleRenderable) -> None:
        self._what = what

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        """The same segments. Control segments of rich, which move the cursor, do not change."""
        for segment in console.render(self._what, options):
            text, style, control = segment
            yield segment if control else Segment(printable(text, keep="\n"), style)


class Plainly(RenderHook):
    """Makes everything plain that the console prints."""

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        """Wrap each renderable in Plain."""
        return [Plain(what) for what in renderables]


def output_console(*, stderr: bool = False) -> Console:
    """A console on stdout or stderr. It wraps lines for terminals only.

    Rich's markup is off, because text from others may look like markup.
    """
    console = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    console.push_render_hook(Plainly())
    if not console.is_terminal:
        console.width = WIDE
    return console


def print_whole(console: Console, *whats: RenderableType) -> None:
    """Print without breaking words. The console grows to the width of the longest word."""
    for what in whats:
        least = console.measure(what, options=console.options.update(max_width=WIDE)).minimum
        console.width = max(console.width, least)
        console.print(what)
