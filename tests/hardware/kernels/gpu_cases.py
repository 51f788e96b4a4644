"""Layers for the tests of Triton's kernels, and the noise of the kernels for torch's operations."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.hardware.kernels.counter import normal_pairs
from analog_lora_cli.hardware.kernels.gpu.mvm import Conversion, TileTensors, WeightNoise
from analog_lora_cli.hardware.kernels.random import PooledNormal
from analog_lora_cli.hardware.tile.array import GradientNeeds, TileArray
from analog_lora_cli.hardware.tile.converters import Converters, DigitalScales
from analog_lora_cli.hardware.tile.grid import TileGrid
from analog_lora_cli.hardware.tile.input_scale import FixedRange, TokenMaximum
from analog_lora_cli.hardware.tile.mapping import column_scales
from analog_lora_cli.hardware.tile.mvm import multiply_rows

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
OUTPUT_KEY, WEIGHT_KEY = 2**63 + 11, 2**62 + 7


class CounterNormal:
    """The output noise of the kernels in the place of `PooledNormal`."""

    def __init__(self, key: int) -> None:
        self.key, self.drawn = key, 0

    def draw(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """The next numbers of the counter."""
        start, self.drawn = self.drawn, self.drawn + math.prod(shape)
        numbers, _ = normal_pairs(self.key, (self.drawn,), DEVICE)
        return numbers[start:].view(shape).to(dtype)


@dataclass(frozen=True)
class Case:
    """One layer and its inputs, for the kernels and for torch's operations."""

    x: Tensor
    weight: Tensor
    bias: Tensor | None
    hardware: HardwareConfig
    compensation: Tensor | None = None
    range_R: Tensor | None = None
    offset: Tensor | None = None
    """In tile units."""

    @classmethod
    def of(cls, tokens: int, inputs: int, outputs: int, seed: int = 0, bias: bool = True, **hardware: Any) -> Case:
        """Normal inputs and weights."""
        generator = torch.Generator().manual_seed(seed)
        x, weight, bias_O = (
            torch.randn(*s, generator=generator) for s in ((tokens, inputs), (outputs, inputs), (outputs,))
        )
        settings = HardwareConfig(**{"tile_rows": 48, "tile_columns": 40, **hardware})
        return cls(x.to(DEVICE), weight.to(DEVICE), bias_O.to(DEVICE) if bias else None, settings)

    @property
    def grid(self) -> TileGrid:
        return TileGrid.of(*self.weight.shape, self.hardware)

    @property
    def edges(self) -> Tensor:
        return torch.from_numpy(self.grid.edges).to(DEVICE, torch.int32)

    @property
    def widest(self) -> int:
        return max(stop - start for start, stop in self.grid.rows)

    @property
    def converters(self) -> Converters:
        return Converters.of(self.hardware)

    @property
    def column_scale(self) -> Tensor:
        return column_scales(self.weight, self.grid)

    @property
    def scales(self) -> DigitalScales:
        return DigitalScales.of(self.column_scale, self.compensation, self.converters)

    @property
    def conversion(self) -> Conversion:
        """The converters for the kernel."""
        converters = self.converters
        return Conversion(converters.dac_step, converters.adc_step > 0, converters.limit, converters.noise_steps)

    @property
    def tensors(self) -> TileTensors:
        """The tiles for the kernel."""
        scales, unit = self.scales, self.converters.output_unit
        offset = None if self.offset is None else self.offset / unit
        return TileTensors(self.weight, self.edges, scales.weight_scale, scales.output_scale, self.range_R, offset)

    def noise(self, strength: float) -> WeightNoise:
        """Training noise for the kernels."""
        return WeightNoise(strength, WEIGHT_KEY, self.column_scale)

    def by_torch(self, weight: Tensor | None = None, saturation: bool = False) -> tuple[Tensor, Tensor | None]:
        """Output in float32 and bits of saturation by torch's operations, with the output noise of the kernels."""
        weight = (self.weight if weight is None else weight).float()
        scale = TokenMaximum() if self.range_R is None else FixedRange(self.range_R)
        tiles = TileArray(
            weight,
            self.grid,
            self.converters,
            self.scales,
            self.column_scale,
            input_scale=scale,
            adc_offset=self.offset,
        )
        bias, y_TO = None if self.bias is None else self.bias.float(), weight.new_empty(len(self.x), len(weight))
        normals, needs = cast(PooledNormal, CounterNormal(OUTPUT_KEY)), GradientNeeds(saturation=saturation)
        return y_TO, multiply_rows(self.x.float(), weight, tiles, bias, normals, needs, y_TO)[0]

    def noisy_weight(self, strength: float) -> Tensor:
        """The weights with the training noise of the kernels, float32."""
        xi, _ = normal_pairs(WEIGHT_KEY, tuple(self.weight.shape), DEVICE)
        units = torch.cat(
            [
                scale[:, None].expand(-1, stop - start)
                for scale, (start, stop) in zip(self.column_scale, self.grid.rows, strict=True)
            ],
            dim=1,
        )
        return self.weight.float() + strength * units * xi

    def with_chip(self) -> Case:
        """With compensation factors of a chip."""
        generator = torch.Generator().manual_seed(5)
        factors = 0.5 + torch.rand(len(self.grid.rows), len(self.weight), generator=generator)
        return replace(self, compensation=factors.to(DEVICE))

    def in_type(self, dtype: torch.dtype) -> Case:
        """With inputs, weights and bias in half precision."""
        bias = None if self.bias is None else self.bias.to(dtype)
        return replace(self, x=self.x.to(dtype), weight=self.weight.to(dtype), bias=bias)


def codes_apart(found: Tensor, expected: Tensor, case: Case) -> float:
    """Share of outputs that differ by more than rounding: an ADC's rounding may tip to the next level.

    No output may differ by more than one level on each row of tiles.
    """
    scales, tokens = case.scales.output_scale, case.x.float()
    magnitude = torch.stack([tokens[:, start:stop].abs().amax(dim=1) for start, stop in case.grid.rows])
    if case.range_R is not None:
        magnitude = case.range_R[:, None].expand_as(magnitude)
    level = (magnitude[:, :, None] * scales.abs()[:, None, :]).sum(dim=0)
    assert bool(((found - expected).abs() <= 1.01 * level + 1e-4).all())
    close = torch.isclose(found, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))
    return 1.0 - close.float().mean().item()
