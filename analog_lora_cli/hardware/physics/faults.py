"""What differs from chip to chip for good: stuck devices, dead columns, gains and offsets of the ADCs."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.hardware.physics.conductances import TileConductances, cell_weights


@dataclass(frozen=True)
class TileFaults:
    """The faults of one tile, the same at all times."""

    stuck: list[tuple[Tensor, Tensor]]
    """For each device of a cell, the flat indices in (columns, rows) of those that stay at `g_min`, and of those that
    stay at `g_max`; empty without any."""
    gain: Tensor | None
    """(columns,): factor of each column's product at its ADC, 0 where the column is dead; None: 1."""
    offset: Tensor | None
    """(columns,): offset of each column's ADC in tile units; None: 0."""

    @classmethod
    def none(cls) -> TileFaults:
        """No faults."""
        return cls([], None, None)

    @classmethod
    def draw(cls, hardware: HardwareConfig, devices: int, shape: tuple[int, ...]) -> TileFaults:
        """Draw the faults of a tile from torch's default generator, which the caller seeds for each tile.

        Everything is drawn where anything is asked for, so that one fault does not move when another is switched on.

        Args:
            hardware: shares and standard deviations.
            devices: number of devices of a cell.
            shape: columns, with reference columns at the end, and rows of the tile.
        """
        columns = shape[0] - hardware.references
        dead = torch.rand(columns) < hardware.dead_columns
        gain = 1.0 + hardware.adc_gain_mismatch * torch.randn(columns)
        offset = hardware.adc_offset_mismatch * torch.randn(columns)
        stuck = []
        if hardware.stuck_low or hardware.stuck_high:
            for _ in range(devices):
                chance = torch.rand(shape).view(-1)
                low, high = chance < hardware.stuck_low, chance >= 1.0 - hardware.stuck_high
                stuck.append((low.nonzero()[:, 0], high.nonzero()[:, 0]))
        scaled = bool(hardware.adc_gain_mismatch or hardware.dead_columns)
        return cls(
            stuck=stuck,
            gain=gain.masked_fill_(dead, 0.0) if scaled else None,
            offset=offset if hardware.adc_offset_mismatch else None,
        )

    def to(self, device: torch.device) -> TileFaults:
        """The same faults on a device."""
        return TileFaults(
            stuck=[(low.to(device), high.to(device)) for low, high in self.stuck],
            gain=None if self.gain is None else self.gain.to(device),
            offset=None if self.offset is None else self.offset.to(device),
        )

    def hold(self, tile: TileConductances, significance: list[float], limits: tuple[float, float]) -> TileConductances:
        """Conductances of a tile, and the weights they stand for, with those of its stuck devices.

        Args:
            tile: the tile as if no device were stuck, on the scale of the programming.
            significance: significance of each pair of a cell; empty for a single device.
            limits: smallest and largest conductance, in uS.
        """
        if not self.stuck:
            return tile
        devices = [device.clone() for device in tile.devices]
        touched = torch.zeros_like(tile.weight, dtype=torch.bool)
        for device, indices in zip(devices, self.stuck, strict=True):
            for index, conductance in zip(indices, limits, strict=True):
                device.view(-1)[index] = conductance
                touched.view(-1)[index] = True
        changed = replace(tile, devices=devices)
        weight = cell_weights(changed, significance, limits[0]).to(tile.weight.dtype)
        return replace(changed, weight=torch.where(touched, weight, tile.weight))
