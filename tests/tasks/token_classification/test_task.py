"""Token classification on columns of any name, and CoNLL text."""

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
from tests.tasks.section import task_section

TAGS = ["B-PART", "I-PART", "O"]
ROWS = [
    {"words": ["yes", "the", "tile", "drifts"], "ner": ["O", "B-PART", "I-PART", "O"]},
    {"words": ["no"], "ner": ["O"]},
    {"words": ["array"], "ner": ["B-PART"]},
]


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    """A file of the kind that its suffix says."""
    if path.suffix == ".json":
        path.write_text(json.dumps(rows))
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows))
    elif path.suffix == ".parquet":
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        sentences = ["\n".join(f"{w} x {t}" for w, t in zip(row["words"], row["ner"], strict=True)) for row in rows]
        path.write_text("\n\n".join(sentences))
    return str(path)


def task(train_file: str | None, validation: str | None = None, **keys: Any) -> Any:
    options = {"tokens_column": "words", "tags_column": "ner", **keys}
    files = {"train_file": train_file, "validation_file": validation}
    return make_task(task_section(name="token_classification", **files, **options), seed=3)


def outputs(found: Any, codes: list[int], count: int = 3) -> list[Any]:
    """Logits of windows whose sentences fit into one each, with one token a word."""
    rows, start = [], 0
    for length in found.features["length"]:
        tags = [0, *codes[start : start + length - 2], 0]
        rows.append(np.eye(count, dtype=np.float32)[tags])
        start += length - 2
    return rows


@pytest.mark.parametrize("name", ["data.json", "data.jsonl", "data.parquet", "eng.train"])
def test_every_format_from_file_to_score(name: str, tokenizer: Any, tmp_path: Path) -> None:
    file = write(tmp_path / name, ROWS)
    keys = {} if name != "eng.train" else {"tokens_column": "tokens", "tags_column": "tags"}
    chosen = task(file, file, **keys)
    assert chosen.model_options() == {
        "num_labels": 3,
        "id2label": dict(enumerate(TAGS)),
        "label2id": {"B-PART": 0, "I-PART": 1, "O": 2},
    }
    features = chosen.train_features(tokenizer)
    assert features["input_ids"][:] == [[2, 4, 1, 1, 1, 3], [2, 5, 3], [2, 1, 3]]
    assert features["labels"][:] == [[-100, 2, 0, 1, 2, -100], [-100, 2, -100], [-100, 0, -100]]
    (found,) = chosen.eval_sets(tokenizer)
    assert found.truth["words"].tolist() == [4, 1, 1] and found.truth["entities"].tolist() == [1, 0, 1]
    perfect = {"f1": 100.0, "precision": 100.0, "recall": 100.0, "accuracy": 100.0}
    assert found.score(outputs(found, [2, 0, 1, 2, 2, 0])).metrics == perfect
    # Of two entities one is right, one is too short, and a third is made up.
    scores = found.score(outputs(found, [2, 0, 2, 2, 0, 0]))
    assert scores.metrics == pytest.approx({"f1": 40.0, "precision": 100 / 3, "recall": 50.0, "accuracy": 400 / 6})
    assert scores.samples["right_entities"].tolist() == [0, 0, 1]
    assert scores.samples["predicted_entities"].tolist() == [1, 1, 1]
    assert chosen.baseline_score() == {"f1": 0.0, "precision": 0.0, "recall": 0.0, "accuracy": 50.0}


def test_a_long_sentence_loses_no_word(letter_tokenizer: Any, tmp_path: Path) -> None:
    rows = [{"words": list("abcdefghijkl"), "ner": [str(number) for number in range(12)]}]
    file = write(tmp_path / "data.json", rows)
    chosen = task(file, file, max_length=8, doc_stride=3)
    labels = [label for row in chosen.train_features(letter_tokenizer)["labels"] for label in row if label != -100]
    assert labels == list(range(12))
    (found,) = chosen.eval_sets(letter_tokenizer)
    # Each letter's own tag wherever it stands: `a` has token 4, and so on.
    logits = [np.eye(16)[np.maximum(np.array(row) - 4, 0)][:, :12] for row in found.features["input_ids"]]
    assert len(logits) > 2 and found.score(logits).metrics == {"accuracy": 100.0}


def test_an_objective_compares_the_words_that_count() -> None:
    import torch

    logits = torch.arange(24.0).reshape(2, 4, 3)
    labels = torch.tensor([[-100, 1, -100, 0], [-100, 2, -100, -100]])
    (choices,) = task(None).choices({"logits": logits}, {"labels": labels})
    assert choices.tolist() == logits[[0, 0, 1], [1, 3, 1]].tolist()


def test_a_module_of_the_user(tokenizer: Any, tmp_path: Path) -> None:
    folder = tmp_path / "sentences"
    folder.mkdir()
    folder.joinpath("sentences.py").write_text(
        "import datasets\nimport evaluate\n\n\n"
        "class Sentences(evaluate.Metric):\n"
        "    def _info(self):\n"
        "        kind = datasets.List(datasets.Value('string'))\n"
        "        kinds = datasets.Features({'predictions': kind, 'references': kind})\n"
        "        return evaluate.MetricInfo(description='', citation='', inputs_description='', features=kinds)\n\n"
        "    def _compute(self, predictions, references):\n"
        "        return {'whole': sum(p == r for p, r in zip(predictions, references))}\n"
    )
    file = write(tmp_path / "data.json", ROWS)
    chosen = task(file, file, metrics=["accuracy", {"name": str(folder), "higher_is_better": True, "scale": 10}])
    assert chosen.config.own_code == [str(folder)]
    (found,) = chosen.eval_sets(tokenizer)
    metrics = found.score(outputs(found, [2, 0, 1, 2, 0, 0])).metrics
    assert metrics == {"accuracy": pytest.approx(500 / 6), "sentences": 20.0}


def test_tags_that_mark_no_entities(tokenizer: Any, tmp_path: Path) -> None:
    file = write(tmp_path / "data.json", [{"words": ["yes", "no", "no"], "ner": [2, 10, 2]}])
    chosen = task(file, file)
    assert chosen.tags.names == ["2", "10"] and [metric.name for metric in chosen.metrics] == ["accuracy"]
    assert chosen.baseline_score() == pytest.approx({"accuracy": 200 / 3})
    with pytest.raises(UsageError, match="task.metrics: f1 counts entities.*these data have '2': use accuracy"):
        task(file, file, metrics=["accuracy", "f1"]).train_features(tokenizer)


def test_a_share_is_kept_apart_for_validation(tokenizer: Any, tmp_path: Path) -> None:
    rows = [{"words": ["yes"] * (row + 1), "ner": ["O", *["B-PART"] * row]} for row in range(20)]
    chosen = task(write(tmp_path / "data.jsonl", rows), validation_share=0.25, max_train_samples=9, max_eval_samples=4)
    features = chosen.train_features(tokenizer)
    (found,) = chosen.eval_sets(tokenizer)
    lengths = [*features["length"], *found.features["length"]]
    assert len(features) == 9 and len(found.features) == 4 and len(set(lengths)) == 13
    for row in features:
        assert row["labels"] == [-100, 1, *[0] * (row["length"] - 3), -100]
    assert found.truth["words"].tolist() == [length - 2 for length in found.features["length"]]
    assert chosen.data_files()["validation"] == chosen.data_files()["train"]


def test_tags_that_the_hub_numbers(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    names = datasets.ClassLabel(names=["O", "B-PART"])
    types = datasets.Features({"words": datasets.List(datasets.Value("string")), "ner": datasets.List(names)})
    data = datasets.Dataset.from_dict({"words": [["yes", "no"]] * 10, "ner": [[0, 1]] * 10}, features=types)
    monkeypatch.setattr(datasets, "load_dataset", lambda *arguments, split: data)
    chosen = task(None, dataset="someone/tags")
    assert chosen.tags.names == ["B-PART", "O"]
    assert chosen.train_features(tokenizer)["labels"][0] == [-100, 1, 0, -100]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"words": ["a", "b"], "ner": ["O"]}, "data.json, row 4: 2 words in column 'words', but 1 tags in 'ner'"),
        ({"words": ["a"], "ner": [""]}, "row 4, column 'ner', word 1: the label is empty"),
        ({"words": ["a", "b"], "ner": ["O", None]}, "row 4, column 'ner', word 2: the label is empty"),
        ({"words": ["a"], "ner": [-1]}, "row 4, column 'ner', word 1: label -1 marks unlabelled data"),
        ({"words": ["a", 7], "ner": ["O", "O"]}, "row 4: column 'words', word 2 must be text, not 7"),
        ({"words": "a b", "ner": ["O", "O"]}, "row 4: column 'words' must hold a list, not 'a b'"),
        ({"words": [], "ner": []}, "row 4: column 'words' holds an empty list; leave the row out"),
        ({"words": ["a"], "tags": ["O"]}, "row 4: the column 'ner' is missing; present: 'words', 'tags'"),
    ],
)
def test_wrong_rows(row: dict[str, Any], message: str, tokenizer: Any, tmp_path: Path) -> None:
    file = write(tmp_path / "data.json", [*ROWS, row])
    with pytest.raises(DataError, match=message):
        task(file, file).train_features(tokenizer)


def test_labels_that_are_no_tags(tmp_path: Path) -> None:
    one = write(tmp_path / "one.json", [{"words": ["a", "b"], "ner": ["O", "O"]}])
    with pytest.raises(DataError, match=r"one.json: column 'ner' holds only one tag, 'O'"):
        task(one, one).model_options()
    many = write(tmp_path / "many.json", [{"words": ["a"], "ner": [f"word {row}"]} for row in range(1001)])
    with pytest.raises(DataError, match="holds 1001 different values.*these are no tags"):
        task(many, many).model_options()


def test_a_tag_of_the_validation_data_only(tokenizer: Any, tmp_path: Path) -> None:
    file = write(tmp_path / "train.json", ROWS)
    validation = write(tmp_path / "validation.json", [*ROWS, {"words": ["a", "b"], "ner": ["O", "I-PRAT"]}])
    message = r"validation.json, row 4, column 'ner', word 2: the label 'I-PRAT' appears in the validation data only"
    with pytest.raises(DataError, match=message + r".*is 'I-PART' meant\?"):
        task(file, validation).eval_sets(tokenizer)
    with pytest.raises(DataError, match=r"the label 'I-PART' is none of task.labels \(B-PART, O\)"):
        task(file, file, labels=["B-PART", "O"]).eval_sets(tokenizer)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("metrics: [acuracy]", "got 'acuracy'; did you mean accuracy?"),
        ("metrics: [f1_macro]", "f1_macro compares classes or sets of classes, this task has tags: use one of"),
        ("metrics: [f1, f1]", "f1 stands there twice"),
        ("tags_column: tokens", "'tokens' is the tokens_column too"),
        ("doc_stride: 320", "doc_stride (320) must be below max_length (320)"),
        ("label_column: tags", "label_column: unknown key for task token_classification"),
        ("tag_column: tags", "did you mean task.tags_column"),
    ],
)
def test_wrong_keys(keys: str, message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    command = ["train", "--preset", "squad-lora", "--output", str(tmp_path / "run")]
    assert main([*command, "--set", f"task={{name: token_classification, {keys}}}"]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()


def test_the_checkpoint_and_the_export_hold_the_tags(
    make_config: Callable[..., Config], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Later commands do not need the training file, and the merged model tags running text."""
    from transformers import pipeline

    rows = [{"words": ["the", *["chip"] * (row % 3), "drifts"], "ner": ["O", *["B-PART"] * (row % 3), "O"]}
            for row in range(40)]  # fmt: skip
    file, validation = write(tmp_path / "train.jsonl", rows), write(tmp_path / "validation.jsonl", rows[:12])
    keys = {"tokens_column": "words", "tags_column": "ner"}
    config = make_config(
        task={"name": "token_classification", "train_file": file, "validation_file": validation, **keys},
        train={"max_steps": 20, "learning_rate": 2e-2},
        drift={"chips": 2, "times": ["1y"]},
    )
    result = train(config, tmp_path / "run")
    assert result.drift is not None and result.drift.digital["f1"] == 100.0
    assert settled(config).task.model_dump()["labels"] == ["B-PART", "O"]
    Path(file).unlink()
    run = str(tmp_path / "run")
    assert main(["evaluate-drift", run, "--quiet", "--chips", "3", "--seed", "5", "--require", "f1>=1@1y"]) == 0
    drift = json.loads((tmp_path / "run/drift/default/drift.json").read_text())
    assert drift["metric"] == "f1" and list(drift["digital"]) == ["f1", "precision", "recall", "accuracy"]
    assert all(metric["ci95"] is not None for metric in drift["times"][0]["metrics"].values())
    assert main(["export", run, "--format", "merged", "--output", str(tmp_path / "merged"), "--quiet"]) == 0
    readme = (tmp_path / "merged/README.md").read_text()
    assert "pipeline_tag: token-classification" in readme and "AutoModelForTokenClassification" in readme
    tag = pipeline("token-classification", str(tmp_path / "merged"), aggregation_strategy="simple")
    assert [(one["entity_group"], one["word"]) for one in tag("the chip drifts")] == [("PART", "chip")]
    capsys.readouterr()
