"""Tables whose cells never break, so that users can copy slugs and ids.

If a terminal is too narrow, the table leaves out less important columns, and a line names them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        name: The heading.
        right: Whether cells are aligned to the right, as numbers are.
        spare: The column with the highest number is left out first. A column with 0 always stays.
    """

    name: str
    right: bool = False
    spare: int = 0


class WholeTable:
    """A table without borders, for a console of any width.

    Args:
        columns: The columns.
        rows: The rows, each with a cell for each column.
        sections: The rows that a line follows, counted from 0.
    """

    def __init__(
        self,
        columns: Sequence[Column],
        rows: Sequence[Sequence[str | Text]],
        sections: Sequence[int] = (),
    ) -> None:
        self._columns, self._rows, self._sections = columns, rows, sections
        self._widths = [
            max(cell_len(str(cell)) for cell in (column.name, *(row[n] for row in rows)))
            for n, column in enumerate(columns)
        ]

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """The width of the columns that always stay, and the width of all columns."""
        never = [n for n, column in enumerate(self._columns) if not column.spare]
        return Measurement(self._width(never), self._width(range(len(self._columns))))

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        """The table, and a line that names the columns that were left out."""
        kept = self._kept(options.max_width)
        yield self._table(kept)
        if missing := [c.name for n, c in enumerate(self._columns) if n not in kept]:
            yield Text(f"left out: {', '.join(missing)}; use a wider terminal or --json", "dim")

    def _width(self, kept: Sequence[int]) -> int:
        return sum(self._widths[n] + 1 for n in kept) - 1

    def _kept(self, width: int) -> list[int]:
        """The columns that fit into this width."""
        kept = list(range(len(self._columns)))
        by_need = sorted(kept, key=lambda n: self._columns[n].spare)
        while self._width(kept) > width and self._columns[by_need[-1]].spare:
            kept.remove(by_need.pop())
        return kept

    def _table(self, kept: Sequence[int]) -> Table:
        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
        for n in kept:
            column = self._columns[n]
            table.add_column(
                column.name,
                justify="right" if column.right else "left",
                no_wrap=True,
                min_width=self._widths[n],
            )
        for place, row in enumerate(self._rows):
            table.add_row(*(row[n] for n in kept), end_section=place in self._sections)
        return table
