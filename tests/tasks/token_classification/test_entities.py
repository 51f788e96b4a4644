"""Entities, equal to seqeval's in its default mode."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import analog_lora_cli
from analog_lora_cli.tasks.chosen_metrics import TAGS as TAGS_CONFIGURATION
from analog_lora_cli.tasks.chosen_metrics import ChosenMetrics, load_module
from analog_lora_cli.tasks.tag_statistics import TAG_STATISTICS
from analog_lora_cli.tasks.token_classification.entities import TagSet
from analog_lora_cli.tasks.token_classification.metrics import TagScorer

MODULES = Path(analog_lora_cli.__file__).parent / "data" / "metrics"
TAGS = ["B-LOC", "B-PER", "E-PER", "I-LOC", "I-PER", "O", "S-LOC", "B", "I", "B-a-b", "I-a-b"]
Sentences = list[list[str]]


def chunks(tags: list[str]) -> list[tuple[str, int, int]]:
    """Entities of a sentence as type, first and last word: the rules of conlleval and seqeval, word by word."""
    found = []
    last_prefix, last_kind, begin = "O", "", 0
    for place, tag in enumerate([*tags, "O"]):
        prefix, kind = tag[0], tag[1:].split("-", maxsplit=1)[-1] or "_"
        ended = (
            last_prefix in ("E", "S")
            or (last_prefix in ("B", "I") and prefix in ("B", "S", "O"))
            or (last_prefix != "O" and last_kind != kind)
        )
        started = (
            prefix in ("B", "S")
            or (last_prefix in ("E", "S", "O") and prefix in ("E", "I"))
            or (prefix != "O" and last_kind != kind)
        )
        if ended:
            found.append((last_kind, begin, place - 1))
        if started:
            begin = place
        last_prefix, last_kind = prefix, kind
    return found


def reference(gold: Sentences, predicted: Sentences) -> dict[str, float]:
    """Micro-averaged percentages from sets of entities."""
    true, guessed = (
        {(number, *chunk) for number, tags in enumerate(sentences) for chunk in chunks(tags)}
        for sentences in (gold, predicted)
    )
    right = len(true & guessed)
    pairs = [pair for g, p in zip(gold, predicted, strict=True) for pair in zip(g, p, strict=True)]
    return {
        "f1": 200 * right / (len(true) + len(guessed)) if true or guessed else 0.0,
        "precision": 100 * right / len(guessed) if guessed else 0.0,
        "recall": 100 * right / len(true) if true else 0.0,
        "accuracy": 100 * sum(g == p for g, p in pairs) / len(pairs),
    }


def scorer(gold: Sentences) -> TagScorer:
    codes, lengths = numbers(gold), np.array([len(sentence) for sentence in gold])
    return TagScorer(TagSet(TAGS), codes, lengths, ChosenMetrics(list(TAG_STATISTICS), "tags", len(TAGS)))


def numbers(sentences: Sentences) -> Any:
    return np.array([TAGS.index(tag) for sentence in sentences for tag in sentence], dtype=np.int32)


@st.composite
def pairs(draw: st.DrawFn, tags: list[str] = TAGS) -> tuple[Sentences, Sentences]:
    """True and predicted tags of a few sentences, alike at most words."""
    gold = draw(st.lists(st.lists(st.sampled_from(tags), min_size=1, max_size=6), min_size=1, max_size=4))
    change = st.one_of(st.none(), st.none(), st.sampled_from(tags))
    return gold, [[draw(change) or tag for tag in sentence] for sentence in gold]


@settings(max_examples=100, deadline=None)
@given(pairs())
def test_equal_to_the_reference(both: tuple[Sentences, Sentences]) -> None:
    gold, predicted = both
    assert scorer(gold).score(numbers(predicted)).metrics == pytest.approx(reference(gold, predicted), abs=1e-9)


@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(max_examples=100, deadline=None)
@given(pairs())
def test_the_reference_is_seqeval(both: tuple[Sentences, Sentences]) -> None:
    metrics = pytest.importorskip("seqeval.metrics")
    gold, predicted = both
    scores = {
        "f1": metrics.f1_score(gold, predicted, zero_division=0),
        "precision": metrics.precision_score(gold, predicted, zero_division=0),
        "recall": metrics.recall_score(gold, predicted, zero_division=0),
        "accuracy": metrics.accuracy_score(gold, predicted),
    }
    assert reference(gold, predicted) == pytest.approx({name: 100 * float(score) for name, score in scores.items()})


def test_a_sentence_ends_its_entities() -> None:
    gold = [["B-PER"], ["I-PER", "I-PER"]]
    scores = scorer(gold).score(numbers([["B-PER"], ["B-PER", "I-PER"]]))
    assert scores.metrics["f1"] == 100.0 and scores.metrics["accuracy"] == pytest.approx(200 / 3)
    assert scores.samples["right_entities"].tolist() == [1, 1] and scores.samples["right_words"].tolist() == [1, 1]


@settings(max_examples=30, deadline=None)
@given(pairs(), st.randoms(use_true_random=False))
def test_resampled_sentences_give_the_metrics_of_those_sentences(both: tuple[Sentences, Sentences], draw: Any) -> None:
    gold, predicted = both
    chosen = draw.choices(range(len(gold)), k=len(gold))
    whole = scorer(gold)
    columns = whole.truth | whole.score(numbers(predicted)).samples
    expected = reference([gold[i] for i in chosen], [predicted[i] for i in chosen])
    for name, statistic in TAG_STATISTICS.items():
        assert statistic.value(statistic.moments(columns)[chosen].mean(axis=0)) == pytest.approx(expected[name])


@pytest.mark.parametrize("name", TAG_STATISTICS)
def test_a_module_of_evaluate(name: str) -> None:
    gold, predicted = [["B-PER", "I-PER", "O"], ["B-LOC"]], [["B-PER", "O", "O"], ["B-LOC"]]
    module = load_module(str(MODULES / name), TAGS_CONFIGURATION)
    scores = module.compute(predictions=predicted, references=gold)
    assert scores == {name: pytest.approx(reference(gold, predicted)[name], abs=1e-9)}
    with pytest.raises(ValueError, match="as many tags in each sentence"):
        module.compute(predictions=[["O"], ["O"]], references=gold)
    if name != "accuracy":
        with pytest.raises(ValueError, match=f"{name} counts entities.*these data have 'NOUN'"):
            module.compute(predictions=[["NOUN"]], references=[["O"]])


@pytest.mark.parametrize(
    ("tags", "same"),
    [
        (["U-PER", "O", "B-LOC", "L-LOC"], ["S-PER", "O", "B-LOC", "E-LOC"]),
        (["B-LOC", "M-LOC", "E-LOC", "S-LOC"], ["B-LOC", "I-LOC", "E-LOC", "S-LOC"]),
    ],
)
def test_other_schemes(tags: list[str], same: list[str]) -> None:
    spans = [TagSet(one).spans(np.arange(4, dtype=np.int32), np.array([0])) for one in (tags, same)]
    assert spans[0].ends_W.any() and (spans[0].common(spans[1]) == spans[0].ends_W).all()


@pytest.mark.parametrize(
    ("names", "unmarked", "marks"),
    [
        (["B-PER", "I-PER", "O"], None, True),
        (["I-PER", "O"], None, True),
        (["ADJ", "NOUN"], "ADJ", False),
        (["B-PER", "NOUN", "O"], "NOUN", False),
        (["O", "0"], "0", False),
    ],
)
def test_which_tags_mark_entities(names: list[str], unmarked: str | None, marks: bool) -> None:
    assert (TagSet(names).unmarked, TagSet(names).marks_entities) == (unmarked, marks)
