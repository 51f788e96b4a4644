"""Geometry of the page's charts; the templates draw it as SVG, so that colours follow the reader's theme."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from analog_lora_cli.evaluation.stored_result import StoredResult
from analog_lora_cli.figures.drift import FIRST_READ
from analog_lora_cli.figures.tile_map import tile_map
from analog_lora_cli.inspection.inspect import Inspection, tile_cells

WIDTH, HEIGHT = 480.0, 300.0
"""In units of the drawing, small enough for its text to be readable on a telephone."""
LEFT, RIGHT, TOP, BOTTOM = 46.0, 14.0, 12.0, 40.0
COLOURS = 6
"""Number of colours of the style sheet; further lines use them again."""
TICKS = 5
STEEP = 20.0
"""Ratio of the largest value to the smallest from which a metric without unit gets a logarithmic axis."""
MAP_WIDTH, LARGEST_TILE, LABEL_WIDTH, COLUMN_WIDTH = 980.0, 40.0, 7.2, 24.0
"""In pixels: the map, the side of its tiles at most, a letter, and the number below a column."""
MAP_TILES = 2500
"""Most tiles that are drawn: more would be smaller than a pixel, and the page large."""


@dataclass(frozen=True)
class Line:
    """One line with what belongs to it; coordinates of the drawing."""

    name: str
    colour: int
    points: str
    dots: list[tuple[float, float, str]]
    """Position and text of each point."""
    band: str = ""
    """Corners of the 95 % interval; empty: unknown."""
    members: list[str] = field(default_factory=list)
    """Points of the line of each chip or training seed."""
    level: float | None = None
    """Height of the digital value."""
    dashed: bool = False


@dataclass(frozen=True)
class Chart:
    """A chart with its axes."""

    title: str
    x_label: str
    y_label: str
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    lines: list[Line]
    notes: list[tuple[str, str]]
    """Kinds of lines beside the named ones, each with its class of the style sheet."""
    width: float = WIDTH
    height: float = HEIGHT
    left: float = LEFT
    right: float = WIDTH - RIGHT
    top: float = TOP
    bottom: float = HEIGHT - BOTTOM


class _Scale:
    """Values of one axis as positions of the drawing."""

    def __init__(self, low: float, high: float, start: float, end: float, log: bool) -> None:
        self.low, self.high, self.start, self.end = low, high, start, end
        self.plain: Callable[[float], float] = math.log10 if log else float

    def __call__(self, value: float) -> float:
        low, high = self.plain(self.low), self.plain(self.high)
        share = (self.plain(value) - low) / (high - low) if high > low else 0.5
        return round(self.start + share * (self.end - self.start), 1)


class _Axes:
    def __init__(self, xs: Sequence[float], ys: Sequence[float], over_time: bool, log_y: bool = False) -> None:
        self.first = FIRST_READ if over_time else -math.inf
        xs = [max(x, self.first) for x in xs]
        self._x = _Scale(min(xs), max(xs), LEFT + 10, WIDTH - RIGHT - 10, over_time)
        ticks = decades(min(ys), max(ys)) if log_y else nice_ticks(min(ys), max(ys))
        self.y = _Scale(min(ticks[0], min(ys)), max(ticks[-1], max(ys)), HEIGHT - BOTTOM, TOP, log_y)
        self.y_ticks = [(self.y(tick), f"{tick:.10g}") for tick in ticks]

    def x(self, x: float) -> float:
        return self._x(max(x, self.first))

    def points(self, pairs: Sequence[tuple[float, float]]) -> str:
        return " ".join(f"{self.x(x)},{self.y(y)}" for x, y in pairs)


def nice_ticks(low: float, high: float, count: int = TICKS) -> list[float]:
    """Round numbers around all values, at least two, about `count` of them."""
    if high - low < 1e-9 * max(1.0, abs(high)):
        low, high = low - max(0.5, abs(low) * 0.05), high + max(0.5, abs(high) * 0.05)
    raw = (high - low) / (count - 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, last + 1)]


def decades(low: float, high: float) -> list[float]:
    """Powers of ten around all values, each with its double and its fivefold where there are few."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    factors = (1, 2, 5) if last - first < 3 else (1,)
    ticks = [10.0**power * factor for power in range(first, last + 1) for factor in factors]
    below, above = max(tick for tick in ticks if tick <= low), min(tick for tick in ticks if tick >= high)
    return [tick for tick in ticks if below <= tick <= above]


def drift_chart(results: Sequence[StoredResult]) -> Chart | None:
    """The metric of one result, or of several, over time; None without times."""
    results = [result for result in results if result.times]
    if not results:
        return None
    first = results[0]
    values = [value for result in results for row in result.times for value in (row.mean, *(row.interval or ()))]
    values += [value for result in results for row in result.times for value in row.values]
    values += [result.digital.mean for result in results]
    alone = len(results) == 1
    papers = _published(first) if alone else []
    values += [y for _, y in papers]
    # A perplexity may grow a hundredfold; a share in percent never needs it.
    log_y = first.metric.unit != "%" and min(values) > 0 and max(values) > STEEP * min(values)
    axes = _Axes([row.seconds or 0.0 for result in results for row in result.times], values, True, log_y)
    lines = [_drift_line(axes, result, index % COLOURS) for index, result in enumerate(results)]
    if papers:
        lines.append(Line("paper", COLOURS - 1, axes.points(papers), _dots(axes, papers, "paper"), dashed=True))
    member = first.member
    labels = {row.seconds or 0.0: row.label for result in results for row in result.times}
    return Chart(
        title=f"{first.metric.label} over time: " + ", ".join(result.name for result in results),
        x_label="time after programming",
        y_label=first.metric.label,
        x_ticks=_apart([(axes.x(at), label) for at, label in sorted(labels.items())]),
        y_ticks=axes.y_ticks,
        lines=lines,
        notes=[("95 % interval", "band"), (f"each {member}", "member"), ("digital", "level")],
    )


def _drift_line(axes: _Axes, result: StoredResult, colour: int) -> Line:
    pairs = [(row.seconds or 0.0, row.mean) for row in result.times]
    bands = [(row.seconds or 0.0, row.interval) for row in result.times if row.interval]
    upper = [(at, interval[1]) for at, interval in bands]
    lower = [(at, interval[0]) for at, interval in reversed(bands)]
    seeds = list(dict.fromkeys(seed for row in result.times for seed in row.members))
    members = []
    for seed in seeds:
        own = [(row.seconds or 0.0, row.values[row.members.index(seed)]) for row in result.times if seed in row.members]
        members.append(axes.points(own))
    dots = [(axes.x(row.seconds or 0.0), axes.y(row.mean), f"{row.label}: {row.mean:.2f}") for row in result.times]
    return Line(
        result.name, colour, axes.points(pairs), dots, axes.points([*upper, *lower]), members,
        axes.y(result.digital.mean),
    )  # fmt: skip


def _published(result: StoredResult) -> list[tuple[float, float]]:
    found = [(row.seconds or 0.0, result.published(row)) for row in result.times]
    return [(at, value) for at, value in found if value is not None]


def _dots(axes: _Axes, pairs: Sequence[tuple[float, float]], name: str) -> list[tuple[float, float, str]]:
    return [(axes.x(x), axes.y(y), f"{name}: {y:.2f}") for x, y in pairs]


def _apart(ticks: list[tuple[float, str]], distance: float = 26.0) -> list[tuple[float, str]]:
    """The ticks whose labels do not lie over each other, the last one always among them."""
    kept: list[tuple[float, str]] = []
    for tick in reversed(ticks):
        if not kept or kept[-1][0] - tick[0] >= distance:
            kept.append(tick)
    return kept[::-1]


def training_chart(curves: Sequence[tuple[str, Sequence[dict[str, float]]]]) -> Chart | None:
    """The loss of each training over its steps; None without logged steps."""
    losses = [(name, [(one["step"], one["loss"]) for one in log if "loss" in one]) for name, log in curves]
    losses = [(name, pairs) for name, pairs in losses if len(pairs) > 1]
    if not losses:
        return None
    xs, ys = zip(*(pair for _, pairs in losses for pair in pairs), strict=True)
    axes = _Axes(xs, ys, False)
    ticks = [tick for tick in nice_ticks(min(xs), max(xs)) if min(xs) <= tick <= max(xs)]
    lines = [
        Line(name, index % COLOURS, axes.points(pairs), [(axes.x(pairs[-1][0]), axes.y(pairs[-1][1]),
             f"{name}: {pairs[-1][1]:.3f} at step {pairs[-1][0]:g}")])
        for index, (name, pairs) in enumerate(losses)
    ]  # fmt: skip
    title = "loss in training: " + ", ".join(name for name, _ in losses)
    return Chart(
        title, "optimizer step", "loss", [(axes.x(tick), f"{tick:g}") for tick in ticks], axes.y_ticks, lines, []
    )


@dataclass(frozen=True)
class MapTile:
    """A tile of the map: its place, the part that holds weights, its shade from 0 to 4, and its text."""

    x: float
    y: float
    width: float
    height: float
    shade: int
    text: str


@dataclass(frozen=True)
class TileChart:
    """The map of all tiles, in pixels; the labels stand to the left of it and below."""

    tiles: list[MapTile]
    outlines: list[tuple[float, float]]
    side: float
    """Of a tile."""
    rows: list[tuple[float, str]]
    columns: list[tuple[float, str]]
    margin: float
    """Room for the labels of the rows."""
    width: float
    height: float


def tile_chart(inspection: Inspection) -> TileChart | None:
    """The map of a model's tiles, as `inspect-tiles --plot` draws it; None where there are too many to be seen."""
    if inspection.tiles > MAP_TILES:
        return None
    layout = tile_map(inspection)
    margin = LABEL_WIDTH * max(map(len, layout.rows), default=0) + 10
    side = min(LARGEST_TILE, (MAP_WIDTH - margin) / layout.width)
    tiles = []
    for one in layout.tiles:
        block, used = one.block, one.used
        share = block.inputs * block.outputs / tile_cells(block, inspection.config.hardware)
        text = f"{block.layer} [{block.row}, {block.column}]: {block.inputs} x {block.outputs}, {share:.0%} used"
        x, y, width, height = (round(side * value, 2) for value in (used.x, used.y, used.width, used.height))
        tiles.append(MapTile(x, y, width, height, min(4, int(share * 5)), text))
    step = max(1, math.ceil(COLUMN_WIDTH * len(layout.columns) / (side * layout.width)))
    return TileChart(
        tiles,
        [(round(side * one.x, 2), round(side * one.y, 2)) for one in layout.arrays],
        side,
        [(round(side * y, 1), name) for name, y in layout.rows.items()],
        [(round(side * x, 1), name) for name, x in list(layout.columns.items())[::step]],
        round(margin, 1),
        side * layout.width,
        side * layout.height,
    )
