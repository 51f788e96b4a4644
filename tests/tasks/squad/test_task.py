from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analog_lora_cli.errors import AnaloraError, DataError, UsageError
from analog_lora_cli.tasks import make_task
from analog_lora_cli.tasks.squad.data import Question
from analog_lora_cli.tasks.squad.task import QuestionAnswering, Window, answer_tokens, make_windows
from tests.tasks.section import task_section

SHORT = ("the cat sat on a mat", [("q1", "who sat?", ["cat"]), ("q2", "where?", ["a mat", "mat"])])
LONG = (" ".join(f"w{index}" for index in range(60)), [("q3", "which?", ["w40 w41"]), ("q4", "  first?", ["w0"])])
WITHOUT_ANSWER: Any = ("nothing here", [("q5", "why?", [])])


def question(context: str, text: str | None = None, words: str = "who is it?") -> Question:
    found = () if text is None else (text,)
    return Question("q", words, context, found, tuple(context.index(text) for text in found))


def task(train: str | None = None, validation: str | None = None, name: Any = "squad", **options: Any) -> Any:
    config = task_section(
        name=name, train_file=train, validation_file=validation, **{"max_length": 32, "doc_stride": 8, **options}
    )
    return make_task(config, seed=3)


def windows(item: Question, tokenizer: Any, max_length: int, doc_stride: int) -> list[Window]:
    return list(make_windows(tokenizer, [item], max_length, doc_stride))


def text_of(item: Question, place: Window, first: Any, last: Any) -> str:
    return item.context[place.map.char_starts[first] : place.map.char_ends[last]]


def oracle(items: list[Question], tokenizer: Any, max_length: int, doc_stride: int) -> list[Any]:
    """Logits that point at the first answer, or at [CLS] where the window does not hold it, less surely."""
    outputs = []
    for place in make_windows(tokenizer, items, max_length, doc_stride):
        first, last = answer_tokens(items[place.map.question], place.map)
        output = np.zeros((2, len(place.inputs["input_ids"])), np.float32)
        sure = 5.0 if first != place.map.null_token or not items[place.map.question].answers else 1.0
        output[0, first] = output[1, last] = sure
        outputs.append(output)
    return outputs


def test_what_the_engine_needs_to_know() -> None:
    from transformers import AutoModelForQuestionAnswering

    plain, second = task(), task(name="squad_v2")
    assert isinstance(plain, QuestionAnswering)
    assert plain.auto_class() is AutoModelForQuestionAnswering
    assert [metric.name for metric in plain.metrics] == ["f1", "exact_match"]
    assert [m.name for m in second.metrics] == ["f1", "exact_match", "has_answer_f1", "no_answer_f1"]
    assert plain.headline.name == "f1" and plain.model_options() == {} and plain.data_files() == {}


def test_short_contexts_are_one_window(tokenizer: Any) -> None:
    item = question("the cat sat", "cat")
    (place,) = windows(item, tokenizer, 32, 8)
    # [CLS] who is it ? [SEP] the cat sat [SEP]
    assert place.inputs["input_ids"] == [2, 1, 1, 1, 1, 3, 1, 1, 1, 3]
    assert place.inputs["token_type_ids"] == [0] * 6 + [1] * 4
    assert place.inputs["attention_mask"] == [1] * 10
    assert np.flatnonzero(place.map.in_context).tolist() == [6, 7, 8]
    assert answer_tokens(item, place.map) == (7, 7)


def test_windows_overlap_by_the_stride(tokenizer: Any) -> None:
    words = [f"w{index}" for index in range(50)]
    places = windows(question(" ".join(words)), tokenizer, 20, 5)
    read = [
        [text_of(question(" ".join(words)), place, token, token) for token in np.flatnonzero(place.map.in_context)]
        for place in places
    ]
    assert [part[0] for part in read] == ["w0", "w8", "w16", "w24", "w32", "w40"]
    assert all(part[-5:] == following[:5] for part, following in pairwise(read))
    assert read[-1][-1] == "w49"
    assert max(len(place.inputs["input_ids"]) for place in places) == 20


def test_an_answer_in_the_second_window_only(tokenizer: Any) -> None:
    item = question(" ".join(f"w{index}" for index in range(30)), "w15 w16")
    positions = [answer_tokens(item, place.map) for place in windows(item, tokenizer, 20, 5)]
    assert positions[0] == (0, 0)
    assert text_of(item, windows(item, tokenizer, 20, 5)[1], *positions[1]) == "w15 w16"


def test_an_answer_at_the_edge_of_a_window(tokenizer: Any) -> None:
    # 20 tokens hold 3 special ones, 4 of the question and 13 of the context: w0..w12, w8..w20, w16..w28, w24..w29.
    cases = {
        "w0": [0],
        "w7 w8": [0],
        "w8": [0, 1],
        "w12": [0, 1],
        "w12 w13": [1],
        "w13": [1],
        "w20 w21": [2],
        "w29": [3],
        "w7 w8 w9 w10 w11 w12 w13": [],
    }
    for text, held in cases.items():
        item = question(" ".join(f"w{index}" for index in range(30)), text)
        places = windows(item, tokenizer, 20, 5)
        assert [index for index, place in enumerate(places) if answer_tokens(item, place.map) != (0, 0)] == held


def test_answers_inside_words_and_with_spaces(tokenizer: Any, letter_tokenizer: Any) -> None:
    context = "ab patented  cd"
    assert answer_tokens(question(context, "ten"), windows(question(context), tokenizer, 32, 8)[0].map) == (7, 7)
    (place,) = windows(question(context), letter_tokenizer, 32, 8)
    item = question(context, "ten")
    assert text_of(item, place, *answer_tokens(item, place.map)) == "ten"
    spaced = question(context, " patented  ")
    assert text_of(spaced, place, *answer_tokens(spaced, place.map)) == "patented"


def test_an_answer_that_leaves_no_token(letter_tokenizer: Any) -> None:
    # The zero-width space vanishes in the tokenizer's normalisation.
    item = question("ab \u200b cd", "\u200b")
    (place,) = windows(item, letter_tokenizer, 32, 8)
    assert place.map.in_context.sum() == 4
    assert answer_tokens(item, place.map) == (0, 0)


def test_long_questions_leave_room_for_the_context(tokenizer: Any, letter_tokenizer: Any) -> None:
    item = question(" ".join(f"w{index}" for index in range(100)), "w99", "so " * 80 + "?")
    places = windows(item, tokenizer, 40, 10)
    # 40 - 3 special - 10 overlap leave 27, of which 13 stay for new context.
    assert {int(np.flatnonzero(place.map.in_context)[0]) for place in places} == {1 + 14 + 1}
    assert any(answer_tokens(item, place.map) != (0, 0) for place in places)
    one_word = question("abc " * 30, "abc", "x" * 90)
    assert len(windows(one_word, letter_tokenizer, 40, 10)[0].inputs["input_ids"]) == 40


def test_a_stride_without_room(tokenizer: Any) -> None:
    with pytest.raises(UsageError, match=r"task\.doc_stride \(28\) must leave room"):
        windows(question("a b c"), tokenizer, 32, 28)
    assert len(windows(question("a b c", words="why"), tokenizer, 32, 27)) == 1


def test_questions_are_stripped_on_the_left(tokenizer: Any) -> None:
    places = [windows(question("a b", words=words), tokenizer, 32, 8)[0] for words in ("   who?", "who?")]
    assert places[0].inputs == places[1].inputs
    assert places[0].map.char_starts.tolist() == places[1].map.char_starts.tolist()


def test_training_features(tokenizer: Any, squad_file: Any) -> None:
    features = task(squad_file([SHORT, LONG])).train_features(tokenizer)
    assert set(features.column_names) == {
        *("input_ids", "token_type_ids", "attention_mask", "start_positions", "end_positions", "length")
    }
    assert features["length"][:2] == [len(row) for row in features["input_ids"][:2]]
    # [CLS] who sat ? [SEP] the cat sat on a mat [SEP]
    assert (features[0]["start_positions"], features[0]["end_positions"]) == (6, 6)
    # [CLS] where ? [SEP] the cat sat on a mat [SEP]: the first of the answers
    assert (features[1]["start_positions"], features[1]["end_positions"]) == (8, 9)
    held = sum(start > 0 for start in features["start_positions"])
    assert 4 <= held < len(features)
    assert not any(Path(file["filename"]).exists() for file in features.cache_files)


def test_unanswerable_questions_train_on_the_null_token(tokenizer: Any, squad_file: Any) -> None:
    features = task(squad_file([WITHOUT_ANSWER]), name="squad_v2").train_features(tokenizer)
    assert (features["start_positions"][:], features["end_positions"][:]) == ([0], [0])


def test_a_random_subset_of_the_questions(tokenizer: Any, squad_file: Any) -> None:
    context = " ".join(f"w{index}" for index in range(20))
    file = squad_file([(context, [(f"q{index}", "?", [f"w{index}"]) for index in range(20)])])

    def starts(seed: int, count: int | None) -> list[int]:
        config = task_section(name="squad", train_file=file, max_length=64, doc_stride=8, max_train_samples=count)
        return list(make_task(config, seed).train_features(tokenizer)["start_positions"])

    everything = starts(0, None)
    assert everything == starts(5, 20) == starts(5, 99) == list(range(3, 23))
    assert starts(1, 6) == starts(1, 6) == sorted(set(starts(1, 6)))
    assert len(starts(1, 6)) == 6
    assert starts(1, 6) != starts(2, 6)
    # The same on every machine and with every release of numpy.
    assert make_task(task_section(max_train_samples=5), 42).training_subset(100) == [27, 51, 68, 74, 84]


def test_perfect_logits_score_100(tokenizer: Any, squad_file: Any) -> None:
    file = squad_file([SHORT, LONG])
    chosen = task(validation=file)
    (evaluation,) = chosen.eval_sets(tokenizer)
    assert evaluation.name == "validation"
    assert set(evaluation.features.column_names) == {"input_ids", "token_type_ids", "attention_mask", "length"}
    assert len(evaluation.features) > 4
    items = [
        question(context, answers[0], words) for context, entries in (SHORT, LONG) for _, words, answers in entries
    ]
    outputs = oracle(items, tokenizer, 32, 8)
    assert evaluation.score(outputs).metrics == {"f1": 100.0, "exact_match": 100.0}
    assert evaluation.score(outputs).metrics == evaluation.score([output * 7 for output in outputs]).metrics
    assert evaluation.score([output * 0 - 1 for output in outputs]).metrics["f1"] < 50


def test_perfect_logits_score_100_in_version_2(tokenizer: Any, squad_file: Any) -> None:
    (evaluation,) = task(validation=squad_file([LONG, WITHOUT_ANSWER]), name="squad_v2").eval_sets(tokenizer)
    items = [question(LONG[0], answers[0], words) for _, words, answers in LONG[1]]
    outputs = oracle([*items, question("nothing here", None, "why?")], tokenizer, 32, 8)
    names = ("f1", "exact_match", "has_answer_f1", "no_answer_f1")
    assert evaluation.score(outputs).metrics == dict.fromkeys(names, 100.0)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.text("ab c-,", min_size=1, max_size=8).filter(lambda text: bool(text.strip(" "))), min_size=1, max_size=40
    ),
    st.data(),
    st.integers(1, 12),
    st.integers(0, 30),
)
def test_any_answer_of_whole_tokens_is_found_again(
    letter_tokenizer: Any, parts: list[str], data: st.DataObject, stride: int, more: int
) -> None:
    context = " ".join(parts)
    places = [index for index, letter in enumerate(context) if letter != " "]
    begin = data.draw(st.sampled_from(places))
    end = data.draw(st.sampled_from([place for place in places if begin <= place < begin + 6])) + 1
    item = Question("q", "aa", context, (context[begin:end],), (begin,))
    max_length = 3 + 2 + stride + 2 + more
    found = set()
    for place in make_windows(letter_tokenizer, [item], max_length, stride):
        first, last = answer_tokens(item, place.map)
        tokens = np.flatnonzero(place.map.in_context)
        inside = place.map.char_starts[tokens[0]] <= begin and end <= place.map.char_ends[tokens[-1]]
        assert inside == (first != place.map.null_token)
        if inside:
            found.add(text_of(item, place, first, last))
    assert found <= {context[begin:end]}
    # An answer not longer than the overlap (in characters, so surely in tokens) lies whole in some window.
    if end - begin <= stride:
        assert found == {context[begin:end]}


def test_outputs_are_checked(tokenizer: Any, squad_file: Any) -> None:
    (evaluation,) = task(validation=squad_file([SHORT])).eval_sets(tokenizer)
    good = [np.zeros((2, length), np.float16) for length in evaluation.features["length"]]
    evaluation.score(good)
    with pytest.raises(ValueError, match="1 outputs for the 2 features of validation"):
        evaluation.score(good[:1])
    with pytest.raises(ValueError, match="expected"):
        evaluation.score([good[0][:, 1:], good[1]])
    good[1][0, 0] = np.nan
    with pytest.raises(AnaloraError, match="1 of 2 outputs of the model are not finite"):
        evaluation.score(good)


def test_the_first_questions_are_evaluated(tokenizer: Any, squad_file: Any) -> None:
    (evaluation,) = task(validation=squad_file([SHORT, LONG]), max_eval_samples=1).eval_sets(tokenizer)
    assert len(evaluation.features) == 1


def test_guessing(squad_file: Any) -> None:
    context = "the cat sat " + "x " * 40
    assert task(validation=squad_file([(context, [("q1", "?", ["cat sat"])])])).baseline_score()["f1"] == 100.0
    nothing = [("y z", [("q2", "?", []), ("q3", "?", []), ("q4", "?", ["z"])])]
    expected = {"f1": 200 / 3, "exact_match": 200 / 3, "has_answer_f1": 0.0, "no_answer_f1": 100.0}
    guess = task(validation=squad_file(nothing), name="squad_v2").baseline_score()
    assert guess == pytest.approx(expected)


def test_data_files(squad_file: Any, tmp_path: Path) -> None:
    train, validation = squad_file([SHORT], "a.json"), squad_file([SHORT], "b.json")
    assert task(train, validation).data_files() == {"train": Path(train), "validation": Path(validation)}
    assert task(validation=validation).data_files() == {"validation": Path(validation)}
    with pytest.raises(DataError, match=r"task\.train_file: there is no file"):
        task(str(tmp_path / "c.json"), validation).data_files()


def test_slow_tokenizers_are_refused(squad_file: Any) -> None:
    slow: Any = SimpleNamespace(is_fast=False)
    for call in (task(squad_file([SHORT])).train_features, task(validation=squad_file([SHORT])).eval_sets):
        with pytest.raises(UsageError, match=r"needs a fast tokenizer.*SimpleNamespace.*tokenizer\.json"):
            call(slow)
