"""A complete configuration: all sections together.

Unknown keys are errors. Neither this module nor the sections import torch or transformers, so that configurations can
be listed and checked at once.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny, model_validator

from analog_lora_cli.config.effects import Affects
from analog_lora_cli.config.registry import ADAPTERS, OBJECTIVES, TASKS, SectionRegistry
from analog_lora_cli.config.section import Section
from analog_lora_cli.config.sections import causal as _causal  # noqa: F401  (registers its tasks)
from analog_lora_cli.config.sections import classification as _classification  # noqa: F401  (registers its tasks)
from analog_lora_cli.config.sections import distillation as _distillation  # noqa: F401  (registers its objective)
from analog_lora_cli.config.sections import grpo as _grpo  # noqa: F401  (registers its objective)
from analog_lora_cli.config.sections import image_classification as _images  # noqa: F401  (registers its task)
from analog_lora_cli.config.sections import multiple_choice as _multiple_choice  # noqa: F401  (registers its task)
from analog_lora_cli.config.sections import reasoning as _reasoning  # noqa: F401  (registers its task)
from analog_lora_cli.config.sections import token_classification as _token_classification  # noqa: F401  (registers its task)
from analog_lora_cli.config.sections.adapter import AdapterSection, LoraSection
from analog_lora_cli.config.sections.drift import DriftConfig
from analog_lora_cli.config.sections.energy import EnergyConfig
from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.config.sections.latency import LatencyConfig
from analog_lora_cli.config.sections.model import ModelConfig
from analog_lora_cli.config.sections.objective import ObjectiveSection, SupervisedSection
from analog_lora_cli.config.sections.reference import ReferenceConfig
from analog_lora_cli.config.sections.task import SquadSection, TaskSection
from analog_lora_cli.config.sections.train import TrainConfig

Method = Literal["lora", "full", "digital"]
HeadKind = Literal["trained", "random", "pretrained"]

UNIONS: dict[str, SectionRegistry] = {registry.section: registry for registry in (TASKS, ADAPTERS, OBJECTIVES)}
"""The sections that have several kinds."""


class Config(Section):
    """A complete configuration, as it stands in a preset, in `--config` and in a checkpoint."""

    description: Annotated[str, Affects()] = ""
    """One line for `analora presets`."""

    model: ModelConfig = Field(default_factory=ModelConfig)
    task: Annotated[SerializeAsAny[TaskSection], BeforeValidator(TASKS.validate)] = Field(default_factory=SquadSection)
    method: Annotated[Method, Affects("mapping", "programming", "architecture", "training")] = "lora"
    """`lora`: base frozen on tiles, digital adapters trained under noise; `full`: all mapped weights trained under
    noise (hardware-aware training); `digital`: the same LoRA with no analog simulation."""
    adapter: Annotated[SerializeAsAny[AdapterSection], BeforeValidator(ADAPTERS.validate)] = Field(
        default_factory=LoraSection
    )
    objective: Annotated[SerializeAsAny[ObjectiveSection], BeforeValidator(OBJECTIVES.validate)] = Field(
        default_factory=SupervisedSection
    )
    hardware: HardwareConfig = Field(default_factory=HardwareConfig)
    train: TrainConfig = Field(default_factory=TrainConfig)
    drift: DriftConfig = Field(default_factory=DriftConfig)
    latency: LatencyConfig = Field(default_factory=LatencyConfig)
    energy: EnergyConfig = Field(default_factory=EnergyConfig)
    reference: ReferenceConfig | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        if self.hardware.input_range == "learned" and not self.on_tiles:
            raise ValueError(
                "hardware.input_range: learned is trained on tiles, and method digital has none there: use static"
            )
        return self

    @model_validator(mode="after")
    def _fits_rotation(self) -> Config:
        if self.hardware.input_rotation == "none":
            return self
        if self.trains_base:
            raise ValueError(
                "hardware.input_rotation with method full: the trained weights would be rotated ones, which no plain "
                "model takes; use none, or method lora"
            )
        if self.has_adapter and self.adapter.computes_with_weights:
            raise ValueError(
                f"hardware.input_rotation with adapter.variant {self.adapter.variant}, which computes with the weights "
                "themselves: use none, or a variant that only adds, such as lora"
            )
        return self

    @model_validator(mode="after")
    def _fits_start(self) -> Config:
        if self.adapter.begins_with_correction and not (self.on_tiles and self.has_adapter):
            why = "has no adapter" if self.on_tiles else "trains without tiles, so that there is nothing to correct"
            raise ValueError(f"adapter.init: error-aware with method {self.method}, which {why}: use method lora")
        return self

    @model_validator(mode="after")
    def _fits_task_and_objective(self) -> Config:
        conflict = self.task.conflict(self) or self.objective.conflict(self)
        if conflict is not None:
            raise ValueError(conflict)
        return self

    @model_validator(mode="after")
    def _fits_loss(self) -> Config:
        other = "train.label_smoothing_factor" if self.train.label_smoothing else self.task.own_loss
        if self.has_adapter and self.adapter.adds_to_loss and other is not None:
            raise ValueError(
                f"adapter.variant: {self.adapter.variant} needs a term in the model's own loss, which {other} "
                "replaces; use lora, rslora, dora, vera or lora+"
            )
        return self

    @model_validator(mode="after")
    def _fits_half_precision(self) -> Config:
        if self.model.dtype == "float32":
            return self
        if self.trains_base:
            raise ValueError(
                f"model.dtype: {self.model.dtype} with method full: its weights are too coarse for the steps of an "
                "optimizer; use model.dtype=float32, with train.bf16=true to compute in half precision"
            )
        if self.hardware.simulator == "aihwkit":
            raise ValueError(
                f"model.dtype: {self.model.dtype} with hardware.simulator aihwkit: its tiles compute in float32 only; "
                "use model.dtype=float32, or hardware.simulator=fast"
            )
        return self

    @model_validator(mode="after")
    def _fits_head(self) -> Config:
        if self.task.pretrained_head and self.adapter.train_head is not None:
            raise ValueError(
                f"adapter.train_head: the head of a language model (task {self.task.name}) is pretrained, digital and "
                "frozen: leave the key out, or set it to null"
            )
        return self

    @property
    def head(self) -> HeadKind:
        """The kind of head: `trained`, digital and stored with the adapter; `random`, frozen and on tiles like other
        layers; `pretrained`, digital and frozen."""
        if self.task.pretrained_head:
            return "pretrained"
        return "random" if self.adapter.train_head is False and self.has_adapter else "trained"

    @property
    def trains_base(self) -> bool:
        """Whether the weights on tiles are trained themselves: `method: full`."""
        return self.method == "full"

    @property
    def has_adapter(self) -> bool:
        """Whether a digital adapter stands beside the base: all methods but `full`."""
        return self.method != "full"

    @property
    def on_tiles(self) -> bool:
        """Whether the base lies on tiles in training: all methods but `digital`."""
        return self.method != "digital"
