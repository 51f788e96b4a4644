"""Classification with any number of classes for each text."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analog_lora_cli.cli import main
from analog_lora_cli.config.schema import Config
from analog_lora_cli.errors import DataError
from analog_lora_cli.workflows.train import train
from tests.tasks.classification.own_data import task, write
from tests.tasks.section import task_section

CLASSES = ["cold", "fast", "warm"]
SETS = [["cold"], [], ["fast", "cold"], ["warm", "fast"]]
MEMBERS = [[1, 0, 0], [0, 0, 0], [1, 1, 0], [0, 1, 1]]
ROWS: list[dict[str, Any]] = [{"remark": f"the tile is {' '.join(one)}", "topic": one} for one in SETS * 6]


def multi_label(file: str, validation: str | None = None, **keys: Any) -> Any:
    return task(file, file if validation is None else validation, multi_label=True, **keys)


def logits(members: list[list[int]]) -> list[Any]:
    return list(8.0 * np.array(members) - 4.0)


@pytest.mark.parametrize(("suffix", "separator"), [("jsonl", None), ("parquet", None), ("csv", ","), ("tsv", " | ")])
def test_lists_and_texts_from_file_to_score(suffix: str, separator: str | None, tokenizer: Any, tmp_path: Path) -> None:
    rows = ROWS if separator is None else [{**row, "topic": separator.join(row["topic"])} for row in ROWS]
    file = write(tmp_path / f"data.{suffix}", rows)
    chosen = multi_label(file, **({} if separator is None else {"label_separator": separator.strip()}))
    assert chosen.model_options() == {
        "num_labels": 3,
        "problem_type": "multi_label_classification",
        "id2label": dict(enumerate(CLASSES)),
        "label2id": {"cold": 0, "fast": 1, "warm": 2},
    }
    features = chosen.train_features(tokenizer)
    assert features["labels"][:] == MEMBERS * 6
    (found,) = chosen.eval_sets(tokenizer)
    assert {name: column.tolist() for name, column in found.truth.items()} == {
        f"label_{number}": [row[number] for row in MEMBERS] * 6 for number in range(3)
    }
    scores = found.score(logits(MEMBERS * 6))
    assert scores.metrics == {"f1_micro": 100.0, "f1_macro": 100.0, "accuracy": 100.0}
    assert scores.samples["prediction_1"].tolist() == [0, 0, 1, 1] * 6


def test_batches_hold_what_binary_cross_entropy_takes(tokenizer: Any, tmp_path: Path) -> None:
    import torch

    chosen = multi_label(write(tmp_path / "data.json", ROWS))
    features = chosen.train_features(tokenizer)
    batch = chosen.collator(tokenizer)([features[row] for row in range(4)])
    assert batch["labels"].dtype == torch.float32 and batch["labels"].tolist() == MEMBERS


def test_metrics_by_hand(tokenizer: Any, tmp_path: Path) -> None:
    file = write(tmp_path / "data.json", ROWS[:4])
    (found,) = multi_label(file, metrics=["accuracy", "f1_micro", "f1_macro", "precision"]).eval_sets(tokenizer)
    scores = found.score(logits([[1, 0, 0], [0, 0, 1], [1, 0, 0], [0, 1, 0]])).metrics
    # cold: 2 of 2 right. fast: 1 true positive, 1 false negative. warm: 1 false positive, 1 false negative.
    assert scores == pytest.approx(
        {
            "accuracy": 25.0,
            "f1_micro": 100 * 2 * 3 / (4 + 5),
            "f1_macro": 100 * (1 + 2 / 3 + 0) / 3,
            "precision": 100 * (1 + 1 + 0) / 3,
        }
    )


@pytest.mark.parametrize(("threshold", "predicted"), [(0.5, [0, 1, 1]), (0.2, [1, 1, 1]), (0.9, [0, 0, 1])])
def test_the_threshold_is_a_probability(threshold: float, predicted: list[int], tokenizer: Any, tmp_path: Path) -> None:
    chosen = multi_label(write(tmp_path / "data.json", ROWS), threshold=threshold)
    outputs = np.log(np.array([[0.3, 0.7, 0.95]]) / np.array([[0.7, 0.3, 0.05]]))
    assert chosen.answers.predicted(outputs).tolist() == [predicted]


@pytest.mark.parametrize("metric", ["accuracy", "f1_micro", "f1_macro", "f1_weighted"])
def test_no_constant_answer_is_better_than_the_baseline(metric: str, tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    chances = draw.random((50, 3)) < [0.7, 0.4, 0.2]
    rows = [{"remark": "a", "topic": [name for name, has in zip(CLASSES, row, strict=True) if has]} for row in chances]
    chosen = multi_label(write(tmp_path / "data.json", rows), metrics=[metric], labels=CLASSES)
    gold = chosen.labels("validation")
    constants = [np.array([code >> bit & 1 for bit in range(3)]) for code in range(8)]
    values = [chosen.chosen.values(np.broadcast_to(one, gold.shape), gold)[metric] for one in constants]
    assert chosen.baseline_score()[metric] == pytest.approx(max(values))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (7, r"data.json, row 25, column 'topic': the labels 7 must be a list, or text with task.label_separator"),
        (None, "the labels None must be a list"),
        ([0.5], "the label 0.5 must be text or a whole number"),
        (["cold", " "], "row 25, column 'topic': the label is empty"),
        ("cold, fast,cold", "the label 'cold' stands there twice"),
        ([-1], "label -1 marks unlabelled data"),
    ],
)
def test_wrong_labels(value: object, message: str, tokenizer: Any, tmp_path: Path) -> None:
    file = write(tmp_path / "data.json", [*ROWS, {"remark": "a", "topic": value}])
    with pytest.raises(DataError, match=message):
        multi_label(file).train_features(tokenizer)


def test_labels_of_no_class(tokenizer: Any, tmp_path: Path) -> None:
    nothing = write(tmp_path / "nothing.json", [{"remark": "a", "topic": []}] * 4)
    with pytest.raises(DataError, match="nothing.json: column 'topic' holds no class in any row"):
        multi_label(nothing).model_options()
    file = write(tmp_path / "train.json", ROWS)
    other = write(tmp_path / "other.json", [*ROWS[:2], {"remark": "a", "topic": ["cold", "wram"]}])
    message = "other.json, row 3, column 'topic': the label 'wram' appears in the validation data only"
    with pytest.raises(DataError, match=message + r".*is 'warm' meant\?"):
        multi_label(file, other).eval_sets(tokenizer)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"threshold": 0.3}, "threshold has an effect with multi_label: true only"),
        ({"label_separator": "|"}, "label_separator has an effect with multi_label: true only"),
        ({"multi_label": True, "threshold": 1.0}, "task.threshold"),
        (
            {"multi_label": True, "metrics": ["matthews_correlation"]},
            "matthews_correlation compares classes, this task has sets of classes: use one of accuracy, f1, f1_micro",
        ),
        ({"multi_label": 1}, "task.multi_label"),
    ],
)
def test_wrong_keys(changes: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    section = json.dumps({"name": "classification", "train_file": "nowhere.csv", **changes})
    command = ["train", "--preset", "smoke-squad-lora", "--output", str(tmp_path / "run"), "--set", f"task={section}"]
    assert main(command) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()


def test_label_smoothing_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """transformers' label smoother takes one class a sample."""
    task_keys = "task={name: classification, train_file: nowhere.csv, multi_label: true}"
    settings = ["--set", task_keys, "--set", "train.label_smoothing_factor=0.1"]
    assert main(["train", "--preset", "smoke-squad-lora", "--output", str(tmp_path / "run"), *settings]) == 2
    message = "train.label_smoothing_factor: 0.1 does not go with task.multi_label: true; leave one of them out"
    assert message in " ".join(capsys.readouterr().err.split())


def test_trained_measured_and_exported(
    make_config: Callable[..., Config], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Intervals over samples and the classes' names, like everywhere."""
    from transformers import AutoConfig

    file, validation = write(tmp_path / "train.json", ROWS), write(tmp_path / "validation.json", ROWS[:16])
    keys = {"text_columns": ["remark"], "label_column": "topic", "multi_label": True, "class_weights": "balanced"}
    config = make_config(
        task={"name": "classification", "train_file": file, "validation_file": validation, **keys},
        train={"max_steps": 4},
        drift={"chips": 2, "times": ["1y"]},
    )
    result = train(config, tmp_path / "run")
    assert result.drift is not None and list(result.drift.digital) == ["f1_micro", "f1_macro", "accuracy"]
    Path(file).unlink()
    command = ["evaluate-drift", str(tmp_path / "run"), "--quiet", "--overwrite", "--set", "task.threshold=0.3"]
    assert main(command) == 0
    drift = json.loads((tmp_path / "run/drift/default/drift.json").read_text())
    assert all(row["metrics"][name]["ci95"] is not None for row in drift["times"] for name in row["metrics"])
    assert main(["export", str(tmp_path / "run"), "--format", "merged", "--output", str(tmp_path / "out")]) == 0
    exported = AutoConfig.from_pretrained(tmp_path / "out")
    assert exported.id2label == dict(enumerate(CLASSES)) and exported.problem_type == "multi_label_classification"
    assert "print(outputs.logits.sigmoid())" in (tmp_path / "out/README.md").read_text()
    capsys.readouterr()


def test_each_class_is_a_choice_between_yes_and_no(tmp_path: Path) -> None:
    """As distillation compares two models."""
    import torch

    chosen = multi_label(write(tmp_path / "data.json", ROWS))
    logits_NW = torch.tensor([[0.3, -2.0, 1.0], [4.0, 0.0, -0.5]])
    (choices,) = chosen.choices({"logits": logits_NW}, {})
    torch.testing.assert_close(choices.softmax(dim=-1)[:, 0], logits_NW.sigmoid().flatten())


def test_a_head_fits_the_same_classes_and_as_many_for_a_text() -> None:
    def section(**keys: Any) -> Any:
        return task_section(name="classification", labels=["cold", "warm"], **keys)

    assert section(multi_label=True).same_head(section(multi_label=True, threshold=0.3))
    assert not section(multi_label=True).same_head(section())
    assert not section().same_head(task_section(name="classification", labels=["warm", "cold"]))
