"""The picture of `inspect-tiles`: the map of all tiles, the conductances, and where the error comes from."""

from __future__ import annotations

from math import ceil, floor
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from analog_lora_cli.figures.tile_map import Rectangle, TileMap, tile_map
from analog_lora_cli.inspection.grouping import groups, row_name
from analog_lora_cli.inspection.inspect import Inspection, tile_cells
from analog_lora_cli.inspection.packing import Block
from analog_lora_cli.inspection.tile_errors import effect_names, read_label
from analog_lora_cli.inspection.tile_statistics import added_histograms

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

WIDTH = 11.0
"""Width of the picture in inches."""


def tile_plot(inspection: Inspection, path: Path) -> None:
    """Draw the map of the tiles, and conductances and errors where they were measured.

    Args:
        inspection: the inspection.
        path: where the PNG goes, whatever its name ends in.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    layout = tile_map(inspection)
    height = min(max(0.82 * WIDTH * layout.height / layout.width, 1.6), 6.5)
    below = 2.9 if inspection.weights else 0.0
    figure = pyplot.figure(figsize=(WIDTH, height + below + 0.9), dpi=160, layout="constrained")
    try:
        ratios = [height, below] if below else [height]
        # Parts of their own: labels in one take no room from the other.
        upper, *lower = figure.subfigures(len(ratios), 1, squeeze=False, height_ratios=ratios).flat
        _draw_map(upper, upper.add_subplot(), inspection, layout)
        for part in lower:
            conductances, *effects = part.subplots(1, 2 if inspection.errors else 1, squeeze=False).flat
            _draw_conductances(conductances, inspection)
            for axes in effects:
                _draw_effects(axes, inspection)
        figure.savefig(str(path), format="png")
    finally:
        pyplot.close(figure)


def _draw_map(figure: Figure, axes: Axes, inspection: Inspection, layout: TileMap) -> None:
    from matplotlib.collections import PatchCollection

    outlines = PatchCollection(
        [_patch(one) for one in layout.arrays], facecolor="#f3f3f3", edgecolor="#b5b5b5", linewidth=0.4
    )
    axes.add_collection(outlines)
    values = [_value(inspection, tile.block) for tile in layout.tiles]
    filled = PatchCollection(
        [_patch(tile.used) for tile in layout.tiles],
        cmap="YlOrRd" if inspection.errors else "YlGnBu",
        edgecolor="white",
        linewidth=0.3,
    )
    filled.set_array(values)
    filled.set_clim(*(_rounded(values) if inspection.errors else (0, 100)))
    axes.add_collection(filled)
    axes.set_xlim(-0.2, layout.width + 0.2)
    axes.set_ylim(layout.height + 0.2, -0.2)
    axes.set_aspect("equal")
    axes.set_yticks(list(layout.rows.values()), list(layout.rows), fontsize=8)
    step = max(1, -(-len(layout.columns) // 24))
    ticks = dict(list(layout.columns.items())[::step])
    axes.set_xticks(list(ticks.values()), list(ticks), fontsize=8)
    if ticks:
        axes.set_xlabel("number of the layer", fontsize=9)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    # Above the whole figure: a map of few layers is narrower than its title.
    figure.suptitle(_title(inspection), x=0.01, horizontalalignment="left", fontsize=11)
    bar = figure.colorbar(filled, ax=axes, shrink=0.85, aspect=14, pad=0.01, panchor=(0.0, 0.5))
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8)
    bar.set_label(_scale(inspection), fontsize=9)


def _patch(rectangle: Rectangle) -> Patch:
    from matplotlib import patches

    return patches.Rectangle((rectangle.x, rectangle.y), rectangle.width, rectangle.height)


def _value(inspection: Inspection, block: Block) -> float:
    """Value of a tile's colour in percent: its error with all effects, or the used share of it."""
    if inspection.errors:
        errors = inspection.errors.get(block.layer)
        return 100 * errors.effects[-1].tiles[block.row][block.column] if errors else 0.0
    return 100 * block.inputs * block.outputs / tile_cells(block, inspection.config.hardware)


def _rounded(values: list[float]) -> tuple[float, float]:
    """Limits of a colour scale that shows differences: whole percents around all values."""
    return floor(min(values)), ceil(max(values)) if max(values) > floor(min(values)) else floor(min(values)) + 1


def _title(inspection: Inspection) -> str:
    used = inspection.utilisation(inspection.placement.analog) * inspection.tiles / inspection.arrays
    what = "shared arrays" if inspection.packed is not None else "tiles"
    layers = len(inspection.placement.analog)
    return (
        f"{inspection.source.name}: {layers} layers on {inspection.arrays} {what}{inspection.tile_size}, "
        f"{used:.1%} of the cells used"
    )


def _scale(inspection: Inspection) -> str:
    if not inspection.errors:
        return "cells of the tile used (%)"
    last = effect_names(inspection.config.hardware, inspection.config.drift.times)[-1]
    return f"error of the tile at {last} (%)"


def _draw_conductances(axes: Axes, inspection: Inspection) -> None:
    g_min, g_max = inspection.config.hardware.conductance_range
    histograms = added_histograms(weights.devices for weights in inspection.weights.values())
    for name, counts in histograms.items():
        width = (g_max - g_min) / len(counts)
        # G- to the left, as the negative weights that it stands for.
        sign = -1 if name.endswith("-") else 1
        edges = sorted(sign * (g_min + width * edge) for edge in range(len(counts) + 1))
        shares = [count / sum(counts) for count in counts][::sign]
        color = "#c44e52" if sign < 0 else "#4c72b0"
        axes.stairs(shares, edges, label=name, color=color, linewidth=1.2, alpha=0.75, fill=len(histograms) <= 2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
    axes.set_yscale("log")
    axes.set_xlabel("target conductance (µS)")
    axes.set_ylabel("share of the devices")
    axes.set_title("Conductances that are programmed", loc="left", fontsize=11)
    _finish(axes)
    axes.legend(frameon=False, fontsize=8, loc="upper right")


def _draw_effects(axes: Axes, inspection: Inspection) -> None:
    """Bars that grow effect by effect, one for each kind of layer."""
    names = effect_names(inspection.config.hardware, inspection.config.drift.times)
    kinds = [
        group
        for group in groups(inspection.placement.analog)
        if all(layer.name in inspection.errors for layer in group)
    ]
    labels = [row_name(group, inspection.placement) for group in kinds]
    before = [0.0] * len(kinds)
    for index, name in enumerate(names):
        totals = [100 * fmean(inspection.errors[layer.name].effects[index].error for layer in group) for group in kinds]
        heights = [max(0.0, total - so_far) for total, so_far in zip(totals, before, strict=True)]
        label = f"{name} ({read_label(inspection.config.hardware)})" if name == "read noise" else name
        color = ("#4c72b0", "#55a868", "#8c8c8c")[index] if index < 3 else _warm(index - 3, len(names) - 3)
        axes.barh(labels, heights, left=before, label=label, color=color, height=0.7)
        before = [max(total, so_far) for total, so_far in zip(totals, before, strict=True)]
    axes.invert_yaxis()
    axes.set_xlabel("relative error of the product (%), mean of each kind")
    axes.set_title("Where the error comes from", loc="left", fontsize=11)
    axes.tick_params(axis="y", labelsize=8, length=0)
    _finish(axes)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _warm(index: int, count: int) -> tuple[float, float, float, float]:
    from matplotlib import colormaps

    color: tuple[float, float, float, float] = colormaps["YlOrRd"](0.35 + 0.5 * index / max(count - 1, 1))
    return color


def _finish(axes: Axes) -> None:
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
