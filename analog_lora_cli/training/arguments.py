"""The `train` section as transformers' TrainingArguments."""

from __future__ import annotations

import os
import typing
from importlib.util import find_spec
from pathlib import Path

import torch
from pydantic import TypeAdapter, ValidationError
from transformers import TrainingArguments

from analog_lora_cli.config.schema import Config
from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.errors import ConfigError
from analog_lora_cli.hardware.physics.device_noise import DeviceNoise
from analog_lora_cli.hardware.physics.devices import undefined_times
from analog_lora_cli.runtime.ranks import world_size
from analog_lora_cli.tasks import make_task
from analog_lora_cli.training.objectives import make_objective


def training_arguments(config: Config, folder: Path) -> TrainingArguments:
    """The Trainer's arguments from the `train` section.

    Args:
        config: configuration of the training.
        folder: folder of the states for `--resume`.

    Raises:
        ConfigError: a value that TrainingArguments does not accept, or a device without the noise that is asked for.
        UsageError: the objective cannot be trained here.
    """
    problems = _wrong_types(config)
    if problems:
        raise ConfigError(problems)
    values = config.train.model_dump()
    _refuse_sharding(values)
    if config.on_tiles:
        _refuse_reentrant(values)
        if config.hardware.weight_noise_type == "device-gaussian":
            DeviceNoise.of(config.hardware)
        if config.hardware.weight_noise_type == "device":
            _require_any_age(config.hardware)
    if values["report_to"]:
        _require_reporters(values["report_to"])
    else:
        values["report_to"] = "none"
    cuda = torch.cuda.is_available()
    values.setdefault("use_cpu", not cuda)
    values.setdefault("logging_first_step", True)
    values.setdefault("dataloader_pin_memory", cuda)
    if world_size() > 1:
        values.setdefault("ddp_find_unused_parameters", False)
        values.setdefault("log_level_replica", "error")
        backend = "nccl" if cuda else "gloo"
        if values.setdefault("ddp_backend", backend) != backend:
            raise ConfigError([f"train.ddp_backend: the processes talk through {backend} here; leave the key out"])
    task = make_task(config.task, config.train.seed)
    values |= {
        "output_dir": str(folder),
        "save_strategy": "steps",
        "eval_strategy": "no",
        "remove_unused_columns": False,
        "disable_tqdm": True,
        "label_names": list(task.label_names),
    }
    try:
        return make_objective(config.objective, task).arguments(values)
    except (ValueError, TypeError, ImportError) as error:
        raise ConfigError([f"train: {str(error).splitlines()[0]}"]) from None


def _require_any_age(hardware: HardwareConfig) -> None:
    _, times = undefined_times(hardware, [])
    if times is not None:
        raise ConfigError(
            [
                f"hardware.weight_noise_type: device draws devices of any age, and {hardware.device} is known at "
                f"{', '.join(f'{time:g} s' for time in times)} only: use gaussian"
            ]
        )


def _refuse_sharding(values: dict[str, object]) -> None:
    # Saved states and hashes are those of whole parameters; tiles themselves work on a part.
    for name, variable in (("fsdp", "ACCELERATE_USE_FSDP"), ("deepspeed", "ACCELERATE_USE_DEEPSPEED")):
        if values.get(name) or os.environ.get(variable, "false").lower() in ("true", "1"):
            raise ConfigError(
                [
                    f"train.{name}: a model cut up by {name} cannot be saved and resumed yet; each process must hold "
                    "it whole. "
                    f"Take the key out, and {name} out of accelerate's configuration; to save memory: "
                    "train.gradient_checkpointing=true, a smaller batch, train.bf16=true"
                ]
            )


def _refuse_reentrant(values: dict[str, object]) -> None:
    # Its second computation of a layer cannot be told from a second call, which has noise of its own.
    for kind in ("gradient", "activation"):
        options = values.get(f"{kind}_checkpointing_kwargs")
        if values.get(f"{kind}_checkpointing") and isinstance(options, dict) and options.get("use_reentrant"):
            raise ConfigError(
                [
                    f"train.{kind}_checkpointing_kwargs: use_reentrant true would compute layers on tiles again with "
                    "other noise; leave it out, or use method digital"
                ]
            )


def _wrong_types(config: Config) -> list[str]:
    """Problems of fields that the schema does not list, by TrainingArguments' own annotations."""
    hints = typing.get_type_hints(TrainingArguments)
    problems = []
    for key, value in (config.train.model_extra or {}).items():
        try:
            TypeAdapter(hints[key]).validate_python(value, strict=False)
        except ValidationError as error:
            detail = error.errors()[0]
            problems.append(f"train.{key}: {detail['msg'][:1].lower()}{detail['msg'][1:]}, got {value!r}")
        except Exception:  # Some annotations name classes that pydantic has no schema for.
            continue
    return problems


def _require_reporters(names: list[str]) -> None:
    packages = {"tensorboard": ("tensorboard", "tensorboardX"), "wandb": ("wandb",)}
    for name in names:
        if name not in packages:
            raise ConfigError([f"train.report_to: {name!r} is not supported; known: {', '.join(packages)}"])
        if not any(find_spec(package) for package in packages[name]):
            raise ConfigError([f"train.report_to: {name} is not installed; pip install {name}"])
