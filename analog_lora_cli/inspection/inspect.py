"""How a model lies on tiles: shapes, and on request weights, conductances and errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from analog_lora_cli.config.schema import Config
from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.errors import UsageError
from analog_lora_cli.evaluation.drift_grid import check_times
from analog_lora_cli.hardware.tile.mapping import TileGrid
from analog_lora_cli.inspection.latency import LayerWork
from analog_lora_cli.inspection.layer_inputs import SEQUENCES, random_inputs, recorded_inputs
from analog_lora_cli.inspection.packing import Block, PackedBlock, pack
from analog_lora_cli.inspection.source import Source, shapes_of, weights_of
from analog_lora_cli.inspection.tile_errors import LayerErrors, layer_errors
from analog_lora_cli.inspection.tile_statistics import (
    DeviceStatistics,
    WeightStatistics,
    conductance_statistics,
    devices_per_weight,
    weight_statistics,
)
from analog_lora_cli.models.build import Built, place
from analog_lora_cli.models.placement import ModuleFacts, PlacedLayer, Placement, linear_modules, module_facts, plan
from analog_lora_cli.storage import checkpoint as store


@dataclass(frozen=True)
class Wanted:
    """What to find out besides the shapes."""

    statistics: bool = False
    """Weights and conductances; loads the weights."""
    errors: bool = False
    """Errors of the matrix-vector products, with the chips and times of `drift`; includes `statistics`."""
    real_inputs: bool = False
    """Errors on inputs recorded on the validation data; else on random ones."""
    tokens: int = 128
    """Inputs of each layer."""
    pack: bool = False
    """Let small layers share arrays."""


@dataclass(frozen=True)
class WeightReport:
    """Weights and conductances of one layer."""

    weights: WeightStatistics
    devices: list[DeviceStatistics]


@dataclass
class Inspection:
    """What was found."""

    source: Source
    placement: Placement
    ranks: dict[str, int]
    """Rank of the adapter by layer; layers without one are missing."""
    devices_per_weight: int
    blocks: dict[str, list[Block]]
    """The used part of each tile, by layer, row by row of its grid."""
    packed: list[PackedBlock] | None = None
    weights: dict[str, WeightReport] = field(default_factory=dict)
    """Empty unless asked for."""
    errors: dict[str, LayerErrors] = field(default_factory=dict)
    """Empty unless asked for."""
    inputs: str = ""
    """What the errors were measured on."""

    @property
    def config(self) -> Config:
        """The configuration."""
        return self.source.config

    @property
    def tiles(self) -> int:
        """Tiles of all layers, unshared."""
        return sum(map(len, self.blocks.values()))

    @property
    def arrays(self) -> int:
        """Arrays that are needed: fewer than tiles where layers share them."""
        if self.packed is None:
            return self.tiles
        return 1 + max(placed.array for placed in self.packed)

    def cells(self, layers: list[PlacedLayer]) -> int:
        """Cells that hold a weight of these layers."""
        return sum(block.inputs * block.outputs for layer in layers for block in self.blocks[layer.name])

    def capacity(self, layers: list[PlacedLayer]) -> int:
        """Cells of the tiles of these layers, used or not."""
        return sum(tile_cells(block, self.config.hardware) for layer in layers for block in self.blocks[layer.name])

    def utilisation(self, layers: list[PlacedLayer]) -> float:
        """Share of the cells of these layers' tiles that hold a weight."""
        return self.cells(layers) / self.capacity(layers)

    def work(self, layer: PlacedLayer) -> LayerWork:
        """What a layer asks of tile and cluster."""
        outputs, inputs = layer.shape
        return LayerWork(inputs, outputs, self.ranks.get(layer.name, 0), len(self.blocks[layer.name]))


def tile_cells(block: Block, hardware: HardwareConfig) -> int:
    """Cells of the tile that a block lies on; a tile without limit is as large as what it holds."""
    return (hardware.tile_rows or block.inputs) * (hardware.tile_columns or block.outputs)


def inspect(source: Source, wanted: Wanted, progress: Callable[[int, int], None] | None = None) -> Inspection:
    """Look at a model.

    Args:
        source: the model and its configuration.
        wanted: what to find out.
        progress: told how many of the layers have been looked at.

    Raises:
        HubError, UsageError, CheckpointError: the model cannot be had, or the hardware does not suit it.
    """
    hardware = source.config.hardware
    if wanted.errors:
        check_times(hardware, source.config.drift.times)
    if wanted.pack and not (hardware.tile_rows and hardware.tile_columns):
        raise UsageError("--pack: tiles without a limit cannot be shared; set hardware.tile_rows and tile_columns")
    if source.checkpoint is not None:
        store.verify_adapter(source.checkpoint, source.adapter)
    if not (wanted.statistics or wanted.errors):
        shapes = shapes_of(source)
        return _described(source, plan(shapes.modules, shapes.heads, hardware, shapes.on_chip), shapes.modules, wanted)
    built = weights_of(_few_samples(source), wanted.real_inputs)
    modules = module_facts(built.plain_model)
    originals = {name: module.weight.detach() for name, module in linear_modules(built.plain_model).items()}
    place(built, built.config.hardware)
    assert built.placement is not None
    found = _described(source, built.placement, modules, wanted)
    _measure(found, built, originals, wanted, progress)
    return found


def _described(source: Source, placement: Placement, modules: list[ModuleFacts], wanted: Wanted) -> Inspection:
    hardware = source.config.hardware
    ranks = {module.name: module.rank for module in modules if module.rank}
    found = Inspection(source, placement, ranks, devices_per_weight(hardware), _blocks(placement, hardware))
    if wanted.pack:
        every = [block for blocks in found.blocks.values() for block in blocks]
        found.packed = pack(every, hardware.tile_rows, hardware.tile_columns)
    return found


def _few_samples(source: Source) -> Source:
    """Recording inputs needs only the first of the validation data."""
    task = source.config.task
    few = min(task.max_eval_samples or SEQUENCES, SEQUENCES)
    config = source.config.model_copy(update={"task": task.model_copy(update={"max_eval_samples": few})})
    return Source(source.name, config, source.checkpoint, source.adapter)


def _blocks(placement: Placement, hardware: HardwareConfig) -> dict[str, list[Block]]:
    blocks = {}
    for layer in placement.analog:
        grid = TileGrid.of(layer.shape[0], layer.shape[1], hardware)
        blocks[layer.name] = [
            Block(layer.name, row, column, stop - start, last - first)
            for row, (start, stop) in enumerate(grid.rows)
            for column, (first, last) in enumerate(grid.columns)
        ]
    return blocks


def _measure(
    found: Inspection,
    built: Built,
    originals: dict[str, Tensor],
    wanted: Wanted,
    progress: Callable[[int, int], None] | None,
) -> None:
    drift = built.config.drift
    inputs: dict[str, Tensor] = {}
    if wanted.errors:
        inputs = _inputs(built, wanted, drift.seed)
        found.inputs = _inputs_in_words(built, wanted, inputs)
    seeds = [drift.seed + index for index in range(drift.chips)]
    for done, (name, layer) in enumerate(built.layers.items(), start=1):
        statistics = conductance_statistics(layer, built.config.hardware)
        found.weights[name] = WeightReport(weight_statistics(originals[name]), statistics)
        if name in inputs:
            found.errors[name] = layer_errors(name, layer, originals[name], inputs[name], seeds, drift.times)
        if progress is not None:
            progress(done, len(built.layers))


def _inputs(built: Built, wanted: Wanted, seed: int) -> dict[str, Any]:
    if wanted.real_inputs:
        return recorded_inputs(built, wanted.tokens)
    return random_inputs(built.layers, wanted.tokens, seed)


def _inputs_in_words(built: Built, wanted: Wanted, inputs: dict[str, Tensor]) -> str:
    most = max(len(x) for x in inputs.values())
    if not wanted.real_inputs:
        return f"{most} random inputs (standard normal)"
    return f"{most} tokens of {built.task.config.name}'s validation data"
