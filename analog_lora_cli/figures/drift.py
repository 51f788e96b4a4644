"""The picture of a drift result."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from analog_lora_cli.config.times import seconds
from analog_lora_cli.evaluation.drift_result import DriftResult
from analog_lora_cli.evaluation.training_seeds import SeedGroup

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FIRST_READ = 20.0
"""Position of 0 s on the logarithmic axis: aihwkit's first read, 20 s after programming (t_0 of PCM)."""


def drift_plot(result: DriftResult, path: Path, title: str) -> None:
    """Draw the metric over time: every chip thin, the mean, its 95 % band, digital and published lines.

    Args:
        result: the measurements.
        path: where the PNG goes, whatever its name ends in.
        title: above the plot.
    """
    with _figure(path) as axes:
        several = len(result.chips) > 1
        known = result.summary(result.metric, result.times[0])["ci95"] is not None
        over = "chips and samples" if known else "chips"
        name = f"mean of {len(result.chips)} chips, 95 % interval over {over}" if several else f"chip {result.chips[0]}"
        title = f"{title}\n! {result.warnings[0].partition(':')[0]}" if result.warnings else title
        _draw_result(axes, result, "tab:blue", name)
        axes.axhline(result.digital[result.metric], color="black", linestyle="--", linewidth=1.2, label="digital")
        axes.axhline(
            result.converters_only[result.metric], color="gray", linestyle=":", linewidth=1.2, label="converters only"
        )
        _draw_reference(axes, result)
        _finish(axes, result, title)


def comparison_plot(results: dict[str, DriftResult], path: Path, title: str) -> None:
    """Draw several results over each other, each with its chips, mean, band and digital line.

    Args:
        results: by name; all with the same metric and times.
        path: where the PNG goes, whatever its name ends in.
        title: above the plot.
    """
    first = next(iter(results.values()))
    with _figure(path) as axes:
        for index, (name, result) in enumerate(results.items()):
            color = f"C{index}"
            _draw_result(axes, result, color, name)
            axes.axhline(result.digital[result.metric], color=color, linestyle="--", linewidth=1, alpha=0.7)
        axes.plot([], [], color="gray", linestyle="--", linewidth=1, label="digital")
        _finish(axes, first, title)


def seeds_plot(groups: Sequence[SeedGroup], path: Path, title: str) -> None:
    """Draw several methods: every training seed thin, the mean and its 95 % band, the mean digital line.

    Args:
        groups: all with the same metric and times.
        path: where the PNG goes, whatever its name ends in.
        title: above the plot.
    """
    first = groups[0].first
    metric = first.metric
    with _figure(path) as axes:
        for index, group in enumerate(groups):
            color, label = f"C{index}", f"{group.name}, {len(group.results)} training seeds"
            by_time = [group.values(metric, time) for time in group.times]
            for values in zip(*by_time, strict=True):
                _draw_member(axes, group.times, values, color)
            _draw_mean(axes, group, metric, color, label)
            axes.axhline(group.digital[metric], color=color, linestyle="--", linewidth=1, alpha=0.7)
        axes.plot([], [], color="gray", linestyle="--", linewidth=1, label="digital, mean")
        _finish(axes, first, title)


@contextmanager
def _figure(path: Path) -> Iterator[Axes]:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.5), dpi=160, layout="constrained")
    try:
        yield axes
        figure.savefig(str(path), format="png")
    finally:
        pyplot.close(figure)


def _draw_result(axes: Axes, result: DriftResult, color: str, label: str) -> None:
    for chip in result.chips:
        at = [time for time in result.times if chip in result.chips_at(time)]
        values = [result.values(result.metric, time)[result.chips_at(time).index(chip)] for time in at]
        _draw_member(axes, at, values, color)
    _draw_mean(axes, result, result.metric, color, label)


def _draw_member(axes: Axes, times: Sequence[str], values: Sequence[float], color: str) -> None:
    """Draw one chip, or one training."""
    axes.plot(_positions(times), values, color=color, linewidth=0.6, alpha=0.35)


def _draw_mean(axes: Axes, result: DriftResult | SeedGroup, metric: str, color: str, label: str) -> None:
    """Draw the mean and, where it is known, its 95 % band."""
    positions = _positions(result.times)
    means = [result.summary(metric, time)["mean"] for time in result.times]
    axes.plot(positions, means, color=color, linewidth=2.2, marker="o", markersize=5, label=label)
    intervals = [result.interval(metric, time) for time in result.times]
    if any(interval is not None for interval in intervals):
        bands = [interval or [mean, mean] for interval, mean in zip(intervals, means, strict=True)]
        low, high = zip(*bands, strict=True)
        axes.fill_between(positions, low, high, color=color, alpha=0.18, linewidth=0)


def _positions(times: Sequence[str]) -> list[float]:
    """Positions of times on the axis."""
    return [max(seconds(time), FIRST_READ) for time in times]


def _finish(axes: Axes, result: DriftResult, title: str) -> None:
    axes.set_xscale("log")
    axes.set_xticks(_positions(result.times), result.times)
    axes.minorticks_off()
    axes.set_xlabel("time after programming")
    axes.set_ylabel(result.headline.label)
    axes.set_title(title, loc="left", fontsize=11)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=True, framealpha=0.85, edgecolor="none", fontsize=9, loc="best")


def _draw_reference(axes: Axes, result: DriftResult) -> None:
    published = (result.reference or {}).get("drift", {}).get(result.metric, {})
    times = [time for time in published if seconds(time) <= max(map(seconds, result.times))]
    if times:
        axes.plot(
            _positions(times),
            [published[time] for time in times],
            color="tab:orange",
            linewidth=1.4,
            marker="s",
            markersize=4,
            linestyle="-.",
            label="paper",
        )
