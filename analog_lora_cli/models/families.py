"""Families of architectures: their heads, their padding."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from analog_lora_cli.config.schema import Config
from analog_lora_cli.models.modules import is_inside

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


DIGITAL_HEADS = {"trained": "task head, trained", "pretrained": "language model head, pretrained"}
"""Reasons why a head is digital, by its kind."""


class Family(ABC):
    """A kind of architecture, with all that depends on it.

    Tied weights stay digital in each, see `placement.decide`.
    """

    @abstractmethod
    def includes(self, config: PretrainedConfig) -> bool:
        """Whether a model with this configuration is of this family."""

    @abstractmethod
    def prepare_tokenizer(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Set how the tokenizer pads the short sequences of a batch."""

    def head_modules(self, model: PreTrainedModel) -> list[str]:
        """Names of the modules that are the task's head: all with parameters that stand beside the pretrained body."""
        body = model.base_model_prefix
        return [
            name for name, child in model.named_children() if name != body and any(True for _ in child.parameters())
        ]

    def digital_heads(self, config: Config, heads: list[str]) -> dict[str, str]:
        """Reasons why modules of the head never lie on tiles, by name: all of them, but for a head that stays as it was
        drawn, which goes onto tiles like any other layer.

        Args:
            config: configuration of the training, which says what kind of head it is.
            heads: names from `head_modules`.
        """
        return {} if config.head == "random" else dict.fromkeys(heads, DIGITAL_HEADS[config.head])

    def may_be_new(self, parameter: str, heads: list[str]) -> bool:
        """Whether a parameter may be missing from pretrained weights, so that it begins at random.

        Args:
            parameter: name of the parameter.
            heads: names of the modules of a head that the task brings; empty where it is pretrained.
        """
        return is_inside(parameter, heads)


class Encoder(Family):
    """BERT and its kin: a task head beside the pretrained body, new in each task."""

    def includes(self, config: PretrainedConfig) -> bool:
        """Whether the architecture can fill in masked tokens, or is not one that writes text either."""
        return not is_decoder(config)

    def prepare_tokenizer(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Pad on the right."""
        tokenizer.padding_side = "right"

    def may_be_new(self, parameter: str, heads: list[str]) -> bool:
        """Head and pooler: some pretrained models come without the latter."""
        return super().may_be_new(parameter, heads) or "pooler" in parameter


class Decoder(Family):
    """Llama, GPT-2 and their kin, which write text.

    The head of a language model is pretrained, often tied to the embedding, and never on tiles: trainers compute the
    loss from its weights themselves, so that it would be digital in the loss and analog in generation.
    """

    def includes(self, config: PretrainedConfig) -> bool:
        """Whether the architecture writes text and fills in no masked tokens."""
        return is_decoder(config)

    def prepare_tokenizer(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Pad on the left, so that generated text follows its prompt, with the end token where there is no padding
        token: the attention mask tells them apart."""
        tokenizer.padding_side = "left"
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token


FAMILIES: tuple[Family, ...] = (Encoder(), Decoder())
"""A new family is a new entry; the first that includes a configuration is taken."""


def family_of(config: PretrainedConfig) -> Family:
    """The family of a model; a model of none is treated as an encoder."""
    return next((family for family in FAMILIES if family.includes(config)), FAMILIES[0])


def is_decoder(config: PretrainedConfig) -> bool:
    """Whether an architecture writes text and fills in no masked tokens: GPT-2, Llama and the like."""
    return writes_text(config.model_type)


def writes_text(model_type: str) -> bool:
    """As `is_decoder`, of the `model_type` in config.json."""
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    )

    return model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and model_type not in MODEL_FOR_MASKED_LM_MAPPING_NAMES
