"""Inspection of a model on tiles: shapes, and on request weights, conductances and errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from analog_lora_cli.config.schema import Config
from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.errors import UsageError
from analog_lora_cli.evaluation.drift_grid import check_times
from analog_lora_cli.hardware.tile.calibration import LayerInputs
from analog_lora_cli.hardware.tile.grid import TileGrid
from analog_lora_cli.inspection.attention import AttentionShape, attention_shape
from analog_lora_cli.inspection.latency import LayerWork
from analog_lora_cli.inspection.layer_inputs import SEQUENCES, random_inputs, recorded_inputs
from analog_lora_cli.inspection.packing import Block, PackedBlock, pack
from analog_lora_cli.inspection.simulation import SimulationCost, simulation_cost
from analog_lora_cli.inspection.source import Source, shapes_of, weights_of
from analog_lora_cli.inspection.tile_errors import LayerErrors, layer_errors
from analog_lora_cli.inspection.tile_statistics import (
    DeviceStatistics,
    WeightStatistics,
    conductance_statistics,
    devices_per_weight,
    weight_statistics,
)
from analog_lora_cli.models.input_ranges import set_input_ranges
from analog_lora_cli.models.modules import ModuleFacts, linear_modules, module_facts
from analog_lora_cli.models.placement import PlacedLayer, Placement, plan
from analog_lora_cli.models.tiling import AnalogModel, put_on_tiles
from analog_lora_cli.storage import checkpoint as store


@dataclass(frozen=True)
class InspectionRequest:
    """Options: what to measure of a model besides its shapes."""

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
class LayerWeights:
    """Weights and conductances of one layer."""

    weights: WeightStatistics
    devices: list[DeviceStatistics]


@dataclass
class Inspection:
    """Placement of a model on tiles, and what was measured on request."""

    source: Source
    placement: Placement
    ranks: dict[str, int]
    """Rank of the adapter by layer; layers without one are missing."""
    devices_per_weight: int
    blocks: dict[str, list[Block]]
    """The used part of each tile, by layer, row by row of its grid."""
    attention: AttentionShape | None
    """Size of the model's attention; None if it has none."""
    packed: list[PackedBlock] | None = None
    weights: dict[str, LayerWeights] = field(default_factory=dict)
    """By layer; empty without the request."""
    errors: dict[str, LayerErrors] = field(default_factory=dict)
    """By layer; empty without the request."""
    inputs: str = ""
    """Inputs that the errors were measured on, in words."""

    @property
    def config(self) -> Config:
        """The configuration."""
        return self.source.config

    @property
    def tiles(self) -> int:
        """Tiles of all layers, unshared."""
        return sum(map(len, self.blocks.values()))

    @property
    def tile_size(self) -> str:
        """Size of a tile for headings, ` of 512x512`; empty where a tile is as large as a layer."""
        rows, columns = self.config.hardware.tile_rows, self.config.hardware.tile_columns
        return f" of {rows}x{columns}" if rows and columns else ""

    @property
    def arrays(self) -> int:
        """Arrays that are needed: fewer than tiles where layers share them."""
        if self.packed is None:
            return self.tiles
        return 1 + max(block.array for block in self.packed)

    def cells(self, layers: list[PlacedLayer]) -> int:
        """Cells that hold a weight of these layers."""
        return sum(block.inputs * block.outputs for layer in layers for block in self.blocks[layer.name])

    def devices(self, layers: list[PlacedLayer]) -> int:
        """Devices of these layers, those of reference columns included."""
        blocks = [block for layer in layers for block in self.blocks[layer.name]]
        return self.cells(layers) * self.devices_per_weight + sum(block.inputs * block.references for block in blocks)

    def capacity(self, layers: list[PlacedLayer]) -> int:
        """Cells of the tiles of these layers, used or not."""
        return sum(tile_cells(block, self.config.hardware) for layer in layers for block in self.blocks[layer.name])

    def utilisation(self, layers: list[PlacedLayer]) -> float:
        """Share of the cells of these layers' tiles that hold a weight."""
        return self.cells(layers) / self.capacity(layers)

    def simulation(self, layers: list[PlacedLayer]) -> SimulationCost:
        """Memory and time that these layers take in a simulation."""
        return simulation_cost(layers, self.config, self.devices_per_weight)

    def work(self, layer: PlacedLayer) -> LayerWork:
        """Work of a layer for tile and cluster."""
        outputs, inputs = layer.shape
        return LayerWork(inputs, outputs, self.ranks.get(layer.name, 0), len(self.blocks[layer.name]))

    def works(self) -> list[LayerWork]:
        """Work of each layer on tiles, in the model's order."""
        return [self.work(layer) for layer in self.placement.analog]


def tile_cells(block: Block, hardware: HardwareConfig) -> int:
    """Cells of the tile that a block lies on; a tile without limit is as large as what it holds."""
    return (hardware.tile_rows or block.inputs) * (hardware.tile_columns or block.bit_lines)


def inspect(
    source: Source, request: InspectionRequest, progress: Callable[[int, int], None] | None = None
) -> Inspection:
    """Inspect a model.

    Args:
        source: the model and its configuration.
        request: what to measure.
        progress: called with the numbers of finished and of all layers.

    Raises:
        HubError, UsageError, CheckpointError: the model cannot be loaded, or does not fit the hardware.
    """
    hardware = source.config.hardware
    if request.errors:
        check_times(hardware, source.config.drift.times, "--times")
    if request.pack and not (hardware.tile_rows and hardware.tile_columns):
        raise UsageError("--pack: tiles without a limit cannot be shared; set hardware.tile_rows and tile_columns")
    if source.checkpoint is not None:
        store.verify_adapter(source.checkpoint, source.adapter)
    if not (request.statistics or request.errors):
        shapes = shapes_of(source)
        placement = plan(shapes.modules, shapes.heads, hardware, shapes.on_chip)
        return _described(source, placement, shapes.modules, shapes.attention, request)
    loaded = weights_of(_few_samples(source), request.real_inputs)
    modules = module_facts(loaded.plain)
    linear = {name: module.weight.detach() for name, module in linear_modules(loaded.plain).items()}
    statistics = {name: weight_statistics(weight) for name, weight in linear.items()}
    # The tiles take over the tensors and clip them. Errors alone are worth a copy of the model.
    originals = {name: weight.clone() for name, weight in linear.items()} if request.errors else {}
    model = put_on_tiles(loaded, loaded.config.hardware)
    inspection = _described(source, model.placement, modules, attention_shape(loaded.plain.config), request)
    _measure(inspection, model, statistics, originals, request, progress)
    return inspection


def _described(
    source: Source,
    placement: Placement,
    modules: list[ModuleFacts],
    attention: AttentionShape | None,
    request: InspectionRequest,
) -> Inspection:
    hardware = source.config.hardware
    inspection = Inspection(
        source,
        placement,
        ranks={module.name: module.rank for module in modules if module.rank},
        devices_per_weight=devices_per_weight(hardware),
        blocks=blocks_of(placement, hardware),
        attention=attention,
    )
    if request.pack:
        all_blocks = [block for blocks in inspection.blocks.values() for block in blocks]
        inspection.packed = pack(all_blocks, hardware.tile_rows, hardware.tile_columns)
    return inspection


def _few_samples(source: Source) -> Source:
    """The source with few validation samples: enough to record inputs."""
    task = source.config.task
    few = min(task.max_eval_samples or SEQUENCES, SEQUENCES)
    config = source.config.model_copy(update={"task": task.model_copy(update={"max_eval_samples": few})})
    return Source(source.name, config, source.checkpoint, source.adapter)


def blocks_of(placement: Placement, hardware: HardwareConfig) -> dict[str, list[Block]]:
    """The used part of each tile by layer, row by row of its grid."""
    blocks = {}
    for layer in placement.analog:
        grid = TileGrid.of(layer.shape[0], layer.shape[1], hardware)
        blocks[layer.name] = [
            Block(layer.name, tile.row, tile.column, *tile.size, hardware.references) for tile in grid
        ]
    return blocks


def _measure(
    inspection: Inspection,
    model: AnalogModel,
    statistics: dict[str, WeightStatistics],
    originals: dict[str, Tensor],
    request: InspectionRequest,
    progress: Callable[[int, int], None] | None,
) -> None:
    drift = model.loaded.config.drift
    inputs: dict[str, Tensor] = {}
    if request.errors:
        inputs = _inputs(model, request, drift.seed)
        _set_input_ranges(inspection, model, request, inputs)
        inspection.inputs = _inputs_in_words(model, request, inputs)
    seeds = [drift.seed + index for index in range(drift.chips)]
    for finished, (name, layer) in enumerate(model.layers.items(), start=1):
        inspection.weights[name] = LayerWeights(statistics[name], conductance_statistics(layer, model.hardware))
        if name in inputs:
            inspection.errors[name] = layer_errors(name, layer, originals[name], inputs[name], seeds, drift.times)
        if progress is not None:
            progress(finished, len(model.layers))


def _inputs(model: AnalogModel, request: InspectionRequest, seed: int) -> dict[str, Tensor]:
    if request.real_inputs:
        return recorded_inputs(model, request.tokens)
    return random_inputs(model.layers, request.tokens, seed)


def _set_input_ranges(
    inspection: Inspection, model: AnalogModel, request: InspectionRequest, inputs: dict[str, Tensor]
) -> None:
    """Ranges for the inputs that the errors are measured on: those of data say nothing about random inputs."""
    if request.real_inputs:
        set_input_ranges(model, before_training=inspection.source.checkpoint is None)
    elif model.hardware.input_range != "dynamic":
        for name, layer in model.layers.items():
            statistics = LayerInputs(layer.grid, model.hardware)
            statistics.add(inputs[name])
            layer.set_input_range(statistics.ranges())


def _inputs_in_words(model: AnalogModel, request: InspectionRequest, inputs: dict[str, Tensor]) -> str:
    most = max(len(x) for x in inputs.values())
    if not request.real_inputs:
        calibrated = "" if model.hardware.input_range == "dynamic" else ", ranges calibrated on them"
        return f"{most} random inputs (standard normal{calibrated})"
    return f"{most} tokens of {model.loaded.task.config.name}'s validation data"
