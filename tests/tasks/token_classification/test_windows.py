"""Windows of sentences: which token stands for which word."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analog_lora_cli.errors import DataError, UsageError
from analog_lora_cli.tasks.token_classification.data import Sentence
from analog_lora_cli.tasks.token_classification.windows import SentenceWindows, Window


def windows(tokenizer: Any, words: list[str], max_length: int = 32, stride: int = 4) -> list[Window]:
    (found,) = SentenceWindows(tokenizer, max_length, stride).of([Sentence("a.json, row 1", words)])
    return found


def test_the_first_token_of_a_word_stands_for_it(letter_tokenizer: Any) -> None:
    (window,) = windows(letter_tokenizer, ["ab", "c,d", "e"])
    assert letter_tokenizer.convert_ids_to_tokens(window.inputs["input_ids"]) == (
        ["[CLS]", "a", "##b", "c", "[UNK]", "d", "e", "[SEP]"]
    )
    assert window.words.tolist() == [0, 1, 2] and window.tokens.tolist() == [1, 3, 6]


def test_a_word_counts_where_it_stands_farthest_from_the_edges(letter_tokenizer: Any) -> None:
    first, second = windows(letter_tokenizer, list("abcdefgh"), max_length=8, stride=4)
    # a b c d e f, and c d e f g h: of c to f, whose windows both hold, two stand better in each.
    assert first.words.tolist() == [0, 1, 2, 3] and first.tokens.tolist() == [1, 2, 3, 4]
    assert second.words.tolist() == [4, 5, 6, 7] and second.tokens.tolist() == [3, 4, 5, 6]


def test_windows_may_be_counted_from_the_end(letter_tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(letter_tokenizer, "truncation_side", "left")
    first, second = windows(letter_tokenizer, list("abcdefgh"), max_length=8, stride=4)
    assert first.words.tolist() == [4, 5, 6, 7] and second.words.tolist() == [0, 1, 2, 3]


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    words=st.lists(st.text("abc,\u200b é"), min_size=1, max_size=12),
    max_length=st.integers(5, 12),
    stride=st.integers(0, 2),
)
def test_every_word_counts_once(letter_tokenizer: Any, words: list[str], max_length: int, stride: int) -> None:
    found = windows(letter_tokenizer, words, max_length, stride)
    assert sorted(word for window in found for word in window.words.tolist()) == list(range(len(words)))
    for window in found:
        tokens = letter_tokenizer.convert_ids_to_tokens(window.inputs["input_ids"])
        assert len(tokens) <= max_length
        for word, token in zip(window.words.tolist(), window.tokens.tolist(), strict=True):
            letter = words[word].replace("\u200b", "").replace("é", "e").strip()[:1]
            assert tokens[token] == (letter if letter and letter in "abce" else "[UNK]")


def test_a_token_may_begin_with_the_space_before_its_word() -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<unk>": 0, **{letter: 1 + number for number, letter in enumerate(alphabet)}, "Ġa": 300}
    backend = Tokenizer(models.BPE(vocabulary, [("Ġ", "a")], unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    for trim in (True, False):
        backend.post_processor = processors.ByteLevel(trim_offsets=trim)
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")
        (window,) = windows(tokenizer, ["b", "a", "ca"])
        assert tokenizer.convert_ids_to_tokens(window.inputs["input_ids"]) == ["b", "Ġa", "Ġ", "c", "a"]
        # The space alone stands for no word.
        assert window.tokens.tolist() == [0, 1, 3]


def test_a_dropped_word_without_an_unknown_token() -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
    with pytest.raises(DataError, match="a.json, row 1: word 2, ' ', has no token in the model's vocabulary"):
        windows(tokenizer, ["a", " "])


def test_an_overlap_without_room(letter_tokenizer: Any) -> None:
    with pytest.raises(UsageError, match=r"task.doc_stride \(6\) must be below the 6 tokens"):
        windows(letter_tokenizer, ["a"], max_length=8, stride=6)
