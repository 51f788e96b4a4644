"""Tiles of a chip by compiled loops on a CPU, where nothing but the devices and a plain read-out is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.hardware.kernels.arrays import as_array
from analog_lora_cli.hardware.kernels.counter import pairs_of_column
from analog_lora_cli.hardware.kernels.random import PooledNormal, run_table
from analog_lora_cli.hardware.physics.cells import CellModel, TileKey
from analog_lora_cli.hardware.physics.compensation import DriftCompensation, TileReadOut
from analog_lora_cli.hardware.physics.pcm_cells import PcmCells
from analog_lora_cli.hardware.tile.grid import TileSlice
from analog_lora_cli.hardware.tile.mapping import tile_weight
from analog_lora_cli.hardware.tile.state import MappedLayer, TileState

_NO_TABLE, _NO_CONVERTER = np.empty((0, 0), dtype=np.float32), np.empty(4, dtype=np.float32)


@dataclass(frozen=True)
class ChipLoops:
    """Computes what `ChipTile` does, to the last bits, in one pass over a tile."""

    cells: PcmCells
    compensation: DriftCompensation

    @classmethod
    def of(cls, hardware: HardwareConfig, cells: CellModel, compensation: DriftCompensation) -> ChipLoops | None:
        """The loops for this hardware; None if they do not compute it."""
        if not isinstance(cells, PcmCells) or not cells.compiled or cells.pairs.g_min:
            return None
        return None if hardware.has_faults or compensation.converters.effects.active else cls(cells, compensation)

    def age(
        self, keys: Sequence[TileKey], layer: MappedLayer, seconds: float, number: int, state: TileState
    ) -> Iterator[Tensor]:
        """Write a layer as read at a time into its state, tile by tile.

        What can be prepared for all tiles is: a loop over a tile leaves nothing else in a processor's caches, so that
        Python code between two of them takes three times as long as on its own.

        Args:
            keys: the layer's tiles, in the order of its grid.
            layer: the layer, on the CPU.
            seconds: time after programming.
            number: number of the reading.
            state: state of the layer, in float32.

        Yields:
            (columns, rows) of each tile: the weights as read, in tile units.
        """
        from analog_lora_cli.hardware.kernels import cpu_chips

        moment = (float(seconds), number)
        seeds = [self._seeds(key, moment) for key in keys]
        noises = [(key.seed("baseline"), key.seed("read-out", *moment)) for key in keys]
        read_out, laws, pairs = self.compensation.in_loops, self.cells.laws, self.cells.pairs
        significance_K = np.array(pairs.significance, np.float32)
        noise_P, law_P = laws.noise_in_microsiemens, laws.packed(seconds)
        table_KN = _NO_TABLE if read_out is None else run_table(torch.float32).numpy()
        converter_P = _NO_CONVERTER if read_out is None else read_out.converter_P
        g_max, log2_age = np.float32(pairs.g_max), np.float32(np.log2(laws.drift_ratio(seconds)))
        scale_RO, read_OI, factor_RO = map(as_array, (layer.column_scale, state.weight, state.compensation))
        for place, keys_4K, tile_noises in zip(layer.grid, seeds, noises, strict=True):
            rows, columns = place.size
            weight, first_O, first_I = _float32_weight(layer, place)
            held, sums_2O = torch.empty(columns, rows), np.empty((2, columns))
            cpu_chips.age(
                as_array(weight), first_O, first_I, scale_RO[place.columns], keys_4K,
                np.array(tile_noises, np.uint64), table_KN, significance_K, noise_P, law_P, converter_P, g_max,
                log2_age, pairs_of_column(rows), as_array(held), read_OI, place.outputs[0], place.inputs[0], sums_2O,
            )  # fmt: skip
            if read_out is None:
                factor_RO[place.columns] = self._factor(layer, place, held, tile_noises)
            else:
                factor_RO[place.columns] = read_out.factor(*(sums_2O / rows))
            yield held

    def _seeds(self, key: TileKey, moment: tuple[float, int]) -> NDArray[np.uint64]:
        """(4, pairs), see `cpu_chips.age`."""
        count = len(self.cells.pairs.significance)
        programming = [key.of_pairs(count, f"program {sign}") for sign in "+-"]
        seeds = [*programming, key.of_pairs(count, "drift"), key.of_pairs(count, "read", *moment)]
        return np.array(seeds, dtype=np.uint64)

    def _factor(self, layer: MappedLayer, place: TileSlice, held: Tensor, noises: tuple[int, int]) -> Tensor | float:
        """The factor of a compensation whose read-outs are no loop's, and that looks at no programmed weights."""
        target = tile_weight(layer, place)
        first, now = (PooledNormal(seed, held.device) for seed in noises)
        return self.compensation.factor(TileReadOut(target, target, held, None, first, now))


def for_loops(layer: MappedLayer) -> bool:
    """Whether loops can compute a layer: on the CPU, in float32."""
    return layer.weight.device.type == "cpu" and layer.column_scale.dtype == torch.float32


def _float32_weight(layer: MappedLayer, place: TileSlice) -> tuple[Tensor, int, int]:
    """A matrix in float32 that holds the tile, and the tile's first output and input in it."""
    weight = layer.weight.detach()
    if weight.dtype == torch.float32 and weight.is_contiguous():
        return weight, place.outputs[0], place.inputs[0]
    return weight[place.weights].float().contiguous(), 0, 0
