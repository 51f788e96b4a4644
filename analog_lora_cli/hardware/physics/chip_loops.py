"""Tiles of a chip by compiled loops on a CPU, where nothing but the devices and a plain read-out is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.hardware.kernels.arrays import as_array
from analog_lora_cli.hardware.kernels.random import PooledNormal, run_array
from analog_lora_cli.hardware.physics.cells import CellModel, TileKey
from analog_lora_cli.hardware.physics.compensation import DriftCompensation, TileReadOut
from analog_lora_cli.hardware.physics.pcm_cells import PcmCells
from analog_lora_cli.hardware.tile.grid import TileSlice
from analog_lora_cli.hardware.tile.mapping import tile_weight
from analog_lora_cli.hardware.tile.state import MappedLayer, TileState

_NO_TABLE, _NO_CONVERTER = np.empty((0, 0), dtype=np.float32), np.empty(4, dtype=np.float32)


@dataclass(frozen=True)
class ChipLoops:
    """Computes what `ChipTile` does, to the last bits, in two passes over a tile."""

    cells: PcmCells
    compensation: DriftCompensation

    @classmethod
    def of(cls, hardware: HardwareConfig, cells: CellModel, compensation: DriftCompensation) -> ChipLoops | None:
        """The loops for this hardware; None if they do not compute it."""
        if not isinstance(cells, PcmCells) or not cells.compiled or cells.pairs.g_min:
            return None
        return None if hardware.has_faults or compensation.converters.effects.active else cls(cells, compensation)

    def age(
        self,
        keys: Sequence[TileKey],
        layer: MappedLayer,
        seconds: float,
        number: int,
        state: TileState,
        tile_units_OI: Tensor | None = None,
    ) -> None:
        """Write a layer as read at a time into its state.

        Args:
            keys: the layer's tiles, in the order of its grid.
            layer: the layer, on the CPU.
            seconds: time after programming.
            number: number of the reading.
            state: state of the layer, in float32.
            tile_units_OI: output: the weights as read, in tile units, float32; None: not needed.
        """
        from analog_lora_cli.hardware.kernels import cpu_chips

        moment, grid = (float(seconds), number), layer.grid
        read_out, laws, pairs = self.compensation.in_loops, self.cells.laws, self.cells.pairs
        if read_out is None and tile_units_OI is None:
            tile_units_OI = torch.empty_like(state.weight)
        seeds = np.array([self._seeds(key, moment) for key in keys], np.uint64)
        noises = [(key.seed("baseline"), key.seed("read-out", *moment)) for key in keys]
        scale_RO, read_OI, factor_RO = map(as_array, (layer.column_scale, state.weight, state.compensation))
        shape, sums_2RO = (len(grid.rows), len(grid.columns)), np.empty((2, *scale_RO.shape))
        weight = layer.weight.detach().float().contiguous()
        cpu_chips.age(
            as_array(weight), grid.edges, grid.column_edges, scale_RO, seeds.reshape(*shape, *seeds.shape[1:]),
            np.array(noises, np.uint64).reshape(*shape, 2),
            _NO_TABLE if read_out is None else run_array(),
            np.array(pairs.significance, np.float32), laws.noise_in_microsiemens, laws.packed(seconds),
            _NO_CONVERTER if read_out is None else read_out.converter_P,
            np.float32(pairs.g_max), np.float32(np.log2(laws.drift_ratio(seconds))),
            read_OI, _NO_TABLE if tile_units_OI is None else as_array(tile_units_OI), sums_2RO,
        )  # fmt: skip
        for place, tile_noises in zip(grid, noises, strict=True):
            if read_out is None:
                assert tile_units_OI is not None
                factor_RO[place.columns] = self._factor(layer, place, tile_units_OI[place.weights], tile_noises)
            else:
                before_O, now_O = sums_2RO[(slice(None), *place.columns)] / place.size[0]
                factor_RO[place.columns] = read_out.factor(before_O, now_O)

    def _seeds(self, key: TileKey, moment: tuple[float, int]) -> list[list[int]]:
        """(4, pairs), see `cpu_chips.age`."""
        count = len(self.cells.pairs.significance)
        programming = [key.of_pairs(count, f"program {sign}") for sign in "+-"]
        return [*programming, key.of_pairs(count, "drift"), key.of_pairs(count, "read", *moment)]

    def _factor(self, layer: MappedLayer, place: TileSlice, held: Tensor, noises: tuple[int, int]) -> Tensor | float:
        """The factor of a compensation whose read-outs are no loop's, and that looks at no programmed weights."""
        target = tile_weight(layer, place)
        first, now = (PooledNormal(seed, held.device) for seed in noises)
        return self.compensation.factor(TileReadOut(target, target, held, None, first, now))


def for_loops(layer: MappedLayer) -> bool:
    """Whether loops can compute a layer: on the CPU, in float32."""
    return layer.weight.device.type == "cpu" and layer.column_scale.dtype == torch.float32
