"""Drift compensation: the read-out of a tile's outputs, and the digital factors that follow from it."""

from __future__ import annotations

import torch
from torch import Tensor

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.hardware.kernels.random import PooledNormal
from analog_lora_cli.hardware.tile.converters import Converters

SMALLEST_READ_OUT = 1e-4
"""Lower limit of a drift read-out in tile units, as in aihwkit, so that the factor stays finite."""


class DriftCompensation:
    """`hardware.drift_compensation` on one tile after the other.

    factor = read-out at programming / read-out now; aihwkit's GlobalDriftCompensation, with and without exact
    reference, and PerColumnDriftCompensation. The noise of a read-out comes from torch's default generator, which the
    caller seeds for each tile and time.

    Args:
        hardware: kind of compensation, and the converters that a read-out goes through.
    """

    def __init__(self, hardware: HardwareConfig) -> None:
        self.kind = hardware.drift_compensation
        self.converters = Converters.of(hardware)

    def baseline(self, target: Tensor, programmed: Tensor, adc_offset: Tensor | None = None) -> Tensor:
        """The read-out right after programming: one number, or one for each column.

        Args:
            target: (columns, rows), in tile units: weights that the tile should hold.
            programmed: weights that it holds.
            adc_offset: (columns,), in tile units: offset of each column's ADC; None: 0.
        """
        return self._mean(target) if self.kind == "global-exact" else self.read_out(programmed, adc_offset)

    def factor(self, baseline: Tensor, drifted: Tensor, adc_offset: Tensor | None = None) -> Tensor | float:
        """The drift-compensation factor of a tile, or one for each column; 1 with compensation `none`.

        Args:
            baseline: result of `baseline`.
            drifted: (columns, rows), in tile units: weights that the tile holds now.
            adc_offset: as for `baseline`.
        """
        return 1.0 if self.kind == "none" else baseline / self.read_out(drifted, adc_offset)

    def read_out(self, weight: Tensor, adc_offset: Tensor | None = None) -> Tensor:
        """The mean magnitude of a tile's outputs for each input in turn set to 1, of the tile or of each column.

        Through the same converters, noise and other effects as any other product.

        Args:
            weight: (columns, rows), in tile units.
            adc_offset: as for `baseline`.
        """
        converters, unit, normals = self.converters, self.converters.output_unit, PooledNormal(None, weight.device)
        if converters.effects.active or adc_offset is not None:
            levels_TI = torch.eye(weight.shape[1], dtype=weight.dtype) / converters.input_unit
            steps_IO = weight.t() * (converters.input_unit / unit)
            offset_O = None if adc_offset is None else adc_offset / unit
            product = converters.disturbed_product(levels_TI, steps_IO, offset_O, normals)
            output = converters.convert_output(product).t()
        else:
            output = converters.digitize(weight / unit, normals)
        converters.saturate(output)
        return self._mean(output * unit)

    def _mean(self, output: Tensor) -> Tensor:
        mean = output.abs().mean(dim=1) if self.kind == "per-column" else output.abs().mean()
        return torch.clamp(mean, min=SMALLEST_READ_OUT)
