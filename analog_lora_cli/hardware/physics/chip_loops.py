"""Tiles of a chip by compiled loops on a CPU, where nothing but the devices and a plain read-out is asked for."""

from __future__ import annotations

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

_NO_COUNTERS = np.zeros(2, dtype=np.uint64)
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
        self, key: TileKey, layer: MappedLayer, place: TileSlice, seconds: float, number: int, state: TileState
    ) -> Tensor:
        """Write a tile as read at a time into the state of its layer.

        Args:
            key: the tile.
            layer: its layer, on the CPU.
            place: its place in the layer.
            seconds: time after programming.
            number: number of the reading.
            state: state of the layer, in float32.

        Returns:
            (columns, rows): the weights as read, in tile units.
        """
        from analog_lora_cli.hardware.kernels import cpu_chips

        rows, columns = place.size
        laws, pairs, moment = self.cells.laws, self.cells.pairs, (float(seconds), number)
        weight, first_O, first_I = _float32_weight(layer, place)
        held, sums = torch.empty(columns, rows), torch.empty(2, columns, dtype=torch.float64)
        noises = [PooledNormal(key.seed(*purpose), weight.device) for purpose in (("baseline",), ("read-out", *moment))]
        read_out = self.compensation.in_loops
        cpu_chips.age(
            as_array(weight),
            first_O,
            first_I,
            as_array(layer.column_scale[place.columns]),
            self._keys(key, moment),
            _NO_COUNTERS if read_out is None else _counters(noises, held),
            _NO_TABLE if read_out is None else run_table(torch.float32).numpy(),
            np.array(pairs.significance, dtype=np.float32),
            laws.noise_in_microsiemens,
            laws.packed(seconds),
            _NO_CONVERTER if read_out is None else read_out.converter_P,
            np.float32(pairs.g_max),
            np.float32(np.log2(laws.drift_ratio(seconds))),
            pairs_of_column(rows),
            as_array(held),
            as_array(state.weight),
            place.outputs[0],
            place.inputs[0],
            sums.numpy(),
        )
        if read_out is None:
            # Such a compensation looks at no programmed weights.
            target = tile_weight(layer, place)
            factor = self.compensation.factor(TileReadOut(target, target, held, None, *noises))
        else:
            factor = read_out.factor(*(sums / rows))
        state.compensation[place.columns] = factor
        return held

    def _keys(self, key: TileKey, moment: tuple[float, int]) -> NDArray[np.uint64]:
        """(4, pairs), see `cpu_chips.age`."""
        count = len(self.cells.pairs.significance)
        programming = [key.of_pairs(count, f"program {sign}") for sign in "+-"]
        seeds = [*programming, key.of_pairs(count, "drift"), key.of_pairs(count, "read", *moment)]
        return np.array(seeds, dtype=np.uint64)


def _counters(noises: list[PooledNormal], held: Tensor) -> NDArray[np.uint64]:
    return np.array([noise.reserve(*held.shape) for noise in noises], dtype=np.uint64)


def for_loops(layer: MappedLayer) -> bool:
    """Whether loops can compute a layer: on the CPU, in float32."""
    return layer.weight.device.type == "cpu" and layer.column_scale.dtype == torch.float32


def _float32_weight(layer: MappedLayer, place: TileSlice) -> tuple[Tensor, int, int]:
    """A matrix in float32 that holds the tile, and the tile's first output and input in it."""
    weight = layer.weight.detach()
    if weight.dtype == torch.float32 and weight.is_contiguous():
        return weight, place.outputs[0], place.inputs[0]
    return weight[place.weights].float().contiguous(), 0, 0
