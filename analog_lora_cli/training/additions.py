"""Additions of a configuration to a training: callbacks, and an optimizer of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from transformers import Trainer, TrainerCallback, TrainingArguments

from analog_lora_cli.config.sections.adapter import AdaLoraSection, AdapterSection, LoraPlusSection
from analog_lora_cli.config.times import seconds
from analog_lora_cli.models.build import TrainingModel
from analog_lora_cli.training.callbacks.adalora import AdaLoraBudget
from analog_lora_cli.training.callbacks.chips import ChipEachStep, ChipInTheLoop, DeviceMoments
from analog_lora_cli.training.callbacks.noise import WeightNoiseSchedule
from analog_lora_cli.training.callbacks.tile_units import StepInTileUnits

if TYPE_CHECKING:
    from peft import PeftModel
    from torch.optim import Optimizer


@dataclass(frozen=True)
class Additions:
    """Callbacks and an optimizer on top of the Trainer's defaults."""

    callbacks: Sequence[TrainerCallback] = ()
    """Those that are context managers are entered around the training."""
    optimizer: Optimizer | None = None
    """None: as `train.optim` says."""


def additions(model: TrainingModel, arguments: TrainingArguments, aged_chip: tuple[int, float] | None) -> Additions:
    """All that a configuration adds.

    Args:
        model: result of `build`.
        arguments: result of `training_arguments`.
        aged_chip: seed and age (seconds after programming) of the one chip to train on; None: exact weights with
            statistical noise.
    """
    config, hardware, analog = model.loaded.config, model.loaded.config.hardware, model.analog
    callbacks: list[TrainerCallback] = []
    if analog is not None and analog.noise is not None:
        callbacks.append(WeightNoiseSchedule(model.loaded.plain, analog.noise, hardware.weight_noise_ramp))
        of_device = {"device": ChipEachStep, "device-gaussian": DeviceMoments}.get(hardware.weight_noise_type)
        if of_device is not None:
            ages = [seconds(label) for label in config.drift.times]
            callbacks.append(of_device(analog.layers, hardware, analog.noise.seed, ages))
    if analog is not None and aged_chip is not None:
        callbacks.append(ChipInTheLoop(analog.layers, hardware, *aged_chip))
    if analog is not None and config.trains_base:
        callbacks.append(StepInTileUnits(analog.layers))
    if not config.has_adapter:
        return Additions(callbacks)
    variant = _variant_additions(config.adapter, model.loaded.module, arguments)
    return Additions([*callbacks, *variant.callbacks], variant.optimizer)


def _variant_additions(adapter: AdapterSection, model: PeftModel, arguments: TrainingArguments) -> Additions:
    """Parts of an adapter's method that PEFT leaves to the training loop."""
    match adapter:
        case LoraPlusSection():
            return Additions(optimizer=_lora_plus(model, arguments, adapter.lora_plus_ratio))
        case AdaLoraSection():
            return Additions(callbacks=[AdaLoraBudget(model)])
    return Additions()


def _lora_plus(model: PeftModel, arguments: TrainingArguments, ratio: float) -> Optimizer:
    from peft.optimizers import create_loraplus_optimizer

    cls, options = Trainer.get_optimizer_cls_and_kwargs(arguments, model)
    options["weight_decay"] = arguments.weight_decay
    optimizer: Optimizer = create_loraplus_optimizer(model, cls, loraplus_lr_ratio=ratio, **options)
    # PEFT counts every vector as a B, learned input ranges too.
    ranges = {id(parameter) for name, parameter in model.named_parameters() if name.endswith(".input_range")}
    for group in list(optimizer.param_groups):
        own = [parameter for parameter in group["params"] if id(parameter) in ranges]
        if own:
            group["params"] = [parameter for parameter in group["params"] if id(parameter) not in ranges]
            optimizer.add_param_group({**group, "params": own, "lr": arguments.learning_rate})
    return optimizer
