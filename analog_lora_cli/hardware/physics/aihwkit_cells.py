"""Cells of any of aihwkit's devices, computed by aihwkit's classes on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from analog_lora_cli.hardware.kernels.random import one_thread
from analog_lora_cli.hardware.physics.cells import TileKey
from analog_lora_cli.hardware.physics.conductances import RecordingConverter, TileConductances, on_scale_of
from analog_lora_cli.hardware.seeds import seed_generator

if TYPE_CHECKING:
    from aihwkit.inference.converter.base import BaseConductanceConverter
    from aihwkit.inference.noise.base import BaseNoiseModel


class AihwkitCells:
    """`BaseNoiseModel.apply_programming_noise` and `apply_drift_noise` on the weights of a tile.

    Their normals come from torch's generator on the CPU, seeded for each tile, purpose, time and reading.

    Args:
        model: aihwkit's noise model.
        converter: its conductance converter; in the model it is replaced by one that records.
    """

    def __init__(self, model: BaseNoiseModel, converter: BaseConductanceConverter) -> None:
        self.model = model
        self.converter = converter
        self.model.g_converter = self.recorder = RecordingConverter(converter)

    @torch.no_grad()
    def program(self, key: TileKey, target: Tensor) -> AihwkitTile:
        """See `CellModel`."""
        with seeded(key.seed("program")):
            weight, drift_parameters = self.model.apply_programming_noise(target.cpu())
        recorded = self.recorder.take()
        return AihwkitTile(
            self, key, weight.to(target.device), recorded.scale, recorded.offset, weight, drift_parameters
        )


@dataclass(frozen=True)
class AihwkitTile:
    """See `ProgrammedTile`."""

    cells: AihwkitCells
    key: TileKey
    weight: Tensor
    scale: float
    offset: float
    on_cpu: Tensor
    """`weight` on the CPU."""
    drift_parameters: list[Tensor]
    """Drift exponents, one tensor for each conductance of the cell."""

    def read(self, seconds: float, number: int) -> Tensor:
        """See `ProgrammedTile`."""
        return self._recorded(seconds, number).weight.to(self.weight.device)

    def devices(self, seconds: float, number: int) -> TileConductances:
        """See `ProgrammedTile`."""
        return on_scale_of(self.scale, self.offset, self._recorded(seconds, number), self.cells.converter.g_min)

    @torch.no_grad()
    def _recorded(self, seconds: float, number: int) -> TileConductances:
        with seeded(self.key.seed("read", float(seconds), number)):
            self.cells.model.apply_drift_noise(self.on_cpu, self.drift_parameters, seconds)
        return self.cells.recorder.take()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's CPU generator, and restore it afterwards.

    One thread meanwhile, or another number of threads would be another chip. More threads would gain nothing: the
    normals take the time.
    """
    state = torch.get_rng_state()
    seed_generator(torch.default_generator, seed)
    try:
        with one_thread():
            yield
    finally:
        torch.set_rng_state(state)
