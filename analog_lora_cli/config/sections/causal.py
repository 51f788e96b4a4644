"""The `task` section of causal language models."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from analog_lora_cli.config.effects import Affects, Unit
from analog_lora_cli.config.registry import TASKS
from analog_lora_cli.config.sections.own_data import OwnDataSection


def _unique_names(names: list[str]) -> list[str]:
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(f"{twice[0]} stands there twice")
    return names


class CausalSection(OwnDataSection):
    """Base of the tasks of causal language models, whose head is part of the pretrained model."""

    pretrained_head: ClassVar[bool] = True

    max_length: Annotated[int, Affects("architecture", "read", "training"), Unit("tokens")] = Field(default=1024, ge=8)
    """Longest sequence."""

    validation_share: Annotated[float, Affects("training", "score"), Unit("share of the training samples")] = Field(
        default=0.05, gt=0, lt=1
    )
    """Share of the training data that is kept apart for validation where no validation data are given. The same
    samples for every `train.seed`."""

    benchmarks: Annotated[list[str], AfterValidator(_unique_names), Affects("score")] = Field(default=[])
    """Benchmarks to measure too, by lm-eval's names: arc_easy, piqa, gsm8k, ... Questions and scores are lm-eval's,
    `max_eval_samples` the first questions of each. Needs the extra `llm`."""

    benchmark_folder: Annotated[str | None, Affects("data")] = None
    """Folder with NAME.jsonl for each benchmark, in the columns of the hub's data set (NAME_SPLIT.jsonl for several
    splits, such as gsm8k_test.jsonl and gsm8k_train.jsonl); null: the hub."""


class InstructionSection(CausalSection):
    """Instructions and their answers; the loss is that of the answers."""

    has_prompts: ClassVar[bool] = True

    name: Annotated[Literal["instruction"], Affects("architecture", "score", "training")] = "instruction"
    """Instructions with answers: columns `instruction`, perhaps `input`, and `output`; or `prompt` and `completion`; or
    `messages` with `role` and `content`. Files are JSON, JSONL or CSV."""

    template: Annotated[Literal["auto", "chat", "plain"], Affects("architecture", "read", "training")] = "auto"
    """Form in which the model sees an instruction: `chat`, the tokenizer's chat template; `plain`, headed paragraphs;
    `auto`, the chat template where the tokenizer has one. Prompts of `prompt` and `completion` are taken as they are
    with `plain`."""

    too_long: Annotated[Literal["error", "drop", "truncate"], Affects("training", "score")] = "error"
    """What to do with a sample of more than `max_length` tokens: `error` stops; `drop` leaves it out; `truncate` cuts
    its answer, and leaves it out if the prompt alone is too long."""

    packing: Annotated[bool, Affects("training")] = False
    """Put several training samples into one sequence of `max_length` tokens, each blind to the others: less padding
    where lengths differ."""


class TextSection(CausalSection):
    """Running text, every token of which is to be foretold."""

    name: Annotated[Literal["text"], Affects("architecture", "score", "training")] = "text"
    """Next token of running text. Files are .txt, or JSON, JSONL or CSV with a column of texts."""

    text_column: Annotated[str, Affects("training", "score")] = "text"
    """Column of the texts."""


TASKS.register(["instruction"], InstructionSection)
TASKS.register(["text"], TextSection)
