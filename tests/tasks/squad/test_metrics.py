from __future__ import annotations

import re
import string
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analog_lora_cli.tasks.squad.metrics import SquadMetrics, normalize_answer

WORDS = st.sampled_from(["the", "a", "An", "cat", "Cat", "dog", "sat", "cat's", "!", "caf\xe9"])
ANSWERS = st.lists(WORDS, max_size=5).map(" ".join)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Cat", "cat"),
        ("  an   apple\ta\nday ", "apple day"),
        ("U.S.A.", "usa"),
        ("the-end", "theend"),  # punctuation goes before articles do
        ("theatre, Ana", "theatre ana"),
        ("$1,000.50", "100050"),
        ("24\u201310", "24\u201310"),  # only ASCII punctuation goes
        ("The", ""),
    ],
)
def test_normalisation(text: str, expected: str) -> None:
    assert normalize_answer(text) == expected


@pytest.mark.parametrize(
    ("gold", "prediction", "exact", "f1"),
    [
        (["Denver Broncos"], "the denver broncos!", 100, 100),
        (["Denver Broncos"], "Broncos", 0, 100 * 2 / 3),
        (["Denver Broncos", "Broncos", "The Broncos won"], "Broncos", 100, 100),
        (["cat cat dog"], "cat dog dog dog", 0, 100 * 2 * (2 / 4) * (2 / 3) / (2 / 4 + 2 / 3)),
        (["cat"], "dog", 0, 0),
        (["cat"], "", 0, 0),
    ],
)
def test_by_hand(gold: list[str], prediction: str, exact: float, f1: float) -> None:
    for version_2 in (False, True):
        scores = SquadMetrics([gold], version_2).score([prediction]).metrics
        assert scores["exact_match"] == pytest.approx(exact)
        assert scores["f1"] == pytest.approx(f1)


def test_versions_differ_when_nothing_is_left() -> None:
    assert SquadMetrics([["the"]], False).score(["a"]).metrics == {"f1": 0.0, "exact_match": 100.0}
    assert SquadMetrics([["the"]], True).score(["a"]).metrics["f1"] == 100.0
    # v2 drops gold answers of which nothing is left, as long as others stay.
    assert SquadMetrics([["the", "cat"]], True).score([""]).metrics["exact_match"] == 0.0
    assert SquadMetrics([["the", "cat"]], False).score([""]).metrics["exact_match"] == 100.0


def test_unanswerable_questions() -> None:
    metrics = SquadMetrics([["cat"], [], []], True)
    expected = {"f1": 200 / 3, "exact_match": 200 / 3, "has_answer_f1": 100.0, "no_answer_f1": 50.0}
    assert metrics.score(["cat", "", "dog"]).metrics == pytest.approx(expected)
    assert set(SquadMetrics([["cat"]], True).score(["cat"]).metrics) == {"f1", "exact_match", "has_answer_f1"}
    assert set(SquadMetrics([[]], True).score([""]).metrics) == {"f1", "exact_match", "no_answer_f1"}
    assert SquadMetrics([[]], False).score(["cat"]).metrics == {"f1": 0.0, "exact_match": 0.0}


def test_one_prediction_for_each_question() -> None:
    with pytest.raises(ValueError):
        SquadMetrics([["cat"]], False).score([])


def slow_normal(text: str) -> list[str]:
    kept = "".join(letter for letter in text.lower() if letter not in set(string.punctuation))
    return [word for word in re.split(r"\s+", kept) if word not in {"", "a", "an", "the"}]


def slow_f1(gold: list[str], predicted: list[str], version_2: bool) -> Fraction:
    """F1 by crossing out matching words one by one."""
    if version_2 and not (gold and predicted):
        return Fraction(gold == predicted)
    left = list(gold)
    common = 0
    for word in predicted:
        if word in left:
            left.remove(word)
            common += 1
    if not common:
        return Fraction(0)
    precision, recall = Fraction(common, len(predicted)), Fraction(common, len(gold))
    return 2 * precision * recall / (precision + recall)


@given(st.lists(st.tuples(st.lists(ANSWERS, max_size=3), ANSWERS), min_size=1, max_size=5), st.booleans())
def test_against_another_formulation(samples: list[tuple[list[str], str]], version_2: bool) -> None:
    f1s, exacts = [], []
    for gold, prediction in samples:
        words = [slow_normal(text) for text in gold]
        if version_2:
            words = [text for text in words if text] or [[]]
        f1s.append(max((slow_f1(text, slow_normal(prediction), version_2) for text in words), default=Fraction(0)))
        exacts.append(slow_normal(prediction) in words)
    scores = SquadMetrics([gold for gold, _ in samples], version_2).score([text for _, text in samples]).metrics
    assert scores["f1"] == pytest.approx(float(100 * sum(f1s) / len(f1s)))
    assert scores["exact_match"] == pytest.approx(100 * sum(exacts) / len(exacts))


@given(st.lists(ANSWERS.filter(lambda text: bool(slow_normal(text))), min_size=1, max_size=3), ANSWERS)
def test_bounds(gold: list[str], prediction: str) -> None:
    metrics = SquadMetrics([gold], False)
    assert metrics.score([gold[-1].upper() + " ."]).metrics == {"f1": 100.0, "exact_match": 100.0}
    scores = metrics.score([prediction]).metrics
    assert 0 <= scores["exact_match"] <= scores["f1"] <= 100
