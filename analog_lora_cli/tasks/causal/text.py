"""Running text, cut into sequences of equal length."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from analog_lora_cli.config.sections.causal import TextSection
from analog_lora_cli.errors import DataError, UsageError
from analog_lora_cli.tasks.causal.task import CausalTask
from analog_lora_cli.tasks.causal.tokens import Sequences, TokenSequence
from analog_lora_cli.tasks.data.collator import IGNORED
from analog_lora_cli.tasks.data.files import locate, read_text, text_value

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class NextToken(CausalTask):
    """Next token of running text: each token is foretold from those before it in its sequence.

    The texts are joined, with the tokenizer's end token after each, and cut into sequences of `max_length` tokens. The
    first token of a sequence does not count.
    """

    section = TextSection
    config: TextSection

    def sequences(self, role: str, tokenizer: PreTrainedTokenizerBase) -> Sequences:
        texts = self._texts(role)
        if tokenizer.eos_token_id is None:
            raise UsageError("model.name: the tokenizer has no end token, which stands between two texts")
        ids = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        tokens = list(chain.from_iterable([*text, tokenizer.eos_token_id] for text in ids))
        length = self.config.max_length
        pieces = [tokens[start : start + length] for start in range(0, len(tokens), length)]
        found = [TokenSequence(piece, [IGNORED, *piece[1:]]) for piece in pieces if len(piece) > 1]
        if not found:
            raise DataError(f"{self.source.name(role)}: holds no text of two tokens or more")
        return [found[index] for index in self.source.share_of(role, len(found))]

    def _texts(self, role: str) -> list[str]:
        file, _ = self.source.place(role)
        if file is not None and file.lower().endswith(".txt"):
            return [read_text(locate(file, f"task.{role}_file"))]
        name, column = self.source.name(role), self.config.text_column
        return [
            text_value(row.values[column], f"{name}, {row.where}: {column}") for row in self.source.rows(role, [column])
        ]
