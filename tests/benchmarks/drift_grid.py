"""A drift grid from the command to the last cell. `python -m tests.benchmarks.drift_grid [--validation-file F]`.

analora: data and features once, batches of like length, one programming for each chip, all times. The paper's way: the
repository's loop on aihwkit's torch tile, which builds and programs the model again for each cell and evaluates batches
padded to the full length. Both are measured on a few cells; the grid is what they amount to: start + cells * time.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import torch

from analog_lora_cli.config.load import load_config
from analog_lora_cli.config.schema import Config
from analog_lora_cli.models.build import TrainingModel
from analog_lora_cli.runtime import console
from analog_lora_cli.runtime.libraries import prepare_libraries

prepare_libraries()


def main() -> None:
    """Measure both ways and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--validation-file", default="package:analog_lora_cli/data/quickstart/validation.json")
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--max-length", type=int, default=320)
    parser.add_argument("--batch", type=int, default=128, help="features of an evaluation batch, the repository's")
    parser.add_argument("--chips", type=int, default=10, help="of the grid")
    parser.add_argument("--times", type=int, default=7, help="of the grid")
    parser.add_argument("--cells", type=int, default=3, help="cells that are measured")
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    config = load_config(
        "quickstart",
        overrides=[
            f"task.validation_file={options.validation_file}",
            f"task.max_eval_samples={options.questions}",
            f"task.max_length={options.max_length}",
            "task.doc_stride=128" if options.max_length > 128 else "task.doc_stride=32",
            f"train.per_device_eval_batch_size={options.batch}",
        ],
    )
    made = console.table(
        f"Drift grid of {options.chips} chips x {options.times} times, {options.questions} questions, "
        f"{options.threads} threads",
        "", "start s", "cell s", "grid s", "/ analora",
        caption=f"grid = start + {options.chips * options.times} cells, extrapolated from {options.cells}",
    )  # fmt: skip
    grids: dict[str, tuple[float, float, float]] = {}
    for name, way in (("analora", _analora), ("paper's way", _paper)):
        start, cells = way(config, options.cells, options.times)
        cell = statistics.mean(cells)
        grids[name] = (start, cell, start + options.chips * options.times * cell)
    for name, (start, cell, grid) in grids.items():
        made.add_row(name, f"{start:.1f}", f"{cell:.2f}", f"{grid:.0f}", f"{grid / grids['analora'][2]:.1f}")
    console.results().print(made)


def _model(config: Config) -> TrainingModel:
    from analog_lora_cli.workflows.train import prepare

    small = config.task.model_copy(update={"max_train_samples": 8})
    return prepare(config.model_copy(update={"task": small})).model


def _analora(config: Config, count: int, times: int) -> tuple[float, list[float]]:
    from analog_lora_cli.evaluation.evaluator import Evaluator

    begin = time.perf_counter()
    model = _model(config).analog
    assert model is not None
    loaded = model.loaded
    evaluator = Evaluator(loaded.task, loaded.processor, config.train.per_device_eval_batch_size, torch.device("cpu"))
    start = time.perf_counter() - begin
    begin = time.perf_counter()
    chip = model.program(0)
    programming = time.perf_counter() - begin
    cells = []
    for number in range(count):
        begin = time.perf_counter()
        with model.on_chip(chip, 10.0**number):
            evaluator.run(loaded.module)
        # A chip is programmed once for all its times.
        cells.append(time.perf_counter() - begin + programming / times)
    return start, cells


def _paper(config: Config, count: int, times: int) -> tuple[float, list[float]]:
    from aihwkit.inference import GlobalDriftCompensation, PCMLikeNoiseModel
    from aihwkit.nn import AnalogLinear

    from analog_lora_cli.hardware.physics.aihwkit_tiles import rpu_config
    from tests.benchmarks.competitors import replace_linear

    begin = time.perf_counter()
    features = _padded_features(config)
    start = time.perf_counter() - begin
    rpu = rpu_config(config.hardware.model_copy(update={"tile_rows": 0, "tile_columns": 0}))
    rpu.forward.bound_management = rpu.forward.bound_management.__class__("Iterative")
    rpu.noise_model, rpu.drift_compensation = PCMLikeNoiseModel(g_max=25.0), GlobalDriftCompensation()

    def analog(linear: Any) -> Any:
        layer = AnalogLinear(linear.in_features, linear.out_features, bias=linear.bias is not None, rpu_config=rpu)
        layer.set_weights(linear.weight.detach(), linear.bias.detach() if linear.bias is not None else None)
        return layer

    cells = []
    for number in range(count):
        begin = time.perf_counter()
        model = _model(config.model_copy(update={"method": "digital"})).loaded.module
        layers = replace_linear(model, analog)
        model.eval()
        for layer in layers:
            layer.drift_analog_weights(10.0**number)
        with torch.no_grad():
            for batch in features:
                model(**batch)
        cells.append(time.perf_counter() - begin)
    return start, cells


def _padded_features(config: Config) -> list[dict[str, torch.Tensor]]:
    """Batches in the order of the data, every row padded to `max_length`."""
    from analog_lora_cli.models.loading import load_tokenizer, model_source
    from analog_lora_cli.tasks import make_task

    task = make_task(config.task, 0)
    tokenizer = load_tokenizer(model_source(config.model))
    (validation,) = task.eval_sets(tokenizer)
    size = config.train.per_device_eval_batch_size
    batches = []
    for start in range(0, len(validation.features), size):
        rows = validation.features[start : start + size]
        names = ("input_ids", "attention_mask", "token_type_ids")
        batches.append(
            tokenizer.pad(
                {name: rows[name] for name in names if name in rows},
                padding="max_length",
                max_length=config.task.max_length,
                return_tensors="pt",
            )
        )
    return [dict(batch) for batch in batches]


if __name__ == "__main__":
    main()
