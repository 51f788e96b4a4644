"""Programming and ageing a chip, and training on one. `python -m tests.benchmarks.chips [--model minilm]`.

The first table programs a chip and ages it to one time, layer by layer of the shapes of a Llama-like model: by
aihwkit's classes tile by tile, in torch, and in compiled loops. The second one is a training step with the noise of the
same device (`hardware.weight_noise_type: device`) against one with Gaussian noise.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
import statistics
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

SHAPES = ((576, 576), (192, 576), (192, 576), (576, 576), (1536, 576), (1536, 576), (576, 1536))
"""The linear layers of one block of SmolLM2-135M, which has 30 of them."""
TEN_YEARS = 315_360_000.0


def main() -> None:
    """Print both tables."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--blocks", type=int, default=30, help="of the Llama-like model; 30: SmolLM2-135M")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
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
    batch = batch_of(options)
    gaussian, device = competitor("analora", options.model, 0.1), _on_chips(competitor("analora", options.model, 0.1))
    work = {"gaussian": lambda: gaussian.train_step(batch), "device": lambda: device.train_step(batch)}
    seconds = interleaved(work, options.runs, options.device)
    size = "x".join(map(str, batch["input_ids"].shape))
    ratio = statistics.median(seconds["device"]) / statistics.median(seconds["gaussian"])
    made = console.table(
        f"Training step, {options.model}, {size} tokens, {options.threads} threads", "weight_noise_type", "median s"
    )
    for name, values in seconds.items():
        made.add_row(name, f"{statistics.median(values):.3f}")
    console.results().print(made)
    console.results().print(f"device / gaussian: {ratio:.2f}")


def _on_chips(model: Competitor) -> Competitor:
    """The same with a new chip for each step in place of Gaussian noise."""
    hardware = HARDWARE.model_copy(update={"weight_noise_type": "device"})
    layers = {module.name: module for module in model.model.modules() if isinstance(module, AnalogLinear)}
    for layer in layers.values():
        layer.set_hardware(hardware)
    seeds = itertools.count()

    def before_step() -> None:
        model.before_step()
        Chip(next(seeds), layers, hardware).age(86400.0)

    return dataclasses.replace(model, before_step=before_step)


if __name__ == "__main__":
    main()
