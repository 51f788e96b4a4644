"""The picture of `inspect-tiles`: the map of all tiles, the conductances, and where the error comes from."""

from __future__ import annotations

from math import ceil, floor
from pathlib import Path
from statistics import fmean
from typing import Any

from analog_lora_cli.figures.tile_map import Rectangle, TileMap, tile_map
from analog_lora_cli.inspection.grouping import groups, row_name
from analog_lora_cli.inspection.inspect import Inspection
from analog_lora_cli.inspection.packing import Block
from analog_lora_cli.inspection.tile_errors import effect_names, read_label
from analog_lora_cli.inspection.tile_statistics import added_histograms

WIDTH = 11.0
"""Of the picture, in inches."""


def tile_plot(found: Inspection, path: Path) -> None:
    """Draw what was found; conductances and errors only where they were asked for.

    Args:
        found: the model.
        path: where the PNG goes, whatever its name ends in.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    laid_out = tile_map(found)
    height = min(max(0.82 * WIDTH * laid_out.height / laid_out.width, 1.6), 6.5)
    below = 2.9 if found.weights else 0.0
    figure = pyplot.figure(figsize=(WIDTH, height + below + 0.9), dpi=160, layout="constrained")
    try:
        ratios = [height, below] if below else [height]
        # Parts of their own: labels in one take no room from the other.
        upper, *lower = figure.subfigures(len(ratios), 1, squeeze=False, height_ratios=ratios).flat
        _draw_map(upper, upper.add_subplot(), found, laid_out)
        for part in lower:
            conductances, *effects = part.subplots(1, 2 if found.errors else 1, squeeze=False).flat
            _draw_conductances(conductances, found)
            for axes in effects:
                _draw_effects(axes, found)
        figure.savefig(str(path), format="png")
    finally:
        pyplot.close(figure)


def _draw_map(figure: Any, axes: Any, found: Inspection, laid_out: TileMap) -> None:
    from matplotlib.collections import PatchCollection

    outlines = PatchCollection(
        [_patch(one) for one in laid_out.arrays], facecolor="#f3f3f3", edgecolor="#b5b5b5", linewidth=0.4
    )
    axes.add_collection(outlines)
    values = [_value(found, tile.block) for tile in laid_out.tiles]
    filled = PatchCollection(
        [_patch(tile.used) for tile in laid_out.tiles],
        cmap="YlOrRd" if found.errors else "YlGnBu",
        edgecolor="white",
        linewidth=0.3,
    )
    filled.set_array(values)
    filled.set_clim(*(_rounded(values) if found.errors else (0, 100)))
    axes.add_collection(filled)
    axes.set_xlim(-0.2, laid_out.width + 0.2)
    axes.set_ylim(laid_out.height + 0.2, -0.2)
    axes.set_aspect("equal")
    axes.set_yticks(list(laid_out.rows.values()), list(laid_out.rows), fontsize=8)
    every = max(1, -(-len(laid_out.columns) // 24))
    shown = dict(list(laid_out.columns.items())[::every])
    axes.set_xticks(list(shown.values()), list(shown), fontsize=8)
    if shown:
        axes.set_xlabel("number of the layer", fontsize=9)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    # Above the whole figure: a map of few layers is narrower than its title.
    figure.suptitle(_title(found), x=0.01, horizontalalignment="left", fontsize=11)
    bar = figure.colorbar(filled, ax=axes, shrink=0.85, aspect=14, pad=0.01, panchor=(0.0, 0.5))
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8)
    bar.set_label(_scale(found), fontsize=9)


def _patch(rectangle: Rectangle) -> Any:
    from matplotlib.patches import Rectangle as Patch

    return Patch((rectangle.x, rectangle.y), rectangle.width, rectangle.height)


def _value(found: Inspection, block: Block) -> float:
    """What a tile's colour says, in percent: its error with all effects, or how much of it is used."""
    if found.errors:
        errors = found.errors.get(block.layer)
        return 100 * errors.effects[-1].tiles[block.row][block.column] if errors else 0.0
    hardware = found.config.hardware
    rows, columns = hardware.tile_rows or block.inputs, hardware.tile_columns or block.outputs
    return 100 * block.inputs * block.outputs / (rows * columns)


def _rounded(values: list[float]) -> tuple[float, float]:
    """Limits of a colour scale that shows differences: whole percents around all values."""
    return floor(min(values)), ceil(max(values)) if max(values) > floor(min(values)) else floor(min(values)) + 1


def _title(found: Inspection) -> str:
    hardware = found.config.hardware
    size = f" of {hardware.tile_rows}x{hardware.tile_columns}" if hardware.tile_rows and hardware.tile_columns else ""
    used = found.utilisation(found.placement.analog) * found.tiles / found.arrays
    what = "shared arrays" if found.packed is not None else "tiles"
    layers = len(found.placement.analog)
    return f"{found.source.name}: {layers} layers on {found.arrays} {what}{size}, {used:.1%} of the cells used"


def _scale(found: Inspection) -> str:
    if not found.errors:
        return "cells of the tile used (%)"
    last = effect_names(found.config.hardware, found.config.drift.times)[-1]
    return f"error of the tile at {last} (%)"


def _draw_conductances(axes: Any, found: Inspection) -> None:
    g_min, g_max = found.config.hardware.conductance_range
    histograms = added_histograms(report.devices for report in found.weights.values())
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


def _draw_effects(axes: Any, found: Inspection) -> None:
    """Bars that grow effect by effect, one for each kind of layer."""
    names = effect_names(found.config.hardware, found.config.drift.times)
    kinds = [group for group in groups(found.placement.analog) if all(layer.name in found.errors for layer in group)]
    labels = [row_name(group, found.placement) for group in kinds]
    before = [0.0] * len(kinds)
    for index, name in enumerate(names):
        totals = [100 * fmean(found.errors[layer.name].effects[index].error for layer in group) for group in kinds]
        heights = [max(0.0, total - so_far) for total, so_far in zip(totals, before, strict=True)]
        label = f"{name} ({read_label(found.config.hardware)})" if name == "read noise" else name
        color = ("#4c72b0", "#55a868", "#8c8c8c")[index] if index < 3 else _warm(index - 3, len(names) - 3)
        axes.barh(labels, heights, left=before, label=label, color=color, height=0.7)
        before = [max(total, so_far) for total, so_far in zip(totals, before, strict=True)]
    axes.invert_yaxis()
    axes.set_xlabel("relative error of the product (%), mean of each kind")
    axes.set_title("Where the error comes from", loc="left", fontsize=11)
    axes.tick_params(axis="y", labelsize=8, length=0)
    _finish(axes)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _warm(index: int, count: int) -> Any:
    from matplotlib import colormaps

    return colormaps["YlOrRd"](0.35 + 0.5 * index / max(count - 1, 1))


def _finish(axes: Any) -> None:
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
