"""The objective `grpo`: TRL's arguments and trainer, the task's prompts, and the rewards."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import MISSING, fields
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

from transformers import TrainingArguments

from analog_lora_cli.config.sections.grpo import GrpoSection
from analog_lora_cli.config.sections.objective import ObjectiveSection
from analog_lora_cli.errors import ConfigError, DataError, UsageError
from analog_lora_cli.hardware.tile.training_noise import NoiseScope
from analog_lora_cli.runtime.ranks import world_size
from analog_lora_cli.training.grpo.rewards import check_file, load_reward
from analog_lora_cli.training.grpo.rollout_noise import RolloutNoise
from analog_lora_cli.training.objective import Objective

if TYPE_CHECKING:
    from datasets import Dataset
    from torch.optim import Optimizer
    from transformers import TrainerCallback

    from analog_lora_cli.models.build import TrainingModel
    from analog_lora_cli.tasks.base import Processor
    from analog_lora_cli.training.resumable import ResumableTrainer

LOWEST_PYTHON = (3, 11)
"""The oldest Python that TRL's releases for our transformers run on."""


class Grpo(Objective):
    """Rewards for completions that the model writes itself."""

    section: ClassVar[type[ObjectiveSection]] = GrpoSection
    noise_scope: NoiseScope = "step"
    config: GrpoSection

    def arguments(self, values: dict[str, Any]) -> TrainingArguments:
        """TRL's arguments. TrainingArguments' own defaults stay, where TRL has others.

        Raises:
            UsageError: TRL cannot be used here, or a reward's file is wrong.
            ConfigError: the batch does not hold whole groups.
        """
        require_trl()
        for name in self.config.rewards:
            check_file(name)
        self._check_groups(values)
        from trl import GRPOConfig

        own = self.config.model_dump(exclude={"kind", "rewards"})
        shuffle = values["train_sampling_strategy"] != "sequential"
        defaults = {
            field.name: field.default
            for field in fields(TrainingArguments)
            if field.init and field.default is not MISSING
        }
        # Dropout inside the pretrained model would have a completion written under one mask and trained on under
        # another; that of the adapter is refused.
        return GRPOConfig(**{**defaults, **values, **own}, shuffle_dataset=shuffle, disable_dropout=True)

    def training_data(self, processor: Processor) -> Dataset:
        """The task's prompts."""
        return self.task.prompts(processor, self.config.max_completion_length)

    def trainer(
        self,
        model: TrainingModel,
        data: Dataset,
        arguments: TrainingArguments,
        callbacks: Sequence[TrainerCallback],
        optimizer: Optimizer | None,
    ) -> ResumableTrainer:
        """TRL's trainer with the rewards; runs the users' files that `objective.rewards` names.

        Raises:
            UsageError: a reward cannot be loaded, or asks for a column that the data do not have.
            DataError: there are fewer prompts than a rollout takes.
        """
        from analog_lora_cli.training.grpo.trainer import GrpoTrainer

        rewards = [load_reward(name) for name in self.config.rewards]
        for reward in rewards:
            reward.check(data.column_names)
        prompts = arguments.generation_batch_size // self.config.num_generations
        if len(data) < prompts:
            raise DataError(
                f"a rollout takes {prompts} prompts, the training data have {len(data)}: use a smaller batch"
            )
        return GrpoTrainer(
            model=model.loaded.module,
            args=arguments,
            reward_funcs=rewards,
            train_dataset=data.remove_columns(["prompt_ids"]),
            processing_class=model.loaded.processor,
            callbacks=list(callbacks),
            optimizers=(optimizer, None),
            rollout_noise=_rollout_noise(model),
            prompt_ids=dict(zip(data["prompt"], data["prompt_ids"], strict=True)),
        )

    def _check_groups(self, values: dict[str, Any]) -> None:
        batch, processes, own = values["per_device_train_batch_size"], world_size(), self.config.steps_per_generation
        steps = own or values["gradient_accumulation_steps"]
        completions, group = batch * processes * steps, self.config.num_generations
        if completions % group:
            key = "objective.steps_per_generation" if own else "train.gradient_accumulation_steps"
            product = f"train.per_device_train_batch_size {batch} x {key} {steps} x {processes} process(es)"
            raise ConfigError(
                [
                    f"objective.num_generations: {group} does not divide the {completions} completions of a rollout: "
                    f"{product}"
                ]
            )


def _rollout_noise(model: TrainingModel) -> RolloutNoise | None:
    if model.analog is None or model.analog.noise is None:
        return None
    return RolloutNoise(model.analog.noise, model.analog.layers)


def require_trl() -> None:
    """Check that TRL can be used.

    Raises:
        UsageError: it cannot; the message says why.
    """
    if sys.version_info < LOWEST_PYTHON:
        raise UsageError(
            "objective.kind: grpo needs TRL, which needs Python 3.11 or later; this is Python "
            f"{sys.version_info.major}.{sys.version_info.minor}. Everything else works here"
        )
    if find_spec("trl") is None:
        raise UsageError('objective.kind: grpo needs TRL: pip install "analog-lora-cli[rl]"')
