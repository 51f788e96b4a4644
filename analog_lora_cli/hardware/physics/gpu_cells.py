"""Cells of phase-change memory and fitted devices by Triton's kernels, where `hardware.kernels` asks for them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.hardware.kernels.choice import uses_triton
from analog_lora_cli.hardware.physics.cells import TileKey
from analog_lora_cli.hardware.physics.pcm_cells import PcmCells, PcmTile


@dataclass(frozen=True)
class GpuPcmCells(PcmCells):
    """Pairs of devices of tiles on a GPU; tiles elsewhere and in float64 are those of `PcmCells`."""

    hardware: HardwareConfig

    def program(self, key: TileKey, target: Tensor) -> PcmTile:
        """See `CellModel`."""
        if target.dtype == torch.float32 and uses_triton(self.hardware, target.device):
            return GpuPcmTile(self, key, target.contiguous())
        return super().program(key, target)


class GpuPcmTile(PcmTile):
    """A tile whose weights come from `kernels.gpu.chips`; they differ from those of `PcmTile` by the last bits."""

    @cached_property
    @torch.no_grad()
    def weight(self) -> Tensor:
        """See `ProgrammedTile`."""
        from analog_lora_cli.hardware.kernels.gpu import chips

        plus_K, minus_K = self._keys("program +"), self._keys("program -")
        noise_P = self.cells.laws.noise_in_microsiemens.tolist()
        return chips.program(self.target_OI, plus_K, minus_K, self.cells.pairs, noise_P)

    @torch.no_grad()
    def read(self, seconds: float, number: int) -> Tensor:
        """See `ProgrammedTile`."""
        from analog_lora_cli.hardware.kernels.gpu import chips

        laws = self.cells.laws
        if self.cells.pairs.g_min:  # Then both devices of a pair conduct, which the kernel does not know.
            return super().read(seconds, number)
        keys = self._keys("drift"), self._keys("read", float(seconds), number)
        law_P, log2_age = laws.packed(seconds).tolist(), math.log2(laws.drift_ratio(seconds))
        return chips.read(self.target_OI, self.weight, *keys, self.cells.pairs, law_P, log2_age)

    def _keys(self, purpose: str, *more: object) -> list[int]:
        """The key of each pair."""
        return self.key.of_pairs(len(self.cells.pairs.significance), purpose, *more)
