"""Decoding of start and end logits of windows into one answer for each question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analog_lora_cli.tasks.base import FloatArray

IntArray = npt.NDArray[np.signedinteger]
BoolArray = npt.NDArray[np.bool_]

CHUNK_WINDOWS = 512
CHUNK_PAIRS = 4_000_000
"""Start-end pairs at a time: about 40 bytes each."""


@dataclass(frozen=True)
class SpanRules:
    """Limits on the spans that may be answers."""

    n_best: int
    """Start and end candidates in each window."""
    max_answer_length: int
    """Longest span, in tokens."""
    null_threshold: float | None
    """Logits by which the null score must exceed the best span's for an empty answer; None: never empty."""


@dataclass(frozen=True)
class WindowMap:
    """Positions of the tokens of one window in the context."""

    question: int
    """Index of the question."""
    char_starts: IntArray
    """(tokens,) first character of each token; meaningless outside the context."""
    char_ends: IntArray
    """(tokens,) character after each token."""
    in_context: BoolArray
    """(tokens,) false for the question and for special tokens."""
    null_token: int
    """The token whose logits stand for "no answer": [CLS], or what takes its place."""


class SpanDecoder:
    """Decoder of answers; everything that does not depend on the logits is prepared once.

    The score of a span is the sum of its start and end logit; a question's answer is the best span of all its
    windows. Its null score is the smallest, over the windows, of the null token's start plus end logit (Devlin et
    al., "BERT", 2019, section 4.3, and BERT's SQuAD evaluation).

    Args:
        contexts: the context of each question.
        windows: the windows of the first question, then of the second, and so on; at least one for each.
        rules: limits on the spans.
    """

    def __init__(self, contexts: Sequence[str], windows: Sequence[WindowMap], rules: SpanRules) -> None:
        self._contexts = list(contexts)
        self._rules = rules
        self._lengths = np.array([len(window.char_starts) for window in windows])
        self._bases = np.concatenate([[0], np.cumsum(self._lengths)])
        self._char_starts = np.concatenate([window.char_starts for window in windows])
        self._char_ends = np.concatenate([window.char_ends for window in windows])
        self._in_context = np.concatenate([window.in_context for window in windows])
        self._questions = np.array([window.question for window in windows])
        self._null_tokens = self._bases[:-1] + np.array([window.null_token for window in windows])
        counts = np.bincount(self._questions, minlength=len(contexts))
        if (np.diff(self._questions) < 0).any() or len(counts) != len(contexts) or (counts == 0).any():
            raise ValueError("the windows must be in the order of the questions, at least one for each")
        self._first_windows = np.concatenate([[0], np.cumsum(counts)[:-1]])

    def answers(self, outputs: Sequence[FloatArray]) -> list[str]:
        """The answer to each question, cut from its context; "" only if `null_threshold` says so.

        Args:
            outputs: one (2, tokens) for each window: start logits, end logits.

        Raises:
            ValueError: an output has another shape.
        """
        for index, output in enumerate(outputs):
            if output.shape != (2, self._lengths[index]):
                raise ValueError(f"output {index} has shape {output.shape}, expected (2, {self._lengths[index]})")
        starts = np.concatenate([output[0] for output in outputs]).astype(np.float32, copy=False)
        ends = np.concatenate([output[1] for output in outputs]).astype(np.float32, copy=False)
        null_scores = np.minimum.reduceat(starts[self._null_tokens] + ends[self._null_tokens], self._first_windows)
        starts = np.where(self._in_context, starts, -np.inf)
        ends = np.where(self._in_context, ends, -np.inf)
        first, last, scores = self._best_spans(starts, ends)

        # Windows of a question by falling score; the sort is stable, so that ties go to the earlier window.
        order = np.lexsort((-scores, self._questions))
        best = order[self._first_windows]
        threshold = self._rules.null_threshold
        answers = []
        for question, window in enumerate(best):
            null_wins = threshold is not None and null_scores[question] - scores[window] > threshold
            if null_wins or scores[window] == -np.inf:
                answers.append("")
            else:
                begin = self._char_starts[self._bases[window] + first[window]]
                end = self._char_ends[self._bases[window] + last[window]]
                answers.append(self._contexts[question][begin:end])
        return answers

    def _best_spans(self, starts: FloatArray, ends: FloatArray) -> tuple[IntArray, IntArray, FloatArray]:
        """First token, last token and score of each window's best span, from the flat masked logits."""
        count = len(self._lengths)
        first, last = np.zeros(count, np.int64), np.zeros(count, np.int64)
        scores = np.full(count, -np.inf, np.float32)
        step = max(1, min(CHUNK_WINDOWS, CHUNK_PAIRS // self._rules.n_best**2))
        for begin in range(0, count, step):
            rows = slice(begin, min(begin + step, count))
            lengths = self._lengths[rows]
            is_token = np.arange(lengths.max()) < lengths[:, None]
            flat = slice(self._bases[rows.start], self._bases[rows.stop])
            start_grid = np.full(is_token.shape, -np.inf, np.float32)
            end_grid = np.full(is_token.shape, -np.inf, np.float32)
            start_grid[is_token], end_grid[is_token] = starts[flat], ends[flat]
            first[rows], last[rows], scores[rows] = best_spans(start_grid, end_grid, self._rules)
        return first, last, scores


def best_spans(starts: FloatArray, ends: FloatArray, rules: SpanRules) -> tuple[IntArray, IntArray, FloatArray]:
    """The best span of each window.

    Considers all pairs of the `n_best` best starts and ends that are in order and not too long. Where no such pair
    exists, it considers all tokens.

    Args:
        starts: (windows, tokens) start logits, -inf where no answer may start.
        ends: (windows, tokens) end logits, -inf where no answer may end.
        rules: limits on the spans.

    Returns:
        (windows,) first token, last token, and score; the score is -inf where nothing is possible.
    """
    first, last, scores = _best_pairs(starts, ends, min(rules.n_best, starts.shape[1]), rules.max_answer_length)
    missing = np.flatnonzero(scores == -np.inf)
    if len(missing):
        # All tokens make many pairs, so one window at a time.
        for row in missing:
            one = slice(row, row + 1)
            first[one], last[one], scores[one] = _best_pairs(
                starts[one], ends[one], starts.shape[1], rules.max_answer_length
            )
    return first, last, scores


def _best_pairs(
    starts: FloatArray, ends: FloatArray, candidates: int, longest: int
) -> tuple[IntArray, IntArray, FloatArray]:
    rows = np.arange(len(starts))
    # Partition, not sort: the order of the candidates does not matter.
    cut = starts.shape[1] - candidates
    start_tokens = np.argpartition(starts, cut, axis=1)[:, cut:] if cut else _all_tokens(starts)
    end_tokens = np.argpartition(ends, cut, axis=1)[:, cut:] if cut else _all_tokens(ends)
    start_logits = np.take_along_axis(starts, start_tokens, axis=1)
    end_logits = np.take_along_axis(ends, end_tokens, axis=1)
    gaps = end_tokens[:, None, :] - start_tokens[:, :, None]
    is_allowed = (gaps >= 0) & (gaps < longest)
    pairs = np.where(is_allowed, start_logits[:, :, None] + end_logits[:, None, :], np.float32(-np.inf))
    best = pairs.reshape(len(starts), -1).argmax(axis=1)
    start_index, end_index = np.divmod(best, candidates)
    return start_tokens[rows, start_index], end_tokens[rows, end_index], pairs[rows, start_index, end_index]


def _all_tokens(logits: FloatArray) -> IntArray:
    return np.broadcast_to(np.arange(logits.shape[1]), logits.shape)
