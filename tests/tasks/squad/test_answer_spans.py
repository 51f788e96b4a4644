from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analog_lora_cli.tasks.squad import answer_spans
from analog_lora_cli.tasks.squad.answer_spans import SpanDecoder, SpanRules, WindowMap, best_spans

LETTERS = "abcdefghijklmnop"


def window(question: int, begin: int, end: int) -> WindowMap:
    """[CLS] ? [SEP] and the letters begin..end of the context, one token each, then [SEP]."""
    places = [0, 0, 0, *range(begin, end), 0]
    inside = np.array([False] * 3 + [True] * (end - begin) + [False])
    starts = np.array(places, np.int32)
    return WindowMap(question, starts, starts + 1, inside, 0)


def logits(length: int, start: dict[int, float], end: dict[int, float]) -> Any:
    output = np.zeros((2, length), np.float32)
    for row, values in enumerate((start, end)):
        for token, value in values.items():
            output[row, token] = value
    return output


def rules(n_best: int = 20, max_answer_length: int = 30, null_threshold: float | None = None) -> SpanRules:
    return SpanRules(n_best, max_answer_length, null_threshold)


def answers(windows: Sequence[WindowMap], outputs: Sequence[Any], chosen: SpanRules) -> list[str]:
    return SpanDecoder([LETTERS] * (windows[-1].question + 1), windows, chosen).answers(outputs)


def test_the_best_span_is_cut_from_the_context() -> None:
    assert answers([window(0, 0, 8)], [logits(12, {5: 3}, {7: 3})], rules()) == ["cde"]


def test_question_and_special_tokens_are_no_answers() -> None:
    output = logits(12, {0: 9, 1: 9, 11: 9, 4: 1}, {0: 9, 2: 9, 11: 9, 4: 1})
    assert answers([window(0, 0, 8)], [output], rules()) == ["b"]


def test_the_best_window_wins() -> None:
    windows = [window(0, 0, 8), window(0, 4, 12), window(1, 0, 8)]
    outputs = [logits(12, {3: 2}, {3: 2}), logits(12, {10: 3}, {10: 3}), logits(12, {4: 1}, {4: 1})]
    assert answers(windows, outputs, rules()) == ["l", "b"]


def test_spans_are_in_order_and_not_too_long() -> None:
    output = logits(12, {8: 9.5, 3: 8}, {4: 9, 9: 1})
    assert answers([window(0, 0, 8)], [output], rules()) == ["ab"]
    assert answers([window(0, 0, 8)], [output], rules(max_answer_length=2)) == ["ab"]
    assert answers([window(0, 0, 8)], [output], rules(max_answer_length=1)) == ["f"]


def test_n_best_limits_the_candidates() -> None:
    # The best pair needs the second start: with one candidate, only start 4 with end 4 is left.
    output = logits(12, {4: 9, 3: 8}, {4: 5, 3: 4.9})
    assert answers([window(0, 0, 8)], [output], rules(n_best=1)) == ["b"]


def test_without_a_valid_candidate_all_tokens_count() -> None:
    output = logits(12, {8: 9}, {4: 9, 9: 1})
    assert answers([window(0, 0, 8)], [output], rules(n_best=1)) == ["fg"]
    assert answers([window(0, 0, 2)], [logits(6, {4: 2}, {3: 1})], rules(n_best=1)) == ["b"]


@pytest.mark.parametrize(
    ("null", "threshold", "expected"),
    [
        (3.0, 0.0, "b"),
        (5.0, 0.0, ""),
        (4.0, 0.0, "b"),
        (5.0, 1.0, "b"),
        (5.5, 1.0, ""),
        (3.5, -1.0, ""),
        (9.0, None, "b"),
    ],
)
def test_the_null_threshold(null: float, threshold: float | None, expected: str) -> None:
    output = logits(12, {4: 2, 0: null / 2}, {4: 2, 0: null / 2})
    assert answers([window(0, 0, 8)], [output], rules(null_threshold=threshold)) == [expected]


def test_the_null_score_is_the_smallest_of_all_windows() -> None:
    windows = [window(0, 0, 8), window(0, 4, 12)]
    sure, unsure = logits(12, {0: 9}, {0: 9}), logits(12, {4: 2, 0: 1}, {4: 2, 0: 1})
    assert answers(windows, [sure, unsure], rules(null_threshold=0.0)) == ["f"]
    assert answers(windows, [sure, sure], rules(null_threshold=0.0)) == [""]


def test_a_window_without_context_gives_nothing() -> None:
    assert answers([window(0, 0, 0)], [logits(4, {}, {})], rules()) == [""]
    assert answers([window(0, 0, 0), window(0, 2, 3)], [logits(4, {}, {}), logits(5, {}, {})], rules()) == ["c"]


def test_wrong_shapes_and_orders() -> None:
    with pytest.raises(ValueError, match="expected \\(2, 12\\)"):
        answers([window(0, 0, 8)], [np.zeros((2, 13))], rules())
    with pytest.raises(ValueError, match="order of the questions"):
        SpanDecoder([LETTERS] * 2, [window(1, 0, 2), window(0, 0, 2)], rules())
    with pytest.raises(ValueError, match="order of the questions"):
        SpanDecoder([LETTERS] * 2, [window(0, 0, 2)], rules())


def slow_answers(windows: Sequence[WindowMap], outputs: Sequence[Any], chosen: SpanRules, count: int) -> list[str]:
    """The same with loops over sorted candidates."""
    found: list[tuple[float, str]] = [(-np.inf, "")] * count
    nulls = [np.inf] * count
    for place, output in zip(windows, outputs, strict=True):
        tokens = [token for token in range(output.shape[1]) if place.in_context[token]]
        starts = sorted(tokens, key=lambda token, output=output: -output[0, token])  # type: ignore[misc]
        ends = sorted(tokens, key=lambda token, output=output: -output[1, token])  # type: ignore[misc]
        nulls[place.question] = min(nulls[place.question], output[0, 0] + output[1, 0])
        for limit in (chosen.n_best, len(tokens)):
            pairs = [
                (output[0, start] + output[1, end], LETTERS[place.char_starts[start] : place.char_ends[end]])
                for start in starts[:limit]
                for end in ends[:limit]
                if 0 <= end - start < chosen.max_answer_length
            ]
            if pairs:
                found[place.question] = max([found[place.question], *pairs], key=lambda pair: pair[0])
                break
    threshold = chosen.null_threshold
    return [
        "" if threshold is not None and null - score > threshold else text
        for null, (score, text) in zip(nulls, found, strict=True)
    ]


@settings(deadline=None, max_examples=150)
@given(
    st.lists(st.lists(st.tuples(st.integers(0, 8), st.integers(1, 8)), min_size=1, max_size=3), min_size=1, max_size=4),
    st.integers(0, 2**32 - 1),
    st.integers(1, 12),
    st.integers(1, 6),
    st.one_of(st.none(), st.floats(-2, 2)),
    st.sampled_from([1, 2, 512]),
)
def test_against_loops(
    layout: list[list[tuple[int, int]]], seed: int, n_best: int, longest: int, threshold: float | None, chunk: int
) -> None:
    windows = [window(question, begin, begin + size) for question, parts in enumerate(layout) for begin, size in parts]
    # A permutation has no ties, and sums of distinct powers have none either.
    generator = np.random.default_rng(seed)
    outputs = [generator.normal(size=(2, len(place.char_starts))).astype(np.float32) for place in windows]
    chosen = rules(n_best, longest, threshold)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answer_spans, "CHUNK_WINDOWS", chunk)
        assert answers(windows, outputs, chosen) == slow_answers(windows, outputs, chosen, len(layout))


def test_windows_may_be_narrower_than_n_best() -> None:
    first, last, score = best_spans(np.array([[1.0, 0.0]]), np.array([[0.0, 2.0]]), rules(n_best=50))
    assert (first[0], last[0], score[0]) == (0, 1, 3.0)
