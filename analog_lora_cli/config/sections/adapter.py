"""The `adapter` section: one class for each variant, with what all have in common."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator

from analog_lora_cli.config.effects import Affects
from analog_lora_cli.config.registry import ADAPTERS, REWRITES_BASE
from analog_lora_cli.config.section import Section

Init = Literal["default", "gaussian", "error-aware"]


def _leaves_base_alone(value: object) -> object:
    if isinstance(value, str) and value.lower() in REWRITES_BASE:
        raise ValueError(REWRITES_BASE[value.lower()])
    return value


def _no_dropout(value: float) -> float:
    if value:
        raise ValueError(
            "must be 0 with variant dora: with dropout PEFT computes the base layer again digitally, without the "
            "tile's noise"
        )
    return value


class AdapterSection(Section):
    """The digital adapter that PEFT puts beside the analog layers. Not used by `method: full`."""

    variant: Annotated[str, Affects("architecture", "training")]
    """Kind of adapter."""

    rank: Annotated[int, Affects("architecture", "training")] = Field(default=8, ge=1)
    """Rank of the update. For `adalora` the average rank at the end."""

    dropout: Annotated[float, Affects("training")] = Field(default=0.1, ge=0, lt=1)
    """Dropout on the adapter's input while training, as a probability."""

    targets: Annotated[Annotated[list[str], Field(min_length=1)] | None, Affects("architecture", "training")] = None
    """Names of the linear layers that get an adapter: `query`, `attention.self.query` or a full name; each matches as
    a dotted suffix, and must match something. The head is left out while `train_head` is true. Null: every linear
    layer, also one that `hardware.layers` leaves digital."""

    train_head: Annotated[bool | None, Affects("mapping", "architecture", "training")] = None
    """True, and null where a task brings a new head: the head is digital, trained and saved with the adapter. False, as
    in the paper's repository: it is random and frozen, on tiles like every other linear layer, and gets an adapter if
    it is a target. Null is the only choice for a language model: its head is pretrained, digital and frozen."""

    adds_to_loss: ClassVar[bool] = False
    """Whether it needs a term in the model's own loss."""

    computes_with_weights: ClassVar[bool] = False
    """Whether the adapter needs the base's weights, not only their product."""

    @property
    def begins_with_correction(self) -> bool:
        """Whether its first value is a correction of the tiles' deterministic errors, not zero."""
        return False


class LowRankSection(AdapterSection):
    """Base of the adapters that add a product BA to the weights."""

    refuses_correction: ClassVar[str] = ""
    """Why it cannot begin with a correction, completes "variant ... "; empty where it can."""

    alpha: Annotated[float, Affects("training")] = Field(default=32.0, gt=0)
    """Scale of the update: the product BA is multiplied by alpha/rank (`rslora`: alpha/sqrt(rank))."""

    init: Annotated[Init, BeforeValidator(_leaves_base_alone), Affects("training")] = "default"
    """Initialisation: `default` (A Kaiming uniform), or `gaussian`, in both with B zero; or `error-aware`: the product
    BA begins as the best correction of its rank of what clipping and converters change, measured on inputs of training
    data, and is plain LoRA from there on. On the quickstart it trains worse than `default`, in each of three seeds: it
    is there for comparisons."""

    @field_validator("init")
    @classmethod
    def _can_correct(cls, value: Init) -> Init:
        if value == "error-aware" and cls.refuses_correction:
            name = cls.model_fields["variant"].default
            raise ValueError(
                f"error-aware is not possible with variant {name}, which {cls.refuses_correction}; use variant lora, "
                "rslora or lora+, or init default"
            )
        return value

    @property
    def begins_with_correction(self) -> bool:
        return self.init == "error-aware"


class LoraSection(LowRankSection):
    """LoRA: the update is a product of two narrow matrices, BA."""

    variant: Annotated[Literal["lora"], Affects("architecture", "training")] = "lora"
    """Plain LoRA."""


class RsLoraSection(LowRankSection):
    """LoRA scaled by 1/sqrt(rank)."""

    variant: Annotated[Literal["rslora"], Affects("architecture", "training")] = "rslora"
    """LoRA scaled by 1/sqrt(rank)."""


class DoraSection(LowRankSection):
    """DoRA: magnitude and direction of the weights are adapted apart."""

    computes_with_weights = True
    refuses_correction = "scales each output of the layer anew, so that what is added is scaled too"

    variant: Annotated[Literal["dora"], Affects("architecture", "training")] = "dora"
    """Magnitude and direction."""

    dropout: Annotated[float, AfterValidator(_no_dropout), Affects("training")] = Field(default=0.0, ge=0, lt=1)
    """Must be 0: with dropout PEFT computes the base layer again digitally, without the tile's noise."""


class AdaLoraSection(LowRankSection):
    """AdaLoRA: the rank is spread over the layers while training."""

    adds_to_loss = True
    refuses_correction = "begins with more directions than it keeps, and spreads them while training"

    variant: Annotated[Literal["adalora"], Affects("architecture", "training")] = "adalora"
    """Rank spread over the layers while training."""

    adalora_init_rank: Annotated[int | None, Affects("architecture", "training")] = Field(default=None, ge=1)
    """Rank at the start; null: 1.5 times `rank`, rounded up."""

    @property
    def start_rank(self) -> int:
        """Rank of each layer at the start of the training."""
        return self.adalora_init_rank or -(-3 * self.rank // 2)


class VeraSection(AdapterSection):
    """VeRA: frozen random projections that all layers share, and trained vectors."""

    variant: Annotated[Literal["vera"], Affects("architecture", "training")] = "vera"
    """Frozen shared projections, trained vectors."""


class LoraPlusSection(LowRankSection):
    """LoRA+: a larger learning rate for B than for A."""

    variant: Annotated[Literal["lora+"], Affects("architecture", "training")] = "lora+"
    """A larger learning rate for B."""

    lora_plus_ratio: Annotated[float, Affects("training")] = Field(default=16.0, ge=1)
    """Learning rate of B over that of A."""


for _section in (LoraSection, RsLoraSection, DoraSection, AdaLoraSection, VeraSection, LoraPlusSection):
    ADAPTERS.register([_section.model_fields["variant"].default], _section)
