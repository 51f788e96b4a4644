"""The picture of a device fit: the fits over the points, and PCM beside."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from analog_lora_cli.config.device_file import PCM, DeviceConstants
from analog_lora_cli.hardware.physics.device_fit import DeviceFit, Points
from analog_lora_cli.hardware.physics.device_laws import law_values, programming_noise, relative_read_noise
from analog_lora_cli.hardware.physics.device_measurements import Measurements

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.float64]
Law = Callable[[DeviceConstants, Floats], Floats]
_LEVELS = 6
"""Levels whose conductance over time is drawn."""


def device_plot(fit: DeviceFit, measurements: Measurements, path: Path, title: str) -> None:
    """Draw programming noise, drift exponents and read noise against conductance, and conductances over time.

    Args:
        fit: the fit.
        measurements: reads that it was fitted to.
        path: where the PNG goes, whatever its name ends in.
        title: above the plots.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 3, figsize=(12, 6.6), dpi=160, layout="constrained")
    try:
        figure.suptitle(f"{title}: {len(measurements.names):,} devices, {measurements.rows:,} reads")
        spread: Law = lambda constants, g: law_values(constants.drift_spread, g)  # noqa: E731
        mean: Law = lambda constants, g: law_values(constants.drift_mean, g)  # noqa: E731
        _draw_law(axes[0, 0], fit, fit.programming, programming_noise, "programming noise (uS)", logarithmic=False)
        _draw_law(axes[0, 1], fit, fit.drift_mean, mean, "drift exponent, mean")
        _draw_law(axes[0, 2], fit, fit.drift_spread, spread, "drift exponent, spread among devices")
        _draw_law(axes[1, 0], fit, fit.read_noise, relative_read_noise, "read noise Q, relative to the conductance")
        _draw_decay(axes[1, 1], fit, measurements)
        _draw_programmed(axes[1, 2], fit, measurements)
        axes[0, 0].legend(fontsize=8)
        figure.savefig(str(path), format="png")
    finally:
        pyplot.close(figure)


def _draw_law(axes: Axes, fit: DeviceFit, points: Points, law: Law, label: str, *, logarithmic: bool = True) -> None:
    g_max = fit.constants.g_max_uS
    lowest = points.g_uS[points.g_uS > 0].min()
    g = np.geomspace(lowest / 2, g_max, 200) if logarithmic else np.linspace(0, g_max, 200)
    pcm = g[g <= PCM.g_max_uS]
    axes.plot(pcm, law(PCM, pcm / PCM.g_max_uS), color="gray", linestyle="--", linewidth=1.3, label="pcm")
    axes.plot(g, law(fit.constants, g / g_max), color="tab:orange", linewidth=2, label="fit")
    axes.errorbar(
        points.g_uS, points.value, 1.96 * points.error, fmt="o", markersize=4, linewidth=1, color="tab:blue",
        label="measured, 95 %",
    )  # fmt: skip
    if logarithmic:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("conductance (uS)")
    axes.set_title(label, fontsize=10)
    axes.grid(alpha=0.3)


def _draw_decay(axes: Axes, fit: DeviceFit, measurements: Measurements) -> None:
    """Mean of the reads of some levels over time, in bins of equal width in log time, and the fit's mean."""
    constants = fit.constants
    levels = fit.drift_mean.g_uS
    chosen = levels[np.unique(np.linspace(0, len(levels) - 1, _LEVELS).round().astype(int))]
    last = float(measurements.time[measurements.read].max())
    time = np.geomspace(constants.t_0_s, last, 100)
    for index, level in enumerate(chosen):
        at = measurements.target == level
        read = measurements.read[at]
        times, values = measurements.time[at][read], measurements.measured[at][read]
        bins = np.round(np.log(times / constants.t_0_s) * 20 / np.log(last / constants.t_0_s))
        means = [(np.exp(np.log(times[bins == b]).mean()), values[bins == b].mean()) for b in np.unique(bins)]
        axes.plot(*np.array(means).T, "o", markersize=4, color=f"C{index}", label=f"{level:g} uS")
        g, x = np.array([level / constants.g_max_uS]), np.log(time / constants.t_0_s)
        nu, spread = law_values(constants.drift_mean, g), law_values(constants.drift_spread, g)
        first = values[times <= 2 * constants.t_0_s]
        start = first.mean() if len(first) else level
        axes.plot(time, start * np.exp(-nu * x + 0.5 * (spread * x) ** 2), color=f"C{index}", linewidth=1.3)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("time after programming (s)")
    axes.set_ylim(bottom=axes.get_ylim()[0] / 5)  # Room for the legend.
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_title("mean conductance (uS)", fontsize=10)
    axes.legend(fontsize=8, ncols=3, loc="lower center")
    axes.grid(alpha=0.3)


def _draw_programmed(axes: Axes, fit: DeviceFit, measurements: Measurements) -> None:
    """The first read of each device against its target, and the band of the fit."""
    first = np.take_along_axis(
        measurements.measured, np.where(measurements.read, measurements.time, np.inf).argmin(1)[:, None], axis=1
    )[:, 0]
    axes.plot(measurements.target, first, ".", markersize=2, alpha=0.3, color="tab:blue", rasterized=True)
    g = np.linspace(0, fit.constants.g_max_uS, 100)
    sigma = programming_noise(fit.constants, g / fit.constants.g_max_uS)
    axes.fill_between(g, np.maximum(g - 2 * sigma, 0), g + 2 * sigma, color="tab:orange", alpha=0.3, linewidth=0)
    axes.plot(g, g, color="tab:orange", linewidth=1)
    axes.set_xlabel("target (uS)")
    axes.set_title("first read (uS); band: 2 sigma of programming", fontsize=10)
    axes.grid(alpha=0.3)
