"""A simulated chip: programmed once from a seed, then aged; its state depends on seed and hardware alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.hardware.kernels.random import one_thread
from analog_lora_cli.hardware.physics.compensation import Baseline, DriftCompensation
from analog_lora_cli.hardware.physics.conductances import (
    RecordingConverter,
    TileConductances,
    less_references,
    on_scale_of,
    significance_of,
    target_conductances,
    with_references,
)
from analog_lora_cli.hardware.physics.devices import noise_model
from analog_lora_cli.hardware.physics.faults import TileFaults
from analog_lora_cli.hardware.seeds import derive_seed, seed_generator
from analog_lora_cli.hardware.tile.mapping import tile_weights
from analog_lora_cli.hardware.tile.state import MappedLayer, TileState


@dataclass(frozen=True)
class _ProgrammedTile:
    """One tile after programming, in tile units."""

    seed_parts: tuple[object, ...]
    """Parts that the seeds of its noise have in common."""
    scale: float
    """uS for each tile unit of weight."""
    offset: float
    """Single device: weight at g_min, in tile units. Pairs: 0."""
    weight: Tensor
    """(columns, rows), reference columns last: right after programming, as if no device were stuck."""
    faults: TileFaults
    drift_parameters: list[Tensor]
    """Drift exponents, one tensor for each conductance of the cell."""
    baseline: Baseline
    """What the drift compensation keeps of the tile."""


class Chip:
    """A chip with the given layers on it.

    Programming draws the programming noise and the drift exponents of each tile from a seed derived from the chip's
    seed, the layer's name and the tile's position; each reading time has a seed of its own for the read noise. Nothing
    depends on the batch, the order of calls, the process or torch's global generators, and the random numbers are
    drawn on the CPU, so that a chip is the same on every device.

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
        self._model = noise_model(hardware)
        self._converter = self._model.g_converter
        self._significance = significance_of(self._converter)
        self._model.g_converter = self._recorder = RecordingConverter(self._converter)
        self._compensation = DriftCompensation.of(hardware)
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
            scales = layer.column_scale.cpu()
            weight = torch.empty_like(layer.weight, device="cpu", dtype=scales.dtype)
            for tile, programmed in zip(layer.grid, self._tiles[name], strict=True):
                weight[tile.weights] = self._before_any_read(programmed) * scales[tile.columns][:, None]
            device = layer.weight.device
            layer.state = TileState(
                weight.to(device), torch.ones_like(layer.column_scale), self._adc_offset(name, layer)
            )

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
        layer, references = self.layers[name], self.hardware.references
        conductances = []
        for programmed, (_, target) in zip(self._tiles[name], tile_weights(layer, torch.float64), strict=True):
            exact = target_conductances(self._converter, with_references(target, references))
            with self._reading(programmed, seconds, read) as held:
                tile = on_scale_of(exact.scale, exact.offset, held, self._converter.g_min)
            conductances.append(replace(tile, weight=less_references(tile.weight, references)))
        return conductances

    def adc(self, name: str) -> list[tuple[Tensor | None, Tensor | None]]:
        """Gains and offsets of a layer's ADCs, (columns,) of each tile, see `TileFaults`."""
        return [(tile.faults.gain, tile.faults.offset) for tile in self._tiles[name]]

    @torch.no_grad()
    def _program_layer(self, name: str, layer: MappedLayer) -> list[_ProgrammedTile]:
        tiles = []
        for tile, target in tile_weights(layer):
            parts = (self.seed, name, tile.row, tile.column)
            wanted = with_references(target, self.hardware.references)
            with seeded(*parts, "faults"):
                faults = TileFaults.draw(self.hardware, 2 * len(self._significance) or 1, tuple(wanted.shape))
            with seeded(*parts, "program"):
                weight, drift_parameters = self._model.apply_programming_noise(wanted)
                assert self._recorder.last is not None
                scale, offset = self._recorder.last.scale, self._recorder.last.offset
                programmed = _ProgrammedTile(
                    parts, scale, offset, weight, faults, drift_parameters, Baseline(torch.empty(0))
                )
                baseline = self._compensation.baseline(target, self._before_any_read(programmed), faults.offset)
            tiles.append(replace(programmed, baseline=baseline))
        self._recorder.last = None
        return tiles

    @torch.no_grad()
    def _aged_layer(self, name: str, layer: MappedLayer, seconds: float, read: int) -> TileState:
        scales = layer.column_scale.cpu()
        weight = torch.empty_like(layer.weight, device="cpu", dtype=scales.dtype)
        compensation = torch.ones_like(scales)
        for tile, programmed in zip(layer.grid, self._tiles[name], strict=True):
            with self._reading(programmed, seconds, read) as held:
                faults = programmed.faults
                drifted = self._as_converted(faults, held.weight)
                compensation[tile.columns] = self._compensation.factor(programmed.baseline, drifted, faults.offset)
            if faults.gain is not None:
                # The ratio of two read-outs of nothing would be any number.
                compensation[tile.columns][faults.gain == 0] = 1.0
            weight[tile.weights] = drifted * scales[tile.columns][:, None]
        self._recorder.last = None
        device = layer.weight.device
        return TileState(weight.to(device), compensation.to(device), self._adc_offset(name, layer))

    def _before_any_read(self, tile: _ProgrammedTile) -> Tensor:
        """(columns, rows) in tile units: weights of a tile right after programming, as its ADCs count them."""
        weight = tile.weight
        if tile.faults.stuck:
            weight = self._held(tile, target_conductances(self._converter, weight)).weight
        return self._as_converted(tile.faults, weight)

    @contextmanager
    def _reading(self, tile: _ProgrammedTile, seconds: float, read: int) -> Iterator[TileConductances]:
        """The conductances of a tile at a time, while the noise of this reading is drawn."""
        with seeded(*tile.seed_parts, "read", float(seconds), read):
            self._model.apply_drift_noise(tile.weight, tile.drift_parameters, seconds)
            assert self._recorder.last is not None
            yield self._held(tile, self._recorder.last)

    def _held(self, tile: _ProgrammedTile, conductances: TileConductances) -> TileConductances:
        """Conductances with those of the stuck devices."""
        if not tile.faults.stuck:
            return conductances
        g_min = self._converter.g_min
        on_scale = on_scale_of(tile.scale, tile.offset, conductances, g_min)
        return tile.faults.hold(on_scale, self._significance, (g_min, self._converter.g_max))

    def _as_converted(self, faults: TileFaults, weight: Tensor) -> Tensor:
        """Weights as the ADCs count them: without the reference columns, times the gains."""
        weight = less_references(weight, self.hardware.references)
        return weight if faults.gain is None else weight * faults.gain[:, None]

    def _adc_offset(self, name: str, layer: MappedLayer) -> Tensor | None:
        """(rows of tiles, out_features): offsets of the ADCs in tile units; None: 0."""
        if not self.hardware.adc_offset_mismatch:
            return None
        offset = torch.zeros_like(layer.column_scale)
        for tile, programmed in zip(layer.grid, self._tiles[name], strict=True):
            assert programmed.faults.offset is not None
            offset[tile.columns] = programmed.faults.offset
        return offset


@contextmanager
def seeded(*parts: object) -> Iterator[None]:
    """Seed torch's CPU generator with a hash of the parts, and restore it afterwards.

    One thread meanwhile, or another number of threads would be another chip. More threads would gain nothing: the
    normals take the time.
    """
    state = torch.get_rng_state()
    seed_generator(torch.default_generator, derive_seed(*parts))
    try:
        with one_thread():
            yield
    finally:
        torch.set_rng_state(state)
