"""Prints results as a table."""

from collections.abc import Iterator, Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from pgflow_events.bench.measured import Figures, Result, multiple

THREE_DIGITS = 100


def table(results: Sequence[Result]) -> Table:
    """The table of a scenario: a row for each competitor, a column for each figure."""
    names = list(dict.fromkeys(name for result in results for name in result.ours))
    drawn = Table(
        box=SIMPLE_HEAD, title=results[0].scenario, title_justify="left", caption=noise(results[0])
    )
    for left in ("", "", "unit" if any(result.unit for result in results) else ""):
        drawn.add_column(left, no_wrap=True)
    for name in names:
        drawn.add_column(name, justify="right")
    if any(result.floor for result in results):
        drawn.add_column("times the floor", justify="right")
    for result in results:
        for line in lines(result, names):
            drawn.add_row(*map(Text, line[: len(drawn.columns)]))
        drawn.add_section()
    return drawn


def lines(result: Result, names: Sequence[str]) -> Iterator[list[str]]:
    """The cells of each row."""
    for who, figures in who_did(result).items():
        times = multiple(result, figures) if who != "floor" else None
        yield [
            result.setting if who == "ours" else "",
            who,
            result.unit if who == "ours" else "",
            *(number(figures.get(name)) for name in names),
            "" if times is None else f"{times:.2f}",
        ]


def who_did(result: Result) -> Mapping[str, Figures]:
    """The figures of each competitor, ours first: the engine, the floor, other ways and peers."""
    found = {"ours": result.ours, "floor": result.floor, **result.beside, **result.peers}
    return {who: figures for who, figures in found.items() if figures}


def number(value: float | None) -> str:
    """A figure with three digits: more would not be significant."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= THREE_DIGITS else f"{value:.3g}"


def noise(result: Result) -> str:
    """The noise of the machine right before the measurement."""
    measured = result.machine["noise"]
    return (
        f"noise (p90 / p10): CPU {measured['cpu_p90_by_p10']:.2f}, commits"
        f" {measured['commit_p90_by_p10']:.2f}, of {measured['commit_p50_ms']:.2g} ms"
    )
