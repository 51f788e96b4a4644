"""The quickstart data set: what it promises to a model that reads the question, and to nobody else."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

import pytest

from analog_lora_cli.data import generate_quickstart

FILES = ("train.json", "validation.json")


def paragraphs(name: str) -> list[dict[str, Any]]:
    content = json.loads((generate_quickstart.FOLDER / name).read_text(encoding="utf-8"))
    return [paragraph for article in content["data"] for paragraph in article["paragraphs"]]


def questions(name: str) -> list[dict[str, Any]]:
    return [question for paragraph in paragraphs(name) for question in paragraph["qas"]]


def answer(question: dict[str, Any]) -> str:
    return str(question["answers"][0]["text"])


def kind_of(value: str) -> str:
    """The sort of a value, told from its form alone."""
    if re.fullmatch(r"\d+-bit|\d+ uS|\d+ ns", value):
        return re.sub(r"\d+", "", value)
    if re.fullmatch(r"0\.\d+", value):
        return "drift"
    if re.fullmatch(r"20\d\d", value):
        return "year"
    if re.fullmatch(r"\d+", value):
        return "size"
    if value.endswith("Institute"):
        return "lab"
    for name, members in (
        ("person", generate_quickstart.PEOPLE),
        ("material", generate_quickstart.MATERIALS),
        ("application", generate_quickstart.APPLICATIONS),
    ):
        if value in members:
            return name
    raise AssertionError(f"unexpected answer {value!r}")


def test_committed_files_are_what_the_generator_writes() -> None:
    generated = generate_quickstart.generate()
    assert sorted(generated) == sorted(FILES)
    for name, text in generated.items():
        assert (generate_quickstart.FOLDER / name).read_bytes() == text.encode(), (
            f"{name} is stale: run `python -m analog_lora_cli.data.generate_quickstart`"
        )


def test_generator_writes_the_same_twice(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["generate_quickstart", str(tmp_path / "new")])
    generate_quickstart.main()
    for name, text in generate_quickstart.generate().items():
        assert (tmp_path / "new" / name).read_text(encoding="utf-8") == text


def test_files_are_small() -> None:
    assert sum((generate_quickstart.FOLDER / name).stat().st_size for name in FILES) < 600_000


@pytest.mark.parametrize("name", FILES)
def test_title_says_that_the_text_is_fictional(name: str) -> None:
    content = json.loads((generate_quickstart.FOLDER / name).read_text(encoding="utf-8"))
    assert content["version"] == "1.1"
    assert all("fictional" in article["title"] for article in content["data"])


@pytest.mark.parametrize("name", FILES)
def test_answers_stand_where_the_file_says(name: str) -> None:
    for paragraph in paragraphs(name):
        context = paragraph["context"]
        for question in paragraph["qas"]:
            (entry,) = question["answers"]
            start, end = entry["answer_start"], entry["answer_start"] + len(entry["text"])
            assert context[start:end] == entry["text"]
            assert not (context[start - 1 : start].isalnum() or context[end : end + 1].isalnum()), "cuts a word"


@pytest.mark.parametrize("name", FILES)
def test_an_answer_stands_only_once_in_its_passage(name: str) -> None:
    for paragraph in paragraphs(name):
        for question in paragraph["qas"]:
            pattern = rf"(?<![\w.]){re.escape(answer(question))}(?![\w])"
            assert len(re.findall(pattern, paragraph["context"])) == 1, question["id"]


@pytest.mark.parametrize("name", FILES)
def test_ids_and_questions_do_not_repeat(name: str) -> None:
    assert len({question["id"] for question in questions(name)}) == len(questions(name))
    for paragraph in paragraphs(name):
        asked = [question["question"] for question in paragraph["qas"]]
        assert len(set(asked)) == len(asked)


@pytest.mark.parametrize("name", FILES)
def test_each_passage_asks_for_different_answers(name: str) -> None:
    for paragraph in paragraphs(name):
        found = [answer(question) for question in paragraph["qas"]]
        assert len(found) >= 3
        assert len(set(found)) == len(found)


@pytest.mark.parametrize("name", FILES)
def test_each_answer_has_a_rival_of_the_same_kind(name: str) -> None:
    """So that knowing what kind of answer is wanted is not enough."""
    values = _patterns()
    for paragraph in paragraphs(name):
        for question in paragraph["qas"]:
            kind = kind_of(answer(question))
            found = set(re.findall(values[kind], paragraph["context"]))
            assert answer(question) in found
            assert len(found) >= 2, question["id"]


def _patterns() -> dict[str, str]:
    words = {
        "person": generate_quickstart.PEOPLE,
        "material": generate_quickstart.MATERIALS,
        "application": generate_quickstart.APPLICATIONS,
    }
    return {
        "-bit": r"\d+-bit",
        " uS": r"\d+ uS",
        " ns": r"\d+ ns",
        "drift": r"0\.\d+",
        "year": r"\b20\d\d\b",
        "size": r"(?<![\w.])\d+(?= rows| columns)",
        "lab": r"[A-Z]\w+ Institute",
        **{kind: r"\b(?:" + "|".join(members) + r")\b" for kind, members in words.items()},
    }


def test_training_and_validation_share_no_passage_and_no_chip() -> None:
    contexts = [{paragraph["context"] for paragraph in paragraphs(name)} for name in FILES]
    assert len(contexts[0]) == len(paragraphs(FILES[0]))
    assert len(contexts[1]) == len(paragraphs(FILES[1]))
    assert not contexts[0] & contexts[1]
    chips = [
        {word for context in part for word in re.findall(r"\w+", context) if word in generate_quickstart.CHIPS}
        for part in contexts
    ]
    assert chips[0] and chips[1]
    assert not chips[0] & chips[1]


def test_names_and_times_of_the_answers_differ_between_the_files() -> None:
    found = [{(kind_of(answer(question)), answer(question)) for question in questions(name)} for name in FILES]
    shared = Counter(kind for kind, _ in found[0] & found[1])
    assert not shared.keys() & {"lab", "person", "application", "drift", " uS", " ns"}


def test_passages_and_questions_are_as_many_as_announced() -> None:
    assert len(paragraphs("train.json")) == generate_quickstart.TRAIN_PASSAGES
    assert len(paragraphs("validation.json")) == generate_quickstart.VALIDATION_PASSAGES
    assert 150 <= len(questions("validation.json")) <= 250


def test_names_belong_to_one_list_only() -> None:
    """A designer called like a chip would be an ambiguous answer."""
    lists = (generate_quickstart.CHIPS, generate_quickstart.LABS, generate_quickstart.PEOPLE)
    counted = Counter(name for names in lists for name in names)
    assert [name for name, times in counted.items() if times > 1] == []
