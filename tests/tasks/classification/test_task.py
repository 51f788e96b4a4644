"""Classification and regression on columns of any name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analog_lora_cli.cli import main
from analog_lora_cli.config.schema import Config
from analog_lora_cli.errors import DataError, UsageError
from analog_lora_cli.tasks import make_task
from analog_lora_cli.workflows.train import settled, train
from tests.tasks.classification.own_data import task, write
from tests.tasks.section import task_section

KINDS = ["cold", "fast", "good", "warm"]
ROWS = [{"remark": f"the tile is {kind}", "topic": kind} for kind in KINDS * 10]


@pytest.mark.parametrize("suffix", ["csv", "tsv", "json", "jsonl", "parquet", "arrow"])
def test_every_format_from_file_to_score(suffix: str, tokenizer: Any, tmp_path: Path) -> None:
    file = write(tmp_path / f"data.{suffix}", ROWS)
    chosen = task(file, file)
    options = chosen.model_options()
    assert options["id2label"] == dict(enumerate(KINDS)) and options["num_labels"] == 4
    assert chosen.train_features(tokenizer)["labels"][:] == [0, 1, 2, 3] * 10
    (found,) = chosen.eval_sets(tokenizer)
    assert found.score(list(np.eye(4)[[0, 1, 2, 3] * 10])).metrics == {"accuracy": 100.0, "f1": 100.0}
    half = found.score(list(np.eye(4)[[0, 1, 2, 2] * 10])).metrics
    assert half["accuracy"] == 75.0 and half["f1"] == pytest.approx(100 * (1 + 1 + 2 / 3 + 0) / 4)
    assert chosen.baseline_score() == pytest.approx({"accuracy": 25.0, "f1": 100 * 0.4 / 4})


def test_labels_that_are_numbers_stand_in_their_order(tmp_path: Path) -> None:
    rows = [{"remark": "a", "topic": label} for label in (10, 2.0, 2, 10, True)]
    chosen = task(write(tmp_path / "data.json", rows), labels=None)
    assert chosen.scan("train").names == ["10", "2", "true"]
    rows = [{"remark": "a", "topic": label} for label in (10, 9, 2, 10)]
    assert task(write(tmp_path / "data.json", rows), validation_share=0.001, labels=None).scan("train").names
    assert task(write(tmp_path / "own.csv", rows), write(tmp_path / "v.csv", rows)).names == ["2", "9", "10"]


def test_two_columns_are_a_pair(tokenizer: Any, tmp_path: Path) -> None:
    rows = [{"one": "yes", "two": "no no", "topic": kind} for kind in KINDS]
    file = write(tmp_path / "data.jsonl", rows)
    features = task(file, file, text_columns=["one", "two"]).train_features(tokenizer)
    assert features[0]["input_ids"] == [2, 4, 3, 5, 5, 3]


def test_a_share_is_kept_apart_for_validation(tokenizer: Any, tmp_path: Path) -> None:
    rows = [{"remark": "yes " * (row + 1), "topic": KINDS[row % 4]} for row in range(40)]
    file = write(tmp_path / "data.csv", rows)
    parts = []
    for seed in (3, 4):
        section = task_section(
            name="classification", train_file=file, text_columns=["remark"], label_column="topic", validation_share=0.25
        )
        chosen = make_task(section, seed)
        trained = chosen.train_features(tokenizer)["length"][:]
        measured = chosen.eval_sets(tokenizer)[0].features["length"][:]
        assert len(measured) == 10 and sorted([*trained, *measured]) == list(range(3, 43))
        parts.append((trained, measured))
        assert chosen.data_files()["validation"] == chosen.data_files()["train"]
    assert parts[0] == parts[1]


def test_a_subset_keeps_texts_and_labels_together(tokenizer: Any, tmp_path: Path) -> None:
    rows = [{"remark": "yes " * (row + 1), "topic": f"{row % 5}"} for row in range(40)]
    file = write(tmp_path / "data.csv", rows)
    features = task(file, max_train_samples=12).train_features(tokenizer)
    assert len(features) == 12
    assert [(length - 3) % 5 for length in features["length"]] == features["labels"][:]


def test_regression(tokenizer: Any, tmp_path: Path) -> None:
    rows = [{"remark": "yes", "topic": value} for value in ("1.5", "-1", "4e1")]
    file = write(tmp_path / "data.csv", rows)
    chosen = task(file, file, name="regression", metrics=["root_mean_squared_error", "r2"])
    assert chosen.model_options() == {"num_labels": 1, "problem_type": "regression"}
    assert chosen.train_features(tokenizer)["labels"][:] == [1.5, -1.0, 40.0]
    (found,) = chosen.eval_sets(tokenizer)
    scores = found.score([np.array([value]) for value in (1.5, 2.0, 44.0)]).metrics
    assert scores["root_mean_squared_error"] == pytest.approx(np.sqrt(25 / 3))
    assert not chosen.headline.higher_is_better and chosen.headline.unit == ""
    assert chosen.baseline_score()["r2"] == pytest.approx(0)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"remark": "a", "topic": ""}], r"data.json, row 3, column 'topic': the label is empty"),
        ([{"remark": "a", "topic": None}], "row 3, column 'topic': the label is empty"),
        ([{"remark": "a", "topic": 0.5}], r"the label 0.5 must be text or a whole number.*regression"),
        ([{"remark": "a", "topic": -1}], "row 3, column 'topic': label -1 marks unlabelled data"),
        ([{"remark": 7, "topic": "x"}], "row 3: column 'remark' must be text, not 7"),
        ([{"remark": "a", "topics": "x"}], "row 3: the column 'topic' is missing.*is 'topics' meant?"),
    ],
)
def test_wrong_rows(rows: list[dict[str, Any]], message: str, tokenizer: Any, tmp_path: Path) -> None:
    start = [{"remark": "a", "topic": "x"}, {"remark": "a", "topic": "y"}]
    file = write(tmp_path / "data.json", start + rows)
    with pytest.raises(DataError, match=message):
        task(file, file).train_features(tokenizer)


def test_labels_that_are_no_classes(tmp_path: Path) -> None:
    one = write(tmp_path / "one.csv", [{"remark": "a", "topic": "x"}] * 5)
    with pytest.raises(DataError, match=r"one.csv: column 'topic' holds only one class, 'x'"):
        task(one, one).model_options()
    many = write(tmp_path / "many.csv", [{"remark": "a", "topic": f"text {row}"} for row in range(30)])
    with pytest.raises(DataError, match="holds 30 different values in 30 rows.*these are no classes"):
        task(many, many).model_options()


def test_a_label_of_the_validation_data_only(tokenizer: Any, tmp_path: Path) -> None:
    file = write(tmp_path / "train.csv", ROWS)
    validation = write(tmp_path / "validation.csv", [*ROWS[:4], {"remark": "a", "topic": "wram"}])
    message = r"validation.csv, line 6, column 'topic': the label 'wram' appears in the validation data only"
    with pytest.raises(DataError, match=message + r".*is 'warm' meant\?"):
        task(file, validation).eval_sets(tokenizer)
    with pytest.raises(DataError, match=r"the label 'warm' is none of task.labels \(cold, fast, good\)"):
        task(file, file, labels=["cold", "fast", "good"]).eval_sets(tokenizer)


def test_no_data_named() -> None:
    with pytest.raises(UsageError, match="task.train_file: task classification has no data set of its own"):
        task(None).model_options()
    with pytest.raises(DataError, match=r"there is no file nowhere.csv"):
        task("nowhere.csv").model_options()


def test_rare_classes_are_named(tokenizer: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path / "data.csv", [*ROWS, {"remark": "a", "topic": "slow"}] * 3)
    task(file, file).note_training_data()
    assert "few of the 123 training samples are of slow (3)" in " ".join(capsys.readouterr().err.split())
    task(file, file, max_train_samples=60).note_training_data()
    assert "few of the 60 training samples" in " ".join(capsys.readouterr().err.split()), "of those that are drawn"
    task(file, file).train_features(tokenizer)
    file = write(tmp_path / "balanced.csv", ROWS)
    task(file, file).note_training_data()
    assert capsys.readouterr().err == ""


def test_of_two_classes_always_the_second_may_be_the_best_guess(tmp_path: Path) -> None:
    file = write(tmp_path / "two.csv", [{"remark": "a", "topic": name} for name in ["no"] * 7 + ["yes"] * 3])
    assert task(file, file, metrics=["f1"]).baseline_score() == pytest.approx({"f1": 100 * 0.6 / 1.3})


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["task.metrics=[acuracy]"], "did you mean accuracy?"),
        (["task.metrics=[pearson]"], "pearson compares numbers, this task has classes"),
        (["task.metrics=[f1, f1]"], "f1 stands there twice"),
        (["task.metrics=[someone/bleu]"], "does not say which direction is better"),
        (["task.text_columns=[a, a]"], "the column 'a' stands twice"),
        (["task.label_colum=topic"], "label_column"),
        (["task.labels=[x]"], "task.labels"),
    ],
)
def test_wrong_keys(keys: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    command = ["train", "--preset", "smoke-squad-lora", "--output", str(tmp_path / "run"), "--set"]
    changes = ["task={name: classification}", *keys]
    assert (
        main([*command, " --set ".join(changes)] if len(changes) == 1 else [*command, changes[0], "--set", changes[1]])
        == 2
    )
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()


def test_the_checkpoint_and_exports_hold_the_classes(
    make_config: Callable[..., Config], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Later commands do not need the training file."""
    from transformers import AutoConfig

    file, validation = write(tmp_path / "train.csv", ROWS), write(tmp_path / "validation.csv", ROWS[:12])
    keys = {"text_columns": ["remark"], "label_column": "topic", "metrics": ["f1_macro", "matthews_correlation"]}
    config = make_config(
        task={"name": "classification", "train_file": file, "validation_file": validation, **keys},
        train={"max_steps": 4},
        drift={"chips": 2, "times": ["1y"]},
    )
    result = train(config, tmp_path / "run")
    assert result.drift is not None and list(result.drift.digital) == ["f1_macro", "matthews_correlation"]
    assert "labels:" in (tmp_path / "run/analora.yaml").read_text()
    assert settled(config).task.model_dump()["labels"] == KINDS
    Path(file).unlink()
    assert main(["evaluate-drift", str(tmp_path / "run"), "--quiet", "--chips", "3", "--seed", "5"]) == 0
    drift = json.loads((tmp_path / "run/drift/default/drift.json").read_text())
    assert drift["metric"] == "f1_macro" and drift["times"][0]["metrics"]["f1_macro"]["ci95"] is not None
    for kind in ("peft", "merged"):
        output = tmp_path / kind
        assert main(["export", str(tmp_path / "run"), "--format", kind, "--output", str(output), "--quiet"]) == 0
    for folder in ("merged", "peft/base"):
        assert AutoConfig.from_pretrained(tmp_path / folder).id2label == dict(enumerate(KINDS))
    capsys.readouterr()


def test_code_that_only_a_checkpoint_names_is_not_run() -> None:
    from analog_lora_cli.config.adapt import refuse_unnamed_metrics
    from analog_lora_cli.config.load import load_config
    from analog_lora_cli.errors import ConfigError

    metrics = "task.metrics=[accuracy, {name: someone/theirs, higher_is_better: true}]"
    config = load_config("own-classification", overrides=[metrics])
    with pytest.raises(ConfigError, match="someone/theirs is named by the checkpoint alone"):
        refuse_unnamed_metrics(config, [])
    refuse_unnamed_metrics(config, [("--set", {"task": {"metrics": config.task.model_dump()["metrics"]}})])
    refuse_unnamed_metrics(load_config("own-classification"), [])
