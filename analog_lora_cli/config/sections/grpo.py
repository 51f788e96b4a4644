"""The `objective` section of reinforcement learning with group-relative rewards (GRPO)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from analog_lora_cli.config.effects import Affects, Unit
from analog_lora_cli.config.registry import OBJECTIVES
from analog_lora_cli.config.rewards import REWARDS, RewardFile, Rewards, check_reward
from analog_lora_cli.config.sections.objective import ObjectiveSection

if TYPE_CHECKING:
    from analog_lora_cli.config.schema import Config

LossType = Literal["dapo", "grpo", "bnpo", "dr_grpo"]


def _no_vllm(value: bool) -> bool:
    if value:
        raise ValueError(
            "must be false: vLLM computes with a copy of the weights into which the adapter is merged, without tiles "
            "or noise, so the completions would come from another model than the one that is trained"
        )
    return value


class GrpoSection(ObjectiveSection):
    """Rewards for completions that the model writes itself, compared within groups of one prompt (GRPO, with TRL).
    Names, meanings and defaults are those of `trl.GRPOConfig`. All completions of a rollout, their scores and their
    losses see one draw of the weight noise; the next rollout sees a new one."""

    kind: Annotated[Literal["grpo"], Affects("training")] = "grpo"
    """Group-relative policy optimization."""

    rewards: Annotated[
        list[Annotated[str, AfterValidator(check_reward)]],
        Field(min_length=1),
        Rewards(REWARDS),
        Affects("training"),
    ]
    """Rewards that are added up, by name, or `FILE.py:FUNCTION` for a function of your own. It is called with those of
    the lists `prompts`, `completions` and `answer` (texts) and `completion_ids` that it has parameters for, and gives
    one number for each completion, or None where it does not apply."""

    reward_weights: Annotated[list[float] | None, Affects("training")] = None
    """Factor of each reward; null: 1."""

    scale_rewards: Annotated[Literal["group", "batch", "none"], Affects("training")] = "group"
    """Standard deviation that the rewards are divided by: that of each prompt's completions, of all completions of a
    rollout, or none."""

    num_generations: Annotated[int, Affects("training"), Unit("completions")] = Field(default=8, ge=2)
    """Completions of each prompt: the group whose rewards are compared. The completions of a rollout must be a multiple
    of it: `train.per_device_train_batch_size` times processes times `steps_per_generation`."""

    max_completion_length: Annotated[int, Affects("training"), Unit("tokens")] = Field(default=512, ge=1)
    """Longest completion; with the longest prompt no more than `task.max_length`."""

    mask_truncated_completions: Annotated[bool, Affects("training")] = False
    """Leave completions that were cut at `max_completion_length` out of the loss."""

    temperature: Annotated[float, Affects("training")] = Field(default=1.0, gt=0)
    """Temperature of the sampling, and of the probabilities in the loss."""

    top_p: Annotated[float, Affects("training")] = Field(default=1.0, gt=0, le=1)
    """Sample from the most probable tokens that together have this probability."""

    top_k: Annotated[int, Affects("training"), Unit("tokens")] = Field(default=0, ge=0)
    """Sample from this many of the most probable tokens; 0: from all."""

    min_p: Annotated[float | None, Affects("training")] = Field(default=None, ge=0, le=1)
    """Sample from the tokens with at least this share of the largest probability; null: from all."""

    repetition_penalty: Annotated[float, Affects("training")] = Field(default=1.0, gt=0)
    """Divisor of the logits of tokens that occurred before; 1: none."""

    steps_per_generation: Annotated[int | None, Affects("training"), Unit("batches")] = Field(default=None, ge=1)
    """Batches that a rollout is divided into; null: `train.gradient_accumulation_steps`, one optimizer step."""

    num_iterations: Annotated[int, Affects("training")] = Field(default=1, ge=1)
    """How often each completion is trained on."""

    beta: Annotated[float, Affects("training")] = Field(default=0.0, ge=0)
    """Weight of the divergence (KL) from the model at the beginning of the training, on the same tiles under the same
    noise; 0: not computed."""

    loss_type: Annotated[LossType, Affects("training")] = "dapo"
    """Form of the loss, by TRL's names."""

    epsilon: Annotated[float, Affects("training")] = Field(default=0.2, ge=0)
    """Change of a probability down to which, as a ratio, it is rewarded."""

    epsilon_high: Annotated[float | None, Affects("training")] = Field(default=None, ge=0)
    """The same upwards; null: `epsilon`."""

    delta: Annotated[float | None, Affects("training")] = Field(default=None, gt=0)
    """Largest ratio of probabilities for completions with a negative advantage; null: none."""

    importance_sampling_level: Annotated[Literal["token", "sequence"], Affects("training")] = "token"
    """Ratios of probabilities for each token or for a whole completion."""

    use_vllm: Annotated[bool, AfterValidator(_no_vllm), Affects("training")] = False
    """Must be false: vLLM would write the completions with another model, without tiles and noise."""

    @model_validator(mode="after")
    def _weights_fit(self) -> GrpoSection:
        if self.reward_weights is not None and len(self.reward_weights) != len(self.rewards):
            raise ValueError(
                f"reward_weights: {len(self.reward_weights)} weights for {len(self.rewards)} rewards; give one each"
            )
        return self

    @property
    def own_code(self) -> list[str]:
        """See `ObjectiveSection`."""
        return [name for name in self.rewards if RewardFile.parse(name) is not None]

    def conflict(self, config: Config) -> str | None:
        """See `ObjectiveSection`."""
        return next(self._conflicts(config), None)

    def _conflicts(self, config: Config) -> Iterator[str]:
        task, adapter, train = config.task, config.adapter, config.train
        if not task.has_prompts:
            yield f"objective.kind: grpo has the model answer prompts, and task {task.name} has none; use reasoning"
        if getattr(task, "packing", False):
            yield "task.packing: true has no effect with objective grpo, which has no answers to pack; leave it out"
        if task.longest is not None and self.max_completion_length >= task.longest:
            yield (
                f"objective.max_completion_length: {self.max_completion_length} leaves no room for a prompt within "
                f"task.max_length ({task.longest}): use less, or a larger task.max_length"
            )
        if config.has_adapter and adapter.dropout:
            yield (
                f"adapter.dropout: {adapter.dropout} with objective grpo: a completion would be written under one mask "
                "and trained on under another, which its loss cannot see; use 0"
            )
        if config.has_adapter and adapter.adds_to_loss:
            yield (
                f"adapter.variant: {adapter.variant} needs a term in the model's own loss, which objective grpo does "
                "not compute; use lora, rslora, dora, vera or lora+"
            )
        if self.beta and not config.has_adapter:
            yield (
                "objective.beta: needs the model as it was at the beginning, and method full keeps no copy of it; use "
                "0, or method lora"
            )
        if self.beta and config.has_adapter and adapter.variant == "vera":
            yield (
                "objective.beta: needs the adapter as it was at the beginning, of which TRL makes no copy with variant "
                "vera; use 0, or another variant"
            )
        if train.train_sampling_strategy == "group_by_length":
            yield (
                "train.train_sampling_strategy: group_by_length is for samples of known length, objective grpo draws "
                "prompts; use random or sequential"
            )
        if train.label_smoothing:
            yield "train.label_smoothing_factor: objective grpo has no labels; leave the key out"
        batches = (self.steps_per_generation or train.gradient_accumulation_steps) * self.num_iterations
        kind = config.hardware.weight_noise_type
        if kind != "gaussian" and batches > train.gradient_accumulation_steps:
            yield (
                f"hardware.weight_noise_type: {kind} takes devices of another age for each optimizer step, and with "
                "objective grpo a rollout must be trained on with the devices that wrote it: it takes "
                f"{batches} batches here and a step {train.gradient_accumulation_steps}; leave "
                "objective.num_iterations and steps_per_generation out, or use gaussian"
            )


OBJECTIVES.register(["grpo"], GrpoSection)
