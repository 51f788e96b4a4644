"""The `train` section."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from analog_lora_cli.config.effects import Affects, Unit
from analog_lora_cli.config.section import Section


class TrainConfig(Section):
    """Names and meanings of `transformers.TrainingArguments`; only those with a default of our own are listed."""

    model_config = ConfigDict(extra="allow")

    num_train_epochs: Annotated[float, Affects("training"), Unit("epochs")] = Field(default=3.0, gt=0)
    """Passes over the training data."""

    max_steps: Annotated[int, Affects("training"), Unit("steps")] = -1
    """Optimizer steps; -1: as `num_train_epochs` says."""

    learning_rate: Annotated[float, Affects("training")] = Field(default=2e-4, gt=0)
    """Peak learning rate."""

    per_device_train_batch_size: Annotated[int, Affects("training")] = Field(default=32, ge=1)
    """Samples of one forward pass on one device."""

    per_device_eval_batch_size: Annotated[int, Affects("score")] = Field(default=128, ge=1)
    """Samples of one evaluation batch at most, in the final metrics and in the drift evaluation; on a CPU no more
    than fit into 4096 tokens, which is faster."""

    gradient_accumulation_steps: Annotated[int, Affects("training")] = Field(default=1, ge=1)
    """Forward passes for each optimizer step."""

    lr_scheduler_type: Annotated[str, Affects("training")] = "linear"
    """Course of the learning rate after warm-up."""

    warmup_steps: Annotated[float, Affects("training"), Unit("steps")] = Field(default=0.0, ge=0)
    """Steps of linear warm-up; a number below 1 is a share of all steps."""

    weight_decay: Annotated[float, Affects("training")] = Field(default=0.0, ge=0)
    """AdamW's decay; applied to all trained parameters but biases and normalisation."""

    optim: Annotated[str, Affects("training")] = "adamw_torch"
    """Optimizer, by TrainingArguments' names."""

    seed: Annotated[int, Affects("architecture", "training")] = Field(default=42, ge=0)
    """Seed of everything random: sampling, head and adapter initialisation, dropout, training noise."""

    train_sampling_strategy: Annotated[Literal["random", "sequential", "group_by_length"], Affects("training")] = (
        "group_by_length"
    )
    """`group_by_length` puts samples of like length into one batch: less padding, same data."""

    logging_steps: Annotated[float, Affects("training"), Unit("steps")] = Field(default=10, gt=0)
    """Steps between two lines of the log."""

    save_steps: Annotated[float, Affects("training"), Unit("steps")] = Field(default=200, gt=0)
    """Steps between two states that `--resume` can continue from; a number below 1 is a share of all steps."""

    save_total_limit: Annotated[int, Affects("training")] = Field(default=2, ge=2)
    """Number of those states that are kept; at least 2, so that one is complete at any moment."""

    report_to: Annotated[list[str], Affects("training")] = Field(default_factory=list)
    """`tensorboard` and `wandb`, if installed: the steps of the training, and the drift table and plot after it;
    nothing by default."""

    @property
    def counts_tokens_of_all(self) -> bool:
        """TrainingArguments' `average_tokens_across_devices`, true by default."""
        return bool((self.model_extra or {}).get("average_tokens_across_devices", True))

    @property
    def label_smoothing(self) -> float:
        """TrainingArguments' `label_smoothing_factor`, which has no default of our own; 0: none."""
        return float((self.model_extra or {}).get("label_smoothing_factor") or 0.0)
