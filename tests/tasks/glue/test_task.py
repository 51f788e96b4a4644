from __future__ import annotations

import csv
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analog_lora_cli.errors import DataError, UsageError
from analog_lora_cli.tasks import EvalSet, Task, make_task
from analog_lora_cli.tasks.glue.data import GLUE
from tests.tasks.section import task_section

NAMES = sorted(GLUE)


def task(name: Any, train: Path | None = None, validation: Path | None = None, **options: Any) -> Any:
    files: Any = {"train_file": train and str(train), "validation_file": validation and str(validation)}
    return make_task(task_section(name=name, **files, **options), seed=3)


def names(chosen: Task) -> tuple[str, ...]:
    return tuple(metric.name for metric in chosen.metrics)


def write(path: Path, name: str, labels: list[Any], text: str = "yes no yes") -> Path:
    columns = GLUE[name].columns
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow([*columns, "label"])
        writer.writerows([text] * len(columns) + [label] for label in labels)
    return path


def one_hot(classes: list[int], count: int) -> list[Any]:
    return list(np.eye(count, dtype=np.float32)[classes])


def evaluation(chosen: Any, tokenizer: Any) -> EvalSet:
    (found,) = chosen.eval_sets(tokenizer)
    assert isinstance(found, EvalSet)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_what_the_engine_needs_to_know(name: str) -> None:
    from transformers import AutoModelForSequenceClassification

    chosen = task(name)
    assert chosen.auto_class() is AutoModelForSequenceClassification
    assert chosen.headline == chosen.metrics[0] and all(m.higher_is_better and m.unit == "%" for m in chosen.metrics)
    options = chosen.model_options()
    if name == "stsb":
        assert options == {"num_labels": 1, "problem_type": "regression"}
    else:
        assert options["num_labels"] == len(options["id2label"]) == (3 if name == "mnli" else 2)
        assert {index: label for label, index in options["label2id"].items()} == options["id2label"]
        assert options["problem_type"] == "single_label_classification"


def test_metric_names() -> None:
    assert {name: names(task(name)) for name in NAMES} == {
        "cola": ("matthews_correlation",),
        "mnli": ("accuracy", "accuracy_mismatched"),
        "mrpc": ("accuracy", "f1"),
        "qnli": ("accuracy",),
        "qqp": ("accuracy", "f1"),
        "rte": ("accuracy",),
        "sst2": ("accuracy",),
        "stsb": ("pearson", "spearman"),
        "wnli": ("accuracy",),
    }


@pytest.mark.parametrize("name", NAMES)
def test_every_task_from_file_to_score(name: str, tokenizer: Any, tmp_path: Path) -> None:
    labels = [0.5, 4.0, 2.5] if name == "stsb" else [0, 1, 1]
    file = write(tmp_path / "data.csv", name, labels)
    chosen = task(name, file, file)
    train = chosen.train_features(tokenizer)
    assert set(train.column_names) == {"input_ids", "token_type_ids", "attention_mask", "labels", "length"}
    assert train["labels"][:] == labels and not any(Path(file["filename"]).exists() for file in train.cache_files)
    pair = len(GLUE[name].columns) == 2
    assert train[0]["input_ids"] == ([2, 4, 5, 4, 3, 4, 5, 4, 3] if pair else [2, 4, 5, 4, 3])
    assert train[0]["token_type_ids"] == ([0] * 5 + [1] * 4 if pair else [0] * 5)
    found = evaluation(chosen, tokenizer)
    assert found.name == ("matched" if name == "mnli" else "validation")
    assert set(found.features.column_names) == {"input_ids", "token_type_ids", "attention_mask", "length"}
    outputs = [np.array([label]) for label in labels] if name == "stsb" else one_hot([0, 1, 1], len(GLUE[name].labels))
    assert found.score(outputs).metrics == pytest.approx(dict.fromkeys(names(chosen), 100.0))
    assert set(chosen.baseline_score()) == set(names(chosen))


def test_long_texts_are_cut(tokenizer: Any, tmp_path: Path) -> None:
    file = write(tmp_path / "data.csv", "rte", [0], "word " * 30)
    features = task("rte", file, max_length=12).train_features(tokenizer)
    assert features["length"][:] == [12]


def test_metrics_by_hand(tokenizer: Any, tmp_path: Path) -> None:
    file = write(tmp_path / "data.csv", "mrpc", [1, 1, 1, 0, 0])
    scores = evaluation(task("mrpc", validation=file), tokenizer).score(one_hot([1, 1, 0, 1, 0], 2)).metrics
    # 2 true positives, 1 false positive, 1 false negative.
    assert scores == pytest.approx({"accuracy": 60.0, "f1": 100 * 2 * 2 / (2 * 2 + 1 + 1)})
    file = write(tmp_path / "data.csv", "cola", [1, 1, 1, 0, 0])
    scores = evaluation(task("cola", validation=file), tokenizer).score(one_hot([1, 1, 0, 1, 0], 2)).metrics
    # (TP TN - FP FN) / sqrt((TP+FP)(TP+FN)(TN+FP)(TN+FN))
    assert scores == pytest.approx({"matthews_correlation": 100 * (2 * 1 - 1 * 1) / np.sqrt(3 * 3 * 2 * 2)})
    file = write(tmp_path / "data.csv", "stsb", [0, 1, 2, 5])
    scores = (
        evaluation(task("stsb", validation=file), tokenizer)
        .score([np.array([x]) for x in (0.0, 2.0, 1.0, 9.0)])
        .metrics
    )
    gold, predicted = np.array([0, 1, 2, 5]) - 2, np.array([0, 2, 1, 9]) - 3
    pearson = gold @ predicted / np.sqrt((gold @ gold) * (predicted @ predicted))
    # Ranks 1 2 3 4 against 1 3 2 4: 1 - 6 sum(d^2) / (n (n^2 - 1)).
    assert scores == pytest.approx({"pearson": 100 * pearson, "spearman": 100 * (1 - 6 * 2 / (4 * 15))})


@pytest.mark.parametrize("name", ["cola", "mrpc", "stsb"])
@pytest.mark.parametrize("gold", [[0, 1, 1], [0, 0, 0], [1]])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_constant_outputs_are_guesses(name: str, gold: list[int], value: float, tokenizer: Any, tmp_path: Path) -> None:
    chosen = task(name, validation=write(tmp_path / "data.csv", name, gold))
    output = np.array([0.3]) if name == "stsb" else np.array([0.5, value])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = evaluation(chosen, tokenizer).score([output] * len(gold)).metrics
        guess = chosen.baseline_score()
    assert np.isfinite(list(scores.values())).all() and np.isfinite(list(guess.values())).all()
    if name != "mrpc":
        assert set(scores.values()) == set(guess.values()) == {0.0}


def test_nearly_constant_outputs_do_not_warn(tokenizer: Any, tmp_path: Path) -> None:
    chosen = task("stsb", validation=write(tmp_path / "data.csv", "stsb", [0, 1, 2]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = evaluation(chosen, tokenizer).score([np.array([1.0 + x * 1e-16]) for x in (0, 1, 3)]).metrics
    assert np.isfinite(list(scores.values())).all()


def test_guessing_takes_the_most_frequent_class(tmp_path: Path) -> None:
    file = write(tmp_path / "data.csv", "mrpc", [1, 1, 1, 0])
    assert task("mrpc", validation=file).baseline_score() == pytest.approx({"accuracy": 75.0, "f1": 100 * 6 / 7})
    file = write(tmp_path / "data.csv", "mnli", [2, 2, 0])
    assert task("mnli", validation=file).baseline_score() == pytest.approx({"accuracy": 200 / 3})


def test_classes_by_name_and_number(tokenizer: Any, tmp_path: Path) -> None:
    labels = ["entailment", "neutral", " Contradiction ", "0", "1", "2.0"]
    file = write(tmp_path / "data.csv", "mnli", labels)
    assert task("mnli", file).train_features(tokenizer)["labels"][:] == [0, 1, 2, 0, 1, 2]
    rows = [{"premise": "a", "hypothesis": "b", "label": label} for label in ("neutral", 2, 0.0)]
    (tmp_path / "data.json").write_text(json.dumps(rows))
    assert task("mnli", tmp_path / "data.json").train_features(tokenizer)["labels"][:] == [1, 2, 0]
    # The same name stands for different classes in different tasks.
    assert GLUE["qnli"].labels.index("entailment") == 0 and GLUE["wnli"].labels.index("entailment") == 1


@pytest.mark.parametrize(
    ("name", "label", "message"),
    [
        ("mnli", "maybe", r"line 3: the label 'maybe' must be one of 0 \(entailment\), 1 \(neutral\), 2 \(contrad"),
        ("mnli", "3", "line 3: the label '3' must be one of 0"),
        ("mnli", "0.5", "must be one of 0"),
        ("mnli", "", "the label '' must be one of 0"),
        ("mnli", "nan", "must be one of 0"),
        ("cola", "-1", "line 3: label -1 marks unlabelled data"),
        ("stsb", "-1", "line 3: label -1 marks unlabelled data"),
        ("stsb", "5.1", "line 3: the label '5.1' must be a number from 0 to 5"),
        ("stsb", "nan", "must be a number from 0 to 5"),
        ("stsb", "close", "must be a number from 0 to 5"),
    ],
)
def test_wrong_labels(name: str, label: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        task(name, validation=write(tmp_path / "data.csv", name, ["1", label])).baseline_score()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"sentence": "a", "label": True}, "the label True must be one of"),
        ({"sentence": "a", "label": None}, "the label None must be one of"),
        ({"sentence": None, "label": 1}, "row 1: column 'sentence' must be text, not null"),
        ({"sentence": 7, "label": 1}, "row 1: column 'sentence' must be text, not 7"),
        ({"sentence": "\udc00", "label": 1}, "broken character escape"),
        ({"text": "a", "label": 1}, "the column 'sentence' is missing; present: 'text', 'label'"),
    ],
)
def test_wrong_json_values(row: dict[str, Any], message: str, tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text(json.dumps([row]))
    with pytest.raises(DataError, match=message):
        task("sst2", validation=tmp_path / "data.json").baseline_score()


def test_a_random_training_subset_and_the_first_validation_samples(tokenizer: Any, tmp_path: Path) -> None:
    file = write(tmp_path / "data.csv", "stsb", [index / 10 for index in range(40)])

    def labels(seed: int) -> list[float]:
        config = task_section(name="stsb", train_file=str(file), max_train_samples=9)
        return list(make_task(config, seed).train_features(tokenizer)["labels"])

    assert labels(1) == labels(1) == sorted(set(labels(1)))
    assert len(labels(1)) == 9 and labels(1) != labels(2)
    found = evaluation(task("stsb", validation=file, max_eval_samples=3), tokenizer)
    assert found.score([np.array([x]) for x in (0.1, 0.2, 0.3)]).metrics["spearman"] == pytest.approx(100.0)


def test_many_samples_keep_their_order(tokenizer: Any, tmp_path: Path) -> None:
    columns = {"sentence": [" ".join(["yes"] * (index % 50 + 1)) for index in range(4500)]}
    rows = [{"sentence": text, "label": index % 2} for index, text in enumerate(columns["sentence"])]
    (tmp_path / "data.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    features = task("sst2", tmp_path / "data.jsonl").train_features(tokenizer)
    assert features["length"][:] == [index % 50 + 3 for index in range(4500)]
    assert features["labels"][:] == [index % 2 for index in range(4500)]


def test_outputs_are_checked(tokenizer: Any, tmp_path: Path) -> None:
    found = evaluation(task("mnli", validation=write(tmp_path / "data.csv", "mnli", [0, 1])), tokenizer)
    with pytest.raises(ValueError, match=r"expected \(3,\)"):
        found.score([np.zeros(2)] * 2)
    with pytest.raises(ValueError, match="1 outputs for the 2 features of matched"):
        found.score([np.zeros(3)])


def hub(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str | None, str]]:
    import datasets

    asked: list[tuple[str, str | None, str]] = []

    def load(name: str, subset: str, split: str) -> Any:
        asked.append((name, subset, split))
        last = 0 if split == "validation_mismatched" else 1
        columns = {column: ["yes", "no"] for column in GLUE[subset].columns}
        return datasets.Dataset.from_dict({**columns, "label": [1, last], "idx": [0, 1]})

    monkeypatch.setattr(datasets, "load_dataset", load)
    return asked


def test_mnli_from_the_hub_has_two_validation_sets(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = hub(monkeypatch)
    chosen = task("mnli")
    matched, mismatched = chosen.eval_sets(tokenizer)
    assert (matched.name, mismatched.name) == ("matched", "mismatched")
    assert matched.score(one_hot([1, 1], 3)).metrics == {"accuracy": 100.0}
    assert mismatched.score(one_hot([1, 1], 3)).metrics == {"accuracy_mismatched": 50.0}
    assert chosen.baseline_score() == {"accuracy": 100.0, "accuracy_mismatched": 50.0}
    splits = ("validation_matched", "validation_mismatched")
    assert asked == [("nyu-mll/glue", "mnli", split) for split in splits]


def test_mnli_from_a_file_has_one(tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = hub(monkeypatch)
    chosen = task("mnli", validation=write(tmp_path / "data.csv", "mnli", [0, 1]))
    assert names(chosen) == ("accuracy",)
    assert [found.name for found in chosen.eval_sets(tokenizer)] == ["matched"]
    assert asked == []
    assert names(task("mnli", train=tmp_path / "data.csv")) == ("accuracy", "accuracy_mismatched")


def test_other_tasks_from_the_hub(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = hub(monkeypatch)
    for name in ("stsb", "qqp"):
        assert task(name).train_features(tokenizer)["labels"][:] == [1, 1]
        assert evaluation(task(name), tokenizer).name == "validation"
    assert [split for _, _, split in asked] == ["train", "validation"] * 2


def test_batches_are_padded_to_their_longest(tokenizer: Any, tmp_path: Path) -> None:
    import torch

    rows = [{"sentence": "yes no", "label": 1}, {"sentence": "yes", "label": 0}]
    (tmp_path / "data.json").write_text(json.dumps(rows))
    chosen = task("sst2", tmp_path / "data.json")
    features = chosen.train_features(tokenizer)
    batch = chosen.collator(tokenizer)([features[index] for index in range(2)])
    assert {name: tensor.tolist() for name, tensor in batch.items()} == {
        "input_ids": [[2, 4, 5, 3], [2, 4, 3, 0]],
        "token_type_ids": [[0] * 4] * 2,
        "attention_mask": [[1] * 4, [1, 1, 1, 0]],
        "labels": [1, 0],
    }
    assert all(tensor.dtype == torch.int64 for tensor in batch.values())


def test_labels_of_a_regression_stay_numbers(tokenizer: Any, tmp_path: Path) -> None:
    import torch

    chosen = task("stsb", write(tmp_path / "data.csv", "stsb", [3, 4.5]))
    batch = chosen.collator(tokenizer)(list(chosen.train_features(tokenizer)))
    assert batch["labels"].dtype == torch.float32 and batch["labels"].tolist() == [3.0, 4.5]
    assert "length" not in batch


def test_padding_needs_a_token(tokenizer_without_padding: Any) -> None:
    with pytest.raises(UsageError, match="no padding token"):
        task("sst2").collator(tokenizer_without_padding)
