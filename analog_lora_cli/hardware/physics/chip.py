"""A simulated chip: programmed once from a seed, then aged; what it holds depends on seed and hardware alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.hardware.kernels.normals import Normals, one_thread
from analog_lora_cli.hardware.physics.aihwkit import defined_times, noise_model
from analog_lora_cli.hardware.physics.conductances import (
    TileConductances,
    on_the_scale_of,
    recorded,
    target_conductances,
)
from analog_lora_cli.hardware.tile.effective_weights import TileState
from analog_lora_cli.hardware.tile.mapping import TileGrid
from analog_lora_cli.hardware.tile.mvm import Converters
from analog_lora_cli.hardware.tile.training_noise import derive_seed

SMALLEST_READ_OUT = 1e-4
"""Lower limit of a drift read-out in tile units, as in aihwkit, so that the factor stays finite."""


class Layer(Protocol):
    """What a chip needs to know of a layer on tiles."""

    weight: Any
    column_scale: Tensor
    grid: TileGrid
    state: TileState | None


@dataclass
class _Tile:
    """One programmed tile, in tile units."""

    seed_parts: tuple[object, ...]
    programmed: Tensor
    """(columns, rows): the weights right after programming."""
    drift_parameters: list[Tensor]
    """Drift exponents, one tensor for each conductance of the cell."""
    baseline: Tensor
    """The drift read-out right after programming: one number, or one for each column."""


class Chip:
    """A chip with the given layers on it.

    Programming draws the programming noise and the drift exponents of each tile from a seed made of the chip's seed,
    the layer's name and the tile's position; each reading time has a seed of its own for the read noise. Nothing
    depends on the batch, the order of calls, the process or torch's global generators, and the random numbers are
    drawn on the CPU, so that a chip is the same on every device.

    The physics is aihwkit's: `BaseNoiseModel.apply_programming_noise` and `apply_drift_noise` on tile weights in
    [-1, 1], t = 0 s being the first read, t_0 = 20 s after programming for PCM.

    Args:
        seed: the chip's seed.
        layers: the layers on tiles, by name.
        hardware: device, converter and compensation.
    """

    def __init__(self, seed: int, layers: Mapping[str, Layer], hardware: HardwareConfig) -> None:
        self.seed = seed
        self.layers = layers
        self.hardware = hardware
        self._model = noise_model(hardware)
        self._converters = Converters.of(hardware)
        self._tiles = {name: self._program_layer(name, layer) for name, layer in layers.items()}

    def age(self, seconds: float, read: int = 0) -> None:
        """Let all layers hold what this chip holds at a time.

        Args:
            seconds: time after programming, in seconds.
            read: number of the reading; another number draws other read noise.
        """
        for name, layer in self.layers.items():
            layer.state = self._aged_layer(name, layer, seconds, read)

    def hold_programmed(self) -> None:
        """Let all layers hold what was programmed, before anything was read: no read noise, no drift.

        No chip can be read so; it shows what programming alone does.
        """
        for name, layer in self.layers.items():
            weight = torch.empty_like(layer.weight, device="cpu")
            tiles = iter(self._tiles[name])
            for scales, (start, stop) in zip(layer.column_scale.cpu(), layer.grid.rows, strict=True):
                for first, last in layer.grid.columns:
                    weight[first:last, start:stop] = next(tiles).programmed * scales[first:last, None]
            device = layer.weight.device
            layer.state = TileState(weight.to(device), torch.ones_like(layer.column_scale))

    def release(self) -> None:
        """Give all layers back their exact weights."""
        for layer in self.layers.values():
            layer.state = None

    def fingerprint(self) -> str:
        """sha256 of everything that the layers hold now: weights and compensation factors."""
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
        """What the devices of a layer hold at a time, on the scale of the programming; see `on_the_scale_of`.

        They are those behind the weights that `age` sets, with the same read noise.

        Args:
            name: of the layer.
            seconds: time after programming, in seconds.
            read: number of the reading.

        Returns:
            for each tile, rows of tiles first.
        """
        layer, converter = self.layers[name], self._model.g_converter
        held = []
        for tile, (_, _, target) in zip(self._tiles[name], tile_weights(layer, torch.float64), strict=True):
            with recorded(converter) as seen:
                self._drifted(tile, seconds, read)
            held.append(on_the_scale_of(target_conductances(converter, target), seen[-1], converter.g_min))
        return held

    @torch.no_grad()
    def _program_layer(self, name: str, layer: Layer) -> list[_Tile]:
        tiles = []
        for row, column, target in tile_weights(layer):
            parts = (self.seed, name, row, column)
            with seeded(*parts, "program"):
                programmed, drift_parameters = self._model.apply_programming_noise(target)
                exact = self.hardware.drift_compensation == "global-exact"
                baseline = self._read_out(target if exact else programmed, ideal=exact)
            tiles.append(_Tile(parts, programmed, drift_parameters, baseline))
        return tiles

    @torch.no_grad()
    def _aged_layer(self, name: str, layer: Layer, seconds: float, read: int) -> TileState:
        weight = torch.empty_like(layer.weight, device="cpu")
        compensation = torch.ones_like(layer.column_scale, device="cpu")
        scales = layer.column_scale.cpu()
        tiles = iter(self._tiles[name])
        for row, (start, stop) in enumerate(layer.grid.rows):
            for first, last in layer.grid.columns:
                tile = next(tiles)
                drifted, factor = self._drifted(tile, seconds, read)
                compensation[row, first:last] = factor
                weight[first:last, start:stop] = drifted * scales[row, first:last, None]
        device = layer.weight.device
        return TileState(weight.to(device), compensation.to(device))

    def _drifted(self, tile: _Tile, seconds: float, read: int) -> tuple[Tensor, Tensor | float]:
        """The weights of a tile at a time, (columns, rows) in tile units, and its factor against drift."""
        with seeded(*tile.seed_parts, "read", float(seconds), read):
            drifted = self._model.apply_drift_noise(tile.programmed, tile.drift_parameters, seconds)
            if self.hardware.drift_compensation == "none":
                return drifted, 1.0
            return drifted, tile.baseline / self._read_out(drifted)

    def _read_out(self, weight: Tensor, ideal: bool = False) -> Tensor:
        """The drift read-out of one tile: mean magnitude of its outputs for each input in turn set to 1.

        Through the same converters and noise as any other read; of all outputs, or of each column
        (aihwkit's GlobalDriftCompensation and PerColumnDriftCompensation).

        Args:
            weight: (columns, rows), in tile units.
            ideal: without converters and noise.
        """
        read = weight
        if not ideal:
            unit = self._converters.output_unit
            # A seed from torch's default generator, which `seeded` has set for this tile and time.
            read = self._converters.digitize(weight / unit, Normals(None, weight.device))
            self._converters.saturate(read)
            read = read * unit
        mean = read.abs().mean(dim=1) if self.hardware.drift_compensation == "per-column" else read.abs().mean()
        return mean.clamp(min=SMALLEST_READ_OUT)


def undefined_times(hardware: HardwareConfig, times: list[float]) -> tuple[list[float], list[float] | None]:
    """Which of the times the configured device has no data for, and which it has.

    Args:
        times: seconds after programming.

    Returns:
        the undefined times, and the defined ones in seconds (None: all).
    """
    defined = defined_times(noise_model(hardware))
    if defined is None:
        return [], None
    return [time for time in times if time not in defined], defined


@contextmanager
def seeded(*parts: object) -> Iterator[None]:
    """Give torch's CPU generator a seed made of the parts, and restore it afterwards.

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


def tile_weights(layer: Layer, dtype: torch.dtype | None = None) -> Iterator[tuple[int, int, Tensor]]:
    """The target weights of each tile, (columns, rows) in [-1, 1] on the CPU, with the tile's row and column.

    Args:
        layer: has the weights.
        dtype: to compute in; None: the weights' own.
    """
    weight, scales = layer.weight.detach().cpu().to(dtype), layer.column_scale.cpu().to(dtype)
    for row, (start, stop) in enumerate(layer.grid.rows):
        for column, (first, last) in enumerate(layer.grid.columns):
            scale = scales[row, first:last, None]
            safe = torch.where(scale > 0, scale, torch.ones_like(scale))
            yield row, column, weight[first:last, start:stop] / safe
