"""From measured conductances to a device file and its picture."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from analog_lora_cli.config.device_file import SUFFIXES, device_file_text
from analog_lora_cli.errors import UsageError
from analog_lora_cli.storage.files import check_new_file, file_sha256, replacing, write_text
from analog_lora_cli.version import __version__
from analog_lora_cli.workflows.request import Request

if TYPE_CHECKING:
    from analog_lora_cli.hardware.physics.device_fit import DeviceFit
    from analog_lora_cli.hardware.physics.device_measurements import Measurements


@dataclass(frozen=True, kw_only=True)
class FitRequest(Request):
    """The options of `analora fit-device`."""

    PATHS = ("measurements", "output", "plot")

    measurements: Path
    output: Path
    plot: Path | None = None
    t_read: float = 250e-9
    """Duration of one read, in seconds."""
    overwrite: bool = False

    @property
    def picture(self) -> Path:
        """Where the picture goes."""
        return self.plot or self.output.with_suffix(".png")

    def check(self) -> None:
        """Check that the files can be written; writes nothing.

        Raises:
            UsageError: they cannot, or an option is wrong.
        """
        if self.output.suffix not in SUFFIXES:
            raise UsageError(f"--output {self.output}: expected a name that ends in .yaml, as hardware.device needs it")
        if not math.isfinite(self.t_read) or self.t_read <= 0:
            raise UsageError(f"--t-read {self.t_read}: expected a number of seconds above 0")
        if len({path.resolve() for path in (self.measurements, self.output, self.picture)}) < 3:
            raise UsageError("MEASUREMENTS, --output and --plot must name different files")
        for option, path in (("--output", self.output), ("--plot", self.picture)):
            check_new_file(option, path, self.overwrite)


@dataclass(frozen=True)
class Fitted:
    """A fit with the measurements behind it."""

    fit: DeviceFit
    measurements: Measurements


def carry_out(request: FitRequest, stage: Callable[[str], None]) -> Fitted:
    """Read the measurements, fit, and write the device file and the picture.

    Args:
        request: the options.
        stage: called with the text of each stage.

    Raises:
        UsageError: before anything is written: wrong options, bad rows, too few measurements.
    """
    request.check()
    from analog_lora_cli.figures.device import device_plot
    from analog_lora_cli.hardware.physics.device_fit import fit_device
    from analog_lora_cli.hardware.physics.device_measurements import read_measurements

    measurements = read_measurements(request.measurements)
    levels = measurements.levels
    stage(f"fitting {len(measurements.names):,} devices at {len(levels)} levels, {measurements.rows:,} reads ...")
    fit = fit_device(measurements, request.t_read, str(request.measurements))
    provenance = {
        "analora": __version__,
        "measurements": request.measurements.name,
        "sha256": file_sha256(request.measurements),
        "devices": len(measurements.names),
        "reads": measurements.rows,
        "levels_uS": levels.tolist(),
        "ci95": {key: list(interval) for key, interval in fit.intervals.items()},
    }
    with replacing(request.picture) as picture:
        device_plot(fit, measurements, picture, request.measurements.name)
    write_text(request.output, device_file_text(fit.constants, provenance))
    return Fitted(fit, measurements)
