"""Sentences, word by word, as windows of tokens: which token stands for which word."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from analog_lora_cli.errors import DataError, UsageError
from analog_lora_cli.tasks.data.features import model_input_names
from analog_lora_cli.tasks.token_classification.data import Sentence

if TYPE_CHECKING:
    from transformers import BatchEncoding, PreTrainedTokenizerBase

CHUNK_SENTENCES = 500
Indices = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Window:
    """A part of a sentence, as the model sees it, with the words that count in it."""

    inputs: dict[str, list[int]]
    """Model inputs, unpadded, by name."""
    words: Indices
    """Ascending numbers of words of the sentence."""
    tokens: Indices
    """Position of the first token of each of them."""


class _Place(NamedTuple):
    """A token of a word in some window; the least of a word's places is the best."""

    start: int
    """Position of its first character in the sentence."""
    cost: int
    """Negative number of tokens up to the nearer edge at which the window cuts the sentence."""
    window: int
    token: int


class SentenceWindows:
    """Makes windows of sentences.

    The words are joined with spaces, as in running text. A sentence of more tokens than fit becomes overlapping
    windows; each word counts in one of them, where it stands farthest from the edges.

    Args:
        tokenizer: a fast tokenizer.
        max_length: longest window, in tokens.
        stride: overlap of two windows, in tokens.

    Raises:
        UsageError: the overlap leaves no room for new words.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_length: int, stride: int) -> None:
        room = max_length - tokenizer.num_special_tokens_to_add()
        if stride >= room:
            raise UsageError(
                f"task.doc_stride ({stride}) must be below the {room} tokens of a sentence that task.max_length "
                f"({max_length}) has room for; lower the one or raise the other"
            )
        self._tokenizer = tokenizer
        self._names = model_input_names(tokenizer)
        self._max_length, self._stride = max_length, stride

    def of(self, sentences: Iterable[Sentence]) -> Iterator[list[Window]]:
        """The windows of each sentence, in order.

        Raises:
            DataError: a word that the tokenizer drops, and knows no unknown word in its place.
        """
        iterator = iter(sentences)
        while chunk := list(islice(iterator, CHUNK_SENTENCES)):
            encoded = self._encode([sentence.words for sentence in chunk])
            windows: list[list[int]] = [[] for _ in chunk]
            for window, number in enumerate(encoded["overflow_to_sample_mapping"]):
                windows[number].append(window)
            for sentence, own in zip(chunk, windows, strict=True):
                yield self._windows(sentence, encoded, own)

    def _encode(self, texts: Sequence[Sequence[str]]) -> BatchEncoding:
        return self._tokenizer(
            [" ".join(words) for words in texts],
            truncation=True,
            max_length=self._max_length,
            stride=self._stride,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            return_attention_mask=True,
            padding=False,
        )

    def _windows(self, sentence: Sentence, encoded: BatchEncoding, own: Sequence[int]) -> list[Window]:
        places = _places(sentence.words, encoded, own)
        dropped = [word for word in range(len(sentence.words)) if word not in places]
        if dropped:
            # Say, an invisible character. Its tag is foretold all the same, from what stands around it.
            words = self._with_unknown(sentence, dropped)
            encoded = self._encode([words])
            own = range(len(encoded["input_ids"]))
            places = _places(words, encoded, own)
        tokens: dict[int, list[tuple[int, int]]] = {window: [] for window in own}
        for word in range(len(sentence.words)):
            tokens[places[word].window].append((word, places[word].token))
        return [
            Window({name: encoded[name][window] for name in self._names}, *np.array(pairs, dtype=np.int32).T)
            for window, pairs in tokens.items()
            if pairs
        ]

    def _with_unknown(self, sentence: Sentence, dropped: Sequence[int]) -> list[str]:
        """The words, the dropped ones replaced by the tokenizer's unknown word."""
        unknown = self._tokenizer.unk_token
        if unknown is None:
            raise DataError(
                f"{sentence.where}: word {dropped[0] + 1}, {sentence.words[dropped[0]]!r}, has no token in the model's "
                "vocabulary; leave it out"
            )
        replaced = set(dropped)
        return [unknown if word in replaced else text for word, text in enumerate(sentence.words)]


def _places(words: Sequence[str], encoded: BatchEncoding, windows: Sequence[int]) -> dict[int, _Place]:
    """The best place of each word, by its number; none for a word without tokens.

    Args:
        words: the words of a sentence.
        encoded: result of the tokenizer.
        windows: numbers of the windows of this sentence in it.
    """
    text = " ".join(words)
    starts = list(accumulate((len(word) + 1 for word in words[:-1]), initial=0))
    best: dict[int, _Place] = {}
    for window in windows:
        offsets = encoded["offset_mapping"][window]
        parts = [token for token, sequence in enumerate(encoded.sequence_ids(window)) if sequence is not None]
        # Asked of the text, not of the window's number: some tokenizers count windows from the end.
        cut_before = bool(parts and text[: offsets[parts[0]][0]].strip())
        cut_after = bool(parts and text[offsets[parts[-1]][1] :].strip())
        for token in parts:
            begin, end = offsets[token]
            # Some tokenizers let a token begin with the space before its word, or make one of that space alone.
            letters = text[begin:end].lstrip()
            if letters:
                left = token - parts[0] if cut_before else len(offsets)
                right = parts[-1] - token if cut_after else len(offsets)
                place = _Place(end - len(letters), -min(left, right), window, token)
                word = bisect_right(starts, place.start) - 1
                best[word] = min(best.get(word, place), place)
    return best
