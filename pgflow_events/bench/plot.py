"""Draws results as a chart."""

from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from math import floor, log10
from pathlib import Path
from typing import Any

from pgflow_events.bench.measured import Result
from pgflow_events.bench.report import number, who_did
from pgflow_events.errors import SettingsError

COLOURS = {"ours": "#2f6db5", "floor": "#9a9a9a"}
BESIDE = ("#d98a29", "#5a9e5a", "#b05a9e", "#c0504d", "#7a6fb0", "#4aa3a3", "#8c7853")
BAR, HEAD = 0.22, 0.7  # inches
DOTS = 100  # per inch


def check_plot(path: Path) -> None:
    """Check, before the measurement, that the chart can be drawn.

    Raises:
        SettingsError: The folder or matplotlib is missing.
    """
    if not path.parent.is_dir():
        raise SettingsError(f"there is no folder {path.parent}: create it, or name another")
    if not find_spec("matplotlib"):
        raise SettingsError("--plot needs matplotlib: run pip install 'pgflow-events[bench]'")


def plot(scenarios: Sequence[Sequence[Result]], path: Path) -> None:
    """Draw the first figure of each result next to those of the floor and the peers.

    Each scenario has its own scale.

    Raises:
        OSError: The file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - an extra
    from matplotlib.figure import Figure  # noqa: PLC0415 - the same
    from numpy import array  # noqa: PLC0415 - the same
    from PIL.Image import fromarray  # noqa: PLC0415 - the same

    panels = [panel for results in scenarios for panel in by_unit(results)]
    colours = colours_of(panels)
    heights = [HEAD + BAR * lines(panel) for panel in panels]
    figure = Figure(figsize=(9, sum(heights, HEAD)), dpi=DOTS, layout="constrained")
    canvas: Any = FigureCanvasAgg(figure)  # it has no types
    if panels:
        axes = figure.subplots(len(panels), squeeze=False, height_ratios=heights)[:, 0]
        for panel, axis in zip(panels, axes, strict=True):
            draw(axis, panel, colours)
    canvas.draw()
    # The chart has few colours: a palette makes the file three times smaller.
    picture = fromarray(array(canvas.buffer_rgba())).convert("RGB").quantize(64)
    picture.save(path, format="png", optimize=True)


def by_unit(results: Sequence[Result]) -> Iterator[list[Result]]:
    """Groups of results that share an axis. Results without a comparison are left out."""
    compared = [result for result in results if result.unit and len(bars(result)) > 1]
    for unit in dict.fromkeys(result.unit for result in compared):
        yield [result for result in compared if result.unit == unit]


def bars(result: Result) -> dict[str, float]:
    """The first figure of each competitor, by name."""
    name = next(iter(result.ours))
    return {who: figures[name] for who, figures in who_did(result).items() if figures.get(name)}


def lines(panel: Sequence[Result]) -> int:
    """The number of bars, with a gap after each setting."""
    return sum(len(bars(result)) + 1 for result in panel) - 1


def colours_of(panels: Sequence[Sequence[Result]]) -> Mapping[str, str]:
    """A colour for each name, the same in all panels."""
    names = dict.fromkeys(who for panel in panels for result in panel for who in bars(result))
    others = [name for name in names if name not in COLOURS]
    return COLOURS | {name: BESIDE[n % len(BESIDE)] for n, name in enumerate(others)}


def draw(axis: Any, panel: Sequence[Result], colours: Mapping[str, str]) -> None:
    """Draw one panel: the bars of each setting, ours first."""
    ticks: dict[int, str] = {}
    place, values = 0, []
    for result in panel:
        for who, value in bars(result).items():
            axis.barh(place, value, color=colours[who], height=0.8)
            axis.annotate(f" {number(value)}", (value, place), va="center", fontsize=7)
            ticks[place] = f"{result.setting}    {who}" if who == "ours" else who
            values.append(value)
            place += 1
        place += 1
    axis.set_yticks(list(ticks), list(ticks.values()), fontsize=7)
    axis.set_ylim(place - 1.4, -0.6)
    scale(axis, values)
    better = "more is better" if panel[0].unit.endswith("/s") else "less is better"
    axis.set_title(f"{panel[0].scenario}, {panel[0].unit} ({better})", loc="left", fontsize=9)
    axis.spines[["top", "right"]].set_visible(False)


def scale(axis: Any, values: Sequence[float]) -> None:
    """Set a logarithmic scale that begins well below the least value: each bar needs a length."""
    axis.set_xscale("log")
    least = 10 ** floor(log10(min(values) / 2))
    axis.set_xlim(least, max(values) * (max(values) / least) ** 0.08)
    axis.xaxis.set_major_formatter(lambda value, _: number(value))
    axis.xaxis.set_minor_formatter(lambda *_: "")
    axis.tick_params("x", labelsize=7)
