"""A simulated chip: a function of its seed, hardware and weights, of which nothing is kept."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.hardware.physics.cells import TileKey
from analog_lora_cli.hardware.physics.chip_loops import ChipLoops, for_loops
from analog_lora_cli.hardware.physics.chip_tile import ChipTile
from analog_lora_cli.hardware.physics.compensation import DriftCompensation
from analog_lora_cli.hardware.physics.conductances import TileConductances
from analog_lora_cli.hardware.physics.devices import cell_model
from analog_lora_cli.hardware.tile.grid import TileSlice
from analog_lora_cli.hardware.tile.mapping import tile_weight
from analog_lora_cli.hardware.tile.state import MappedLayer, TileState


class Chip:
    """A chip with the given layers on it.

    Programming noise and drift exponents of each tile come from seeds derived from the chip's seed, the layer's name
    and the tile's position; each reading time has seeds of its own for the read noise. Nothing depends on the batch,
    the order of calls, the process or torch's global generators, and nothing is kept: each tile is programmed again
    for each time. On another device the same chip differs by the last bits of logarithms and powers.

    Faults, drawn from a seed of their own for each tile, are the same at all times. The drift read-out is made with
    all of them in place, and with the IR drop and read noise of any other product.

    The physics is aihwkit's: `BaseNoiseModel.apply_programming_noise` and `apply_drift_noise` on tile weights in
    [-1, 1], t = 0 s being the first read, t_0 = 20 s after programming for PCM.

    Args:
        seed: the chip's seed.
        layers: layers on tiles by name.
        hardware: device, converter and compensation.
    """

    def __init__(self, seed: int, layers: Mapping[str, MappedLayer], hardware: HardwareConfig) -> None:
        self.seed = seed
        self.layers = layers
        self.hardware = hardware
        self._cells = cell_model(hardware)
        self._compensation = DriftCompensation.of(hardware)
        self._loops = ChipLoops.of(hardware, self._cells, self._compensation)

    @torch.no_grad()
    def age(self, seconds: float, read: int = 0) -> None:
        """Set all layers to the state of this chip at a time.

        Args:
            seconds: time after programming, in seconds.
            read: number of the reading; another number draws other read noise.
        """
        for name, layer in self.layers.items():
            state = self._blank_state(layer)
            self._age(name, layer, seconds, read, state)
            layer.state = state

    @torch.no_grad()
    def hold_programmed(self) -> None:
        """Set all layers to the programmed weights before any read: no read noise, no drift.

        No chip can be read so; it shows what programming alone does.
        """
        for name, layer in self.layers.items():
            state = self._blank_state(layer)
            for place in layer.grid:
                tile = self._tile(name, layer, place)
                _set(state, layer, place, tile.before_any_read, tile.faults.offset)
            layer.state = state

    def release(self) -> None:
        """Set all layers back to their exact weights."""
        for layer in self.layers.values():
            layer.state = None

    def fingerprint(self) -> str:
        """sha256 of the present state of all layers: weights and drift-compensation factors.

        `age` must have been called.
        """
        digest = hashlib.sha256()
        for name in sorted(self.layers):
            state = self.layers[name].state
            assert state is not None, "age the chip first"
            digest.update(name.encode())
            digest.update(state.weight.cpu().numpy().tobytes())
            digest.update(state.compensation.cpu().numpy().tobytes())
            if state.adc_offset is not None:
                digest.update(state.adc_offset.cpu().numpy().tobytes())
        return digest.hexdigest()

    @torch.no_grad()
    def conductances(self, name: str, seconds: float, read: int = 0) -> list[TileConductances]:
        """Conductances of a layer's devices at a time, on the scale of the programming, see `on_scale_of`.

        They are those behind the weights that `age` sets, with the same read noise. Reference columns come last among
        the columns; `weight` is without them, and without the gains of the ADCs.

        Args:
            name: name of the layer.
            seconds: time after programming, in seconds.
            read: number of the reading.

        Returns:
            for each tile, rows of tiles first.
        """
        layer = self.layers[name]
        state = self._blank_state(layer)
        weight_OI = torch.empty_like(state.weight)
        self._age(name, layer, seconds, read, state, weight_OI)
        return [
            replace(self._tile(name, layer, place).devices(seconds, read), weight=weight_OI[place.weights].contiguous())
            for place in layer.grid
        ]

    def adc(self, name: str) -> list[tuple[Tensor | None, Tensor | None]]:
        """Gains and offsets of a layer's ADCs, (columns,) of each tile, see `TileFaults`."""
        layer = self.layers[name]
        faults = [self._tile(name, layer, place).faults for place in layer.grid]
        return [(one.gain, one.offset) for one in faults]

    def _age(
        self,
        name: str,
        layer: MappedLayer,
        seconds: float,
        read: int,
        state: TileState,
        tile_units_OI: Tensor | None = None,
    ) -> None:
        """Write a layer at a time into its state, and its weights in tile units, without ADC gains, where asked for."""
        if self._loops is not None and for_loops(layer):
            keys = [self._key(name, place) for place in layer.grid]
            self._loops.age(keys, layer, seconds, read, state, tile_units_OI)
            return
        for place in layer.grid:
            tile = self._tile(name, layer, place)
            weight, factor = tile.read(seconds, read)
            _set(state, layer, place, tile.as_converted(weight), tile.faults.offset)
            state.compensation[place.columns] = factor
            if tile_units_OI is not None:
                tile_units_OI[place.weights] = weight

    def _tile(self, name: str, layer: MappedLayer, place: TileSlice) -> ChipTile:
        target = tile_weight(layer, place)
        return ChipTile(self._key(name, place), target, self.hardware, self._cells, self._compensation)

    def _key(self, name: str, place: TileSlice) -> TileKey:
        return TileKey(self.seed, name, place.row, place.column)

    def _blank_state(self, layer: MappedLayer) -> TileState:
        """A state to be filled, with factors of 1 and offsets of 0."""
        scales = layer.column_scale
        return TileState(
            torch.empty_like(layer.weight, dtype=scales.dtype),
            torch.ones_like(scales),
            torch.zeros_like(scales) if self.hardware.adc_offset_mismatch else None,
        )


def _set(state: TileState, layer: MappedLayer, place: TileSlice, weight: Tensor, offset: Tensor | None) -> None:
    """Write one tile into the state of its layer.

    Args:
        state: state of the layer.
        layer: the layer.
        place: place of the tile.
        weight: (columns, rows), in tile units.
        offset: (columns,), offsets of its ADCs in tile units; None: 0.
    """
    torch.mul(weight, layer.column_scale[place.columns][:, None], out=state.weight[place.weights])
    if offset is not None:
        assert state.adc_offset is not None
        state.adc_offset[place.columns] = offset
