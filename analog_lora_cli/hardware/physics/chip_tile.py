"""One tile of a chip with all that belongs to it: devices, reference columns, faults and drift compensation."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.hardware.kernels.random import PooledNormal
from analog_lora_cli.hardware.physics.aihwkit_cells import seeded
from analog_lora_cli.hardware.physics.cells import CellModel, ProgrammedTile, TileKey
from analog_lora_cli.hardware.physics.compensation import DriftCompensation, TileReadOut
from analog_lora_cli.hardware.physics.conductances import (
    TileConductances,
    less_references,
    on_scale_of,
    significance_of,
    target_conductances,
    with_references,
)
from analog_lora_cli.hardware.physics.faults import TileFaults


@dataclass(frozen=True)
class ChipTile:
    """A tile, programmed when it is first asked for anything. Weights are (columns, rows) in tile units."""

    key: TileKey
    target: Tensor
    """Weights that the tile should hold."""
    hardware: HardwareConfig
    cells: CellModel
    compensation: DriftCompensation

    @cached_property
    def faults(self) -> TileFaults:
        """The faults of the tile, the same at all times."""
        if not self.hardware.has_faults:
            return TileFaults.none()
        devices = 2 * len(significance_of(self.cells.converter)) or 1
        with seeded(self.key.seed("faults")):
            faults = TileFaults.draw(self.hardware, devices, tuple(self._all_targets.shape))
        return faults.to(self.target.device)

    @cached_property
    def before_any_read(self) -> Tensor:
        """Weights right after programming, as the ADCs count them."""
        weight = self._programmed.weight
        if self.faults.stuck:
            programmed, converter = self._programmed, self.cells.converter
            devices = target_conductances(converter, weight)
            weight = self._with_stuck(on_scale_of(programmed.scale, programmed.offset, devices, converter.g_min)).weight
        return self.as_converted(less_references(weight, self.hardware.references))

    def read(self, seconds: float, number: int) -> tuple[Tensor, Tensor | float]:
        """Weights of the tile at a time, without reference columns; its drift-compensation factor, or each column's.

        Args:
            seconds: time after programming, in seconds.
            number: number of the reading.
        """
        held = self.devices(seconds, number).weight if self.faults.stuck else self._programmed.read(seconds, number)
        weight = less_references(held, self.hardware.references)
        gain_O = self.faults.gain
        read_out = TileReadOut(
            # Nothing is expected of a dead column, whose ADC counts nothing.
            self.target if gain_O is None else self.target * (gain_O != 0)[:, None],
            self.before_any_read,
            self.as_converted(weight),
            self.faults.offset,
            self._noise("baseline"),
            self._noise("read-out", float(seconds), number),
        )
        factor = self.compensation.factor(read_out)
        if gain_O is not None and isinstance(factor, Tensor):
            # The ratio of two read-outs of nothing would be any number.
            factor = torch.where(gain_O == 0, 1.0, factor)
        return weight, factor

    def devices(self, seconds: float, number: int) -> TileConductances:
        """Conductances at a time with those of stuck devices, see `ProgrammedTile.devices`."""
        return self._with_stuck(self._programmed.devices(seconds, number))

    @property
    def _all_targets(self) -> Tensor:
        return with_references(self.target, self.hardware.references)

    @cached_property
    def _programmed(self) -> ProgrammedTile:
        return self.cells.program(self.key, self._all_targets)

    def _with_stuck(self, conductances: TileConductances) -> TileConductances:
        """Conductances with those of the stuck devices.

        Args:
            conductances: on the scale of the programming.
        """
        converter = self.cells.converter
        return self.faults.hold(conductances, significance_of(converter), (converter.g_min, converter.g_max))

    def as_converted(self, weight: Tensor) -> Tensor:
        """Weights as the ADCs count them: times the gains."""
        return weight if self.faults.gain is None else weight * self.faults.gain[:, None]

    def _noise(self, *purpose: object) -> PooledNormal:
        """Noise of a drift read-out."""
        return PooledNormal(self.key.seed(*purpose), self.target.device, anywhere=True)
