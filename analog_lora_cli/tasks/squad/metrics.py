"""Exact match and F1 of SQuAD, as the official evaluation scripts of v1.1 and v2.0 compute them.

Rajpurkar et al., "SQuAD: 100,000+ Questions for Machine Comprehension of Text", 2016, and "Know What You Don't Know:
Unanswerable Questions for SQuAD", 2018: an answer is normalised (lower case, without punctuation, articles and extra
white space) and split at white space; F1 is that of the two bags of words; of several gold answers the best counts.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

import numpy as np

from analog_lora_cli.tasks.metric import Metric
from analog_lora_cli.tasks.sample_statistics import Mean
from analog_lora_cli.tasks.scores import Columns, Scores

F1 = Metric("f1", statistic=Mean("f1"))
EXACT_MATCH = Metric("exact_match", statistic=Mean("exact_match"))
HAS_ANSWER_F1 = Metric("has_answer_f1", statistic=Mean("f1", among="has_answer"))
NO_ANSWER_F1 = Metric("no_answer_f1", statistic=Mean("f1", among="no_answer"))

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize_answer(text: str) -> str:
    """`text` in lower case, without ASCII punctuation, without a/an/the, with single spaces."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


class SquadMetrics:
    """Scores answers against the gold answers of a fixed list of questions.

    The two versions differ where nothing is left of an answer after normalisation: v1.1 gives F1 0 even if both are
    empty; v2.0 gives 1 then, drops such gold answers, and lets a question without gold answers expect "".

    Args:
        gold: the gold answers of each question; none for an unanswerable one, which v1.1 scores 0.
        version_2: whether v2.0's rules hold.
    """

    def __init__(self, gold: Sequence[Sequence[str]], version_2: bool) -> None:
        self._version_2 = version_2
        self._answerable = [bool(answers) for answers in gold]
        self._gold = [self._prepare(answers) for answers in gold]

    def _prepare(self, answers: Sequence[str]) -> list[tuple[str, Counter[str]]]:
        normal = dict.fromkeys(normalize_answer(answer) for answer in answers)
        if self._version_2:
            normal = dict.fromkeys([text for text in normal if text] or [""])
        return [(text, Counter(text.split())) for text in normal]

    @property
    def truth(self) -> Columns:
        """1 for each question that has an answer, and for each that has none."""
        has_answer = np.array(self._answerable, dtype=np.float32)
        return {"has_answer": has_answer, "no_answer": 1 - has_answer}

    def score(self, predictions: Sequence[str]) -> Scores:
        """`exact_match` and `f1` of each question, and their means in percent.

        v2.0 also reports `has_answer_f1` and `no_answer_f1`, each if there are such questions.

        Args:
            predictions: one answer for each question, in their order; "" for "no answer".
        """
        pairs = [self._score_answer(gold, text) for gold, text in zip(self._gold, predictions, strict=True)]
        exact, f1 = [exact for exact, _ in pairs], [f1 for _, f1 in pairs]
        scores = {"f1": _percent(f1), "exact_match": _percent(exact)}
        if self._version_2:
            for name, kind in (("has_answer_f1", True), ("no_answer_f1", False)):
                part = [score for score, has in zip(f1, self._answerable, strict=True) if has is kind]
                if part:
                    scores[name] = _percent(part)
        return Scores(scores, {"f1": np.array(f1, dtype=np.float32), "exact_match": np.array(exact, dtype=np.float32)})

    def _score_answer(self, gold: list[tuple[str, Counter[str]]], prediction: str) -> tuple[float, float]:
        normal = normalize_answer(prediction)
        words = Counter(normal.split())
        exact = float(any(normal == text for text, _ in gold))
        return exact, max((self._f1(words, bag) for _, bag in gold), default=0.0)

    def _f1(self, words: Counter[str], gold: Counter[str]) -> float:
        if not words or not gold:
            return float(self._version_2 and words == gold)
        common = sum(min(count, gold[word]) for word, count in words.items())
        # 2PR / (P + R) with P = common / |words|, R = common / |gold|.
        return 2 * common / (words.total() + gold.total())


def _percent(values: Sequence[float]) -> float:
    return 100.0 * sum(values) / len(values)
