"""Table of `analora fit-device`."""

from __future__ import annotations

from pathlib import Path

from rich.markup import escape

from analog_lora_cli.config.device_file import PCM
from analog_lora_cli.hardware.physics.device_fit import MOST_SCATTER
from analog_lora_cli.hardware.physics.device_laws import flat_constants
from analog_lora_cli.runtime import console
from analog_lora_cli.workflows.fit_device import Fitted

_PARTS = {
    "programming_noise_uS": "programming",
    "drift_mean": "drift, mean",
    "drift_spread": "drift, spread",
    "read_noise": "read noise",
}
_NAMES = {"[0]": "constant", "[1]": "x g", "[2]": "x g^2", "slope": "slope in ln(g)", "exponent": "exponent of 1/g"}


def print_fit(fitted: Fitted, path: Path) -> None:
    """Print the constants with their intervals, and PCM's beside."""
    fit, data = fitted.fit, fitted.measurements
    lowest = fit.drift_mean.g_uS.min()
    unread = [f"{level:g}" for level in data.levels if 0 < level < lowest]
    remarks = [
        f"g: conductance / g_max, here {fit.constants.g_max_uS:g} uS, for pcm {PCM.g_max_uS:g} uS",
        f"first read: {fit.constants.t_0_s:g} s after programming; 95 %: devices resampled",
        "programming: standard deviation in uS; drift: exponent, among devices",
        f"min, max: of the law over the levels that it was fitted to, from {lowest:g} uS on",
    ]
    if unread:
        remarks.append(f"{', '.join(unread)} uS: reads scatter by over {MOST_SCATTER:.0%}, for programming noise only")
    table = console.table(
        f"{escape(path.name)}: {len(data.names):,} devices, {len(data.levels)} levels, {data.rows:,} reads",
        "quantity", "constant", "fitted", "95 %", "pcm",
        left=2, caption=escape("\n".join(remarks)),
    )  # fmt: skip
    pcm, previous = flat_constants(PCM), ""
    for key, value in flat_constants(fit.constants).items():
        part, name = (key[:-3], key[-3:]) if key.endswith("]") else key.split(".")
        low, high = fit.intervals[key]
        heading = _PARTS[part] if part != previous else ""
        table.add_row(
            heading, _NAMES.get(name, name), f"{value:.4f}", f"{low:.4f} to {high:.4f}", f"{pcm[key]:.4f}",
        )  # fmt: skip
        previous = part
    console.results().print(table)
