"""Instructions with answers; the loss is that of the answers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from analog_lora_cli.config.sections.causal import InstructionSection
from analog_lora_cli.config.sections.task import TaskSection
from analog_lora_cli.errors import DataError, UsageError
from analog_lora_cli.tasks.base import Example
from analog_lora_cli.tasks.causal.example import Instruction
from analog_lora_cli.tasks.causal.samples import ANSWERS, FORMS, Form, Sample, form_of
from analog_lora_cli.tasks.causal.task import CausalTask
from analog_lora_cli.tasks.causal.tokens import Sequences, TokenSequence, packed
from analog_lora_cli.tasks.data.collator import IGNORED
from analog_lora_cli.tasks.data.features import mapped_features
from analog_lora_cli.tasks.data.source import DataSource

if TYPE_CHECKING:
    import datasets
    from transformers import PreTrainedTokenizerBase


class Instructions(CausalTask):
    """Instructions with answers."""

    section: ClassVar[type[TaskSection]] = InstructionSection
    config: InstructionSection

    @property
    def example(self) -> Example:
        return Instruction(("Name three primary colours.",), template=self.config.template)

    def sequences(self, role: str, tokenizer: PreTrainedTokenizerBase) -> Sequences:
        encoded = (self._fitting(sample, encode(sample, tokenizer, self.config)) for sample in self.samples(role))
        sequences = [sequence for sequence in encoded if sequence is not None]
        if not sequences:
            raise DataError(
                f"task.max_length: no {role} sample fits into {self.config.max_length} tokens; raise task.max_length"
            )
        return sequences

    def train_features(self, tokenizer: PreTrainedTokenizerBase) -> datasets.Dataset:
        if not self.config.packing:
            return super().train_features(tokenizer)
        sequences = self.sequences("train", tokenizer)
        chosen = (sequences[index] for index in self.training_subset(len(sequences)))
        return mapped_features(packed(chosen, self.config.max_length))

    def prompts(self, tokenizer: PreTrainedTokenizerBase, room: int) -> datasets.Dataset:
        import datasets

        samples = self.samples("train")
        rows = []
        for index in self.training_subset(len(samples)):
            sample = samples[index]
            text, tokens = encode_prompt(sample, tokenizer, self.config)
            if self.has_room(sample, tokens, room):
                rows.append({"prompt": text, "prompt_ids": tokens, "answer": sample.expected})
        if not rows:
            raise DataError(
                f"task.max_length: no prompt leaves room for {room} tokens within {self.config.max_length}; raise "
                "task.max_length"
            )
        return datasets.Dataset.from_list(rows)

    def has_room(self, sample: Sample, prompt: list[int], room: int) -> bool:
        """Whether a prompt leaves room for the model's own words within `max_length`, as `too_long` asks for.

        Raises:
            DataError: it does not, and is not to be dropped.
        """
        size, length = len(prompt), self.config.max_length
        if size + room <= length or self.config.too_long == "drop":
            return size + room <= length
        raise DataError(
            f"{sample.where}: a prompt of {size} tokens and an answer of up to {room} do not fit into task.max_length "
            f"({length}): raise it, or leave such samples out with task.too_long=drop"
        )

    def samples(self, role: str) -> list[Sample]:
        """The samples of `train` or `validation`.

        Raises:
            DataError, HubError, UsageError: as `train_features`.
        """
        samples = self._all_samples[self.source.file_role(role)]
        return [samples[index] for index in self.source.share_of(role, len(samples))]

    @property
    def forms(self) -> Sequence[Form]:
        """The forms that the rows of a file may have."""
        return FORMS

    @cached_property
    def _all_samples(self) -> _Samples:
        """Samples by role."""
        return _Samples(self.source, self.forms)

    def _fitting(self, sample: Sample, sequence: TokenSequence) -> TokenSequence | None:
        """A sequence of at most `max_length` tokens; None for a sample that is left out."""
        length, size = self.config.max_length, len(sequence.tokens)
        if size <= length:
            return sequence
        if self.config.too_long == "error":
            raise DataError(
                f"{sample.where}: its answer does not fit: {size} tokens, task.max_length allows {length}: raise it, "
                "or choose with task.too_long to drop such samples or to truncate their answers"
            )
        cut = TokenSequence(sequence.tokens[:length], sequence.labels[:length])
        return cut if self.config.too_long == "truncate" and cut.counted else None


class _Samples(dict[str, list[Sample]]):
    """Samples by role, each read when it is first asked for."""

    def __init__(self, source: DataSource, forms: Sequence[Form]) -> None:
        self._source, self._forms = source, forms

    def __missing__(self, role: str) -> list[Sample]:
        name = self._source.name(role)
        first = next(self._source.rows(role, ()))
        form = form_of(list(first.values), f"{name}, {first.where}", self._forms)
        self[role] = [form.sample(row, f"{name}, {row.where}") for row in self._source.rows(role, form.columns)]
        return self[role]


def encode(sample: Sample, tokenizer: PreTrainedTokenizerBase, config: InstructionSection) -> TokenSequence:
    """The tokens of a sample; those of its answers count.

    Raises:
        UsageError: a chat template is needed, and the tokenizer has none.
    """
    if uses_chat_template(sample, tokenizer, config):
        return _encoded_chat(sample, tokenizer)
    _, prompt = encode_prompt(sample, tokenizer, config)
    answer = tokenizer(sample.answer, add_special_tokens=False, verbose=False)["input_ids"]
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    return TokenSequence([*prompt, *answer, *end], [IGNORED] * len(prompt) + [*answer, *end])


def encode_prompt(
    sample: Sample, tokenizer: PreTrainedTokenizerBase, config: InstructionSection
) -> tuple[str, list[int]]:
    """A sample up to its last answer, as the model sees it: the text, and its tokens.

    Raises:
        UsageError: as for `encode`.
    """
    if uses_chat_template(sample, tokenizer, config):
        text = _chat_text(tokenizer, sample, len(sample.messages) - 1, prompt=True)
        return text, tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    assert sample.prompt is not None
    tokens = tokenizer(sample.prompt, verbose=False)["input_ids"]
    if tokens and tokens[-1] == tokenizer.eos_token_id:
        tokens = tokens[:-1]  # Some tokenizers end every text.
    return sample.prompt, tokens


def uses_chat_template(sample: Sample, tokenizer: PreTrainedTokenizerBase, config: InstructionSection) -> bool:
    """Whether the model sees a sample through the tokenizer's chat template.

    Raises:
        UsageError: it must, and the tokenizer has none.
    """
    has_template = tokenizer.chat_template is not None
    if config.template == "chat" and not has_template:
        raise UsageError("task.template: chat, but the model's tokenizer has no chat template; use plain")
    if sample.prompt is None:
        if config.template == "plain":
            raise UsageError(f"task.template: plain, but {sample.where} is a conversation ('messages'); use chat")
        if not has_template:
            raise UsageError(
                f"{sample.where}: 'messages' need a chat template, and the model's tokenizer has none; use a model "
                "that was tuned for conversations, or data with prompt and completion"
            )
        return True
    return config.template == "chat" or (config.template == "auto" and has_template)


def _encoded_chat(sample: Sample, tokenizer: PreTrainedTokenizerBase) -> TokenSequence:
    text = ""
    tokens: list[int] = []
    labels: list[int] = []
    for index, message in enumerate(sample.messages):
        if message["role"] != ANSWERS:
            continue
        before = _chat_text(tokenizer, sample, index, prompt=True)
        after = _chat_text(tokenizer, sample, index + 1, prompt=False)
        if not before.startswith(text) or not after.startswith(before):
            raise UsageError(
                f"{sample.where}: the tokenizer's chat template writes a conversation anew with each message, so that "
                "its answers have no place of their own; use single exchanges, or task.template=plain"
            )
        # Apart, because a prompt is tokenized without its answer when the model is used.
        prompt, answer = (
            tokenizer(part, add_special_tokens=False, verbose=False)["input_ids"]
            for part in (before[len(text) :], after[len(before) :])
        )
        tokens += [*prompt, *answer]
        labels += [*[IGNORED] * len(prompt), *answer]
        text = after
    return TokenSequence(tokens, labels)


def _chat_text(tokenizer: PreTrainedTokenizerBase, sample: Sample, count: int, prompt: bool) -> str:
    """The first `count` messages as text, with the beginning of an answer if a `prompt` is wanted."""
    text = tokenizer.apply_chat_template(sample.messages[:count], tokenize=False, add_generation_prompt=prompt)
    assert isinstance(text, str)
    return text
