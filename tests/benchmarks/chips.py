"""Programming and ageing a chip, and training on one. `python -m tests.benchmarks.chips [--model minilm]`.

The first table programs a chip and ages it to one time, layer by layer of the shapes of a Llama-like model: by
aihwkit's classes tile by tile, in torch, and in compiled loops. The second one is a training step with the noise of the
same device, exact (`hardware.weight_noise_type: device`) and by its moments (`device-gaussian`), against one with
Gaussian noise.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
import statistics
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest import mock

import torch

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.hardware.physics import chip as chips
from analog_lora_cli.hardware.physics.aihwkit_cells import AihwkitCells
from analog_lora_cli.hardware.physics.cells import CellModel
from analog_lora_cli.hardware.physics.chip import Chip
from analog_lora_cli.hardware.physics.devices import noise_model
from analog_lora_cli.hardware.tile.analog_linear import AnalogLinear
from analog_lora_cli.runtime import console
from tests.benchmarks.competitors import HARDWARE, Competitor, competitor
from tests.benchmarks.measure import arguments, batch_of, interleaved

if TYPE_CHECKING:
    from analog_lora_cli.training.callbacks.chips import RandomAges

SHAPES = ((576, 576), (192, 576), (192, 576), (576, 576), (1536, 576), (1536, 576), (576, 1536))
"""The linear layers of one block of SmolLM2-135M, which has 30 of them."""
TEN_YEARS = 315_360_000.0


def main() -> None:
    """Print both tables."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--training-only", action="store_true", help="the second table alone")
    parser.add_argument("--blocks", type=int, default=30, help="of the Llama-like model; 30: SmolLM2-135M")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if not options.training_only:
        _chips(options)
    _training(options)


def _chips(options: argparse.Namespace) -> None:
    weights = options.blocks * sum(rows * columns for rows, columns in SHAPES) / 1e6
    heading = f"A new chip at 10 years, {weights:.0f} million weights, {options.threads} threads"
    made = console.table(heading, "", "compensation", "s", "s / million", "/ loops", caption="minimum of the runs")
    for compensation in ("global", "least-squares"):
        work = {
            "aihwkit's classes": functools.partial(_age, _layers(1, compensation), "aihwkit"),
            "torch": functools.partial(_age, _layers(1, compensation, kernels="torch"), "ours"),
            "loops": functools.partial(_age, _layers(options.blocks, compensation), "ours"),
        }
        seconds = interleaved(work, options.runs, "cpu")
        # The slow ones are measured on one block.
        counted = {name: weights if name == "loops" else weights / options.blocks for name in work}
        million = {name: min(values) / counted[name] for name, values in seconds.items()}
        for name, value in million.items():
            row = [compensation, f"{value * weights:.2f}", f"{value:.4f}", f"{value / million['loops']:.1f}"]
            made.add_row(name, *row)
    console.results().print(made)


def _layers(blocks: int, compensation: str, **changes: object) -> dict[str, AnalogLinear]:
    hardware = HardwareConfig.model_validate({"drift_compensation": compensation, **changes})
    generator = torch.Generator().manual_seed(0)
    shapes = [(f"{block}.{number}", shape) for block in range(blocks) for number, shape in enumerate(SHAPES)]
    return {
        name: AnalogLinear(torch.randn(*shape, generator=generator), None, hardware, name) for name, shape in shapes
    }


def _age(layers: dict[str, AnalogLinear], way: str) -> None:
    hardware = next(iter(layers.values())).hardware

    def through_aihwkit(_: HardwareConfig) -> CellModel:
        model = noise_model(hardware)
        return AihwkitCells(model, model.g_converter)

    with mock.patch.object(chips, "cell_model", through_aihwkit if way == "aihwkit" else chips.cell_model):
        Chip(0, layers, hardware).age(TEN_YEARS)


def _training(options: argparse.Namespace) -> None:
    # Here, because the libraries are prepared by `competitors`.
    from analog_lora_cli.training.callbacks.chips import ChipEachStep, DeviceMoments

    batch = batch_of(options)
    models = {
        "gaussian": competitor("analora", options.model, 0.1),
        "device-gaussian": _on_device(competitor("analora", options.model, 0.1), DeviceMoments, "device-gaussian"),
        "device": _on_device(competitor("analora", options.model, 0.1), ChipEachStep, "device"),
    }
    work = {name: functools.partial(model.train_step, batch) for name, model in models.items()}
    seconds = interleaved(work, options.runs, options.device)
    size = "x".join(map(str, batch["input_ids"].shape))
    heading = f"Training step, {options.model}, {size} tokens, {options.threads} threads"
    made = console.table(heading, "weight_noise_type", "median s", "/ gaussian")
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    for name, median in medians.items():
        made.add_row(name, f"{median:.3f}", f"{median / medians['gaussian']:.2f}")
    console.results().print(made)


def _on_device(model: Competitor, callback: type[RandomAges], kind: str) -> Competitor:
    """The same with devices of another age for each step in place of Gaussian noise."""
    hardware = HARDWARE.model_copy(update={"weight_noise_type": kind})
    layers = {module.name: module for module in model.model.modules() if isinstance(module, AnalogLinear)}
    for layer in layers.values():
        layer.set_hardware(hardware)
    devices, steps = callback(layers, hardware, 0, [0.0, TEN_YEARS]), itertools.count()

    def before_step() -> None:
        model.before_step()
        state: Any = SimpleNamespace(global_step=next(steps))
        devices.on_step_begin(None, state, None)  # type: ignore[arg-type]

    return dataclasses.replace(model, before_step=before_step)


if __name__ == "__main__":
    main()
