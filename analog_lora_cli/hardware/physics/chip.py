"""A simulated chip: programmed once from a seed, then aged; its state depends on seed and hardware alone."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.hardware.kernels.random import one_thread
from analog_lora_cli.hardware.physics.compensation import DriftCompensation
from analog_lora_cli.hardware.physics.conductances import (
    RecordingConverter,
    TileConductances,
    on_scale_of,
    target_conductances,
)
from analog_lora_cli.hardware.physics.devices import noise_model
from analog_lora_cli.hardware.seeds import derive_seed
from analog_lora_cli.hardware.tile.mapping import tile_weights
from analog_lora_cli.hardware.tile.state import MappedLayer, TileState

if TYPE_CHECKING:
    from aihwkit.inference.noise.base import BaseNoiseModel


@dataclass(frozen=True)
class _ProgrammedTile:
    """One tile after programming, in tile units."""

    seed_parts: tuple[object, ...]
    """Parts that the seeds of its noise have in common."""
    weight: Tensor
    """(columns, rows): right after programming."""
    drift_parameters: list[Tensor]
    """Drift exponents, one tensor for each conductance of the cell."""
    baseline: Tensor
    """The drift read-out right after programming: one number, or one for each column."""


class Chip:
    """A chip with the given layers on it.

    Programming draws the programming noise and the drift exponents of each tile from a seed derived from the chip's
    seed, the layer's name and the tile's position; each reading time has a seed of its own for the read noise. Nothing
    depends on the batch, the order of calls, the process or torch's global generators, and the random numbers are
    drawn on the CPU, so that a chip is the same on every device.

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
        self._model = noise_model(hardware)
        self._compensation = DriftCompensation(hardware)
        self._tiles = {name: self._program_layer(name, layer) for name, layer in layers.items()}

    def age(self, seconds: float, read: int = 0) -> None:
        """Set all layers to the state of this chip at a time.

        Args:
            seconds: time after programming, in seconds.
            read: number of the reading; another number draws other read noise.
        """
        for name, layer in self.layers.items():
            layer.state = self._aged_layer(name, layer, seconds, read)

    def hold_programmed(self) -> None:
        """Set all layers to the programmed weights before any read: no read noise, no drift.

        No chip can be read so; it shows what programming alone does.
        """
        for name, layer in self.layers.items():
            weight, scales = torch.empty_like(layer.weight, device="cpu"), layer.column_scale.cpu()
            for tile, programmed in zip(layer.grid, self._tiles[name], strict=True):
                weight[tile.weights] = programmed.weight * scales[tile.columns][:, None]
            device = layer.weight.device
            layer.state = TileState(weight.to(device), torch.ones_like(layer.column_scale))

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
        return digest.hexdigest()

    @torch.no_grad()
    def conductances(self, name: str, seconds: float, read: int = 0) -> list[TileConductances]:
        """Conductances of a layer's devices at a time, on the scale of the programming, see `on_scale_of`.

        They are those behind the weights that `age` sets, with the same read noise.

        Args:
            name: name of the layer.
            seconds: time after programming, in seconds.
            read: number of the reading.

        Returns:
            for each tile, rows of tiles first.
        """
        layer, converter = self.layers[name], self._model.g_converter
        recorder, model = RecordingConverter(converter), copy.copy(self._model)
        model.g_converter = recorder
        conductances = []
        for programmed, (_, target) in zip(self._tiles[name], tile_weights(layer, torch.float64), strict=True):
            self._drifted(programmed, seconds, read, model)
            assert recorder.last is not None
            conductances.append(on_scale_of(target_conductances(converter, target), recorder.last, converter.g_min))
        return conductances

    @torch.no_grad()
    def _program_layer(self, name: str, layer: MappedLayer) -> list[_ProgrammedTile]:
        tiles = []
        for tile, target in tile_weights(layer):
            parts = (self.seed, name, tile.row, tile.column)
            with seeded(*parts, "program"):
                programmed, drift_parameters = self._model.apply_programming_noise(target)
                baseline = self._compensation.baseline(target, programmed)
            tiles.append(_ProgrammedTile(parts, programmed, drift_parameters, baseline))
        return tiles

    @torch.no_grad()
    def _aged_layer(self, name: str, layer: MappedLayer, seconds: float, read: int) -> TileState:
        weight, scales = torch.empty_like(layer.weight, device="cpu"), layer.column_scale.cpu()
        compensation = torch.ones_like(scales)
        for tile, programmed in zip(layer.grid, self._tiles[name], strict=True):
            drifted, compensation[tile.columns] = self._drifted(programmed, seconds, read, self._model)
            weight[tile.weights] = drifted * scales[tile.columns][:, None]
        device = layer.weight.device
        return TileState(weight.to(device), compensation.to(device))

    def _drifted(
        self, tile: _ProgrammedTile, seconds: float, read: int, model: BaseNoiseModel
    ) -> tuple[Tensor, Tensor | float]:
        """The weights of a tile at a time, (columns, rows) in tile units, and its drift-compensation factor."""
        with seeded(*tile.seed_parts, "read", float(seconds), read):
            drifted = model.apply_drift_noise(tile.weight, tile.drift_parameters, seconds)
            return drifted, self._compensation.factor(tile.baseline, drifted)


@contextmanager
def seeded(*parts: object) -> Iterator[None]:
    """Seed torch's CPU generator with a hash of the parts, and restore it afterwards.

    One thread meanwhile, or another number of threads would be another chip. More threads would gain nothing: the
    normals take the time.
    """
    state = torch.get_rng_state()
    torch.default_generator.manual_seed(derive_seed(*parts))
    try:
        with one_thread():
            yield
    finally:
        torch.set_rng_state(state)
