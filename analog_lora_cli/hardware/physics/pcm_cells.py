"""Cells of phase-change memory and fitted devices, from counter-based random numbers.

What a device is programmed to, its drift exponent and its read noise are functions of the tile's key, the cell, the
time and the reading, so that any tile can be computed alone at any time, in any order, on any device, with nothing
kept. The formulas are those of `pcm_laws`. As in aihwkit, the weight that a tile holds after programming is converted
to conductances once more before it drifts, see `on_scale_of`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from analog_lora_cli.config.device_file import ClippedLaw
from analog_lora_cli.hardware.kernels.counter import cell_normals
from analog_lora_cli.hardware.kernels.device_pairs import DevicePairs
from analog_lora_cli.hardware.kernels.random import one_thread
from analog_lora_cli.hardware.physics.cells import TileKey
from analog_lora_cli.hardware.physics.conductances import TileConductances, on_scale_of
from analog_lora_cli.hardware.physics.pcm_laws import PcmLaws

if TYPE_CHECKING:
    from aihwkit.inference.converter.base import BaseConductanceConverter


@dataclass(frozen=True)
class PcmCells:
    """Pairs of devices with `PcmLaws`."""

    laws: PcmLaws
    pairs: DevicePairs
    converter: BaseConductanceConverter
    """aihwkit's, which `pairs` describes."""
    compiled: bool
    """Whether compiled loops may compute them, see `ChipLoops`."""

    def program(self, key: TileKey, target: Tensor) -> PcmTile:
        """See `CellModel`."""
        return PcmTile(self, key, target.contiguous())


@dataclass(frozen=True)
class _Draw:
    """One device of each cell of a tile in one reading."""

    sign: str
    """See `PcmTile._signs`."""
    pair: int
    seconds: float
    """Time after programming."""
    number: int
    """Number of the reading."""


@dataclass(frozen=True)
class PcmTile:
    """See `ProgrammedTile`. Axes of tensors by suffix: O columns, I rows of the tile."""

    cells: PcmCells
    key: TileKey
    target_OI: Tensor
    offset = 0.0

    @cached_property
    def scale(self) -> float:
        """See `ProgrammedTile`."""
        return self.cells.pairs.scale(_largest(self.target_OI))

    @cached_property
    @torch.no_grad()
    def weight(self) -> Tensor:
        """See `ProgrammedTile`."""
        laws, scale = self.cells.laws, self.scale
        weight_OI = torch.zeros_like(self.target_OI)
        with one_thread():
            for pair, factor in enumerate(self.cells.pairs.significance):
                plus, minus = (
                    _programmed(laws, target, self._normals(f"program {sign}", pair))
                    for sign, target in zip("+-", self._targets(self.target_OI, scale, pair), strict=True)
                )
                weight_OI += factor * (plus - minus)
        return weight_OI / scale

    @torch.no_grad()
    def read(self, seconds: float, number: int) -> Tensor:
        """See `ProgrammedTile`."""
        return self._read(seconds, number).weight

    def devices(self, seconds: float, number: int) -> TileConductances:
        """See `ProgrammedTile`."""
        return on_scale_of(self.scale, 0.0, self._read(seconds, number), self.cells.pairs.g_min)

    @torch.no_grad()
    def _read(self, seconds: float, number: int) -> TileConductances:
        pairs, scale_now = self.cells.pairs, self.cells.pairs.scale(_largest(self.weight))
        devices: list[Tensor] = []
        weight_OI = torch.zeros_like(self.target_OI)
        with one_thread():
            for pair, factor in enumerate(pairs.significance):
                targets = self._targets(self.target_OI, self.scale, pair)
                starts = self._targets(self.weight, scale_now, pair)
                plus, minus = (
                    self._aged(target, start, _Draw(sign, pair, seconds, number))
                    for sign, target, start in zip(self._signs, targets, starts, strict=True)
                )
                devices += [plus, minus]
                weight_OI += factor * (plus - minus)
        return TileConductances(devices, scale_now, 0.0, weight_OI / scale_now)

    @property
    def _signs(self) -> tuple[str, str]:
        """Names of the two devices of a pair in the keys of drift and read noise.

        Where a zero weight conducts nothing, one of both conducts at any time, and they share their numbers.
        """
        return ("", "-") if self.cells.pairs.g_min else ("", "")

    def _aged(self, target: Tensor, start: Tensor, draw: _Draw) -> Tensor:
        """Conductances in uS as read.

        Args:
            target: what the devices were programmed to, in uS.
            start: what they held afterwards.
            draw: which devices, and when.
        """
        laws, drifted = self.cells.laws, start
        if draw.seconds > 0:
            log_g = (target / laws.reference).clamp(min=1e-7).log()
            spread = _law(laws.drift_spread, log_g) * self._normals(f"drift{draw.sign}", draw.pair)
            nu = (_law(laws.drift_mean, log_g) + spread).abs() * laws.drift_scale
            drifted = start * laws.drift_ratio(draw.seconds) ** (-nu)
        noise = laws.read_noise
        power = (start / laws.reference) ** noise.exponent
        sigma = (noise.factor / power.clamp(min=1e-3)).clamp(max=noise.max) * laws.read_size(draw.seconds)
        normals = self._normals(f"read{draw.sign}", draw.pair, float(draw.seconds), draw.number)
        return (drifted + drifted * sigma * normals).clamp(min=0.0)

    def _targets(self, weight_OI: Tensor, scale: float, pair: int) -> Iterator[Tensor]:
        """Conductances of both devices of a pair for these weights, in uS."""
        pairs = self.cells.pairs
        lower, factor = pairs.lower_bounds[pair], pairs.significance[pair]
        for signed_OI in (weight_OI, -weight_OI):
            share = ((signed_OI * scale).clamp(min=0.0) - lower) / factor
            yield (share + pairs.g_min).clamp(pairs.g_min, pairs.g_max)

    def _normals(self, *purpose: object) -> Tensor:
        columns, rows = self.target_OI.shape
        return cell_normals(self.key.seed(*purpose), columns, rows, self.target_OI.device).to(self.target_OI.dtype)


def _programmed(laws: PcmLaws, target: Tensor, normals: Tensor) -> Tensor:
    """Conductances in uS after programming to these targets."""
    g, sigma = target / laws.reference, torch.zeros_like(target)
    for coefficient in reversed(laws.programming_noise):
        sigma = sigma * g + coefficient
    return (target + sigma * normals).clamp(min=0.0)


def _law(law: ClippedLaw, log_g: Tensor) -> Tensor:
    return (law.slope * log_g + law.intercept).clamp(law.min, law.max)


def _largest(weight_OI: Tensor) -> float:
    low, high = torch.aminmax(weight_OI)
    return max(-float(low), float(high))
