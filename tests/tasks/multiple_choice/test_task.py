"""Multiple choice on columns of any name."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from analog_lora_cli.cli import main
from analog_lora_cli.config.schema import Config
from analog_lora_cli.errors import DataError
from analog_lora_cli.evaluation.evaluator import Evaluator
from analog_lora_cli.models.modules import linear_modules
from analog_lora_cli.models.training_inputs import layer_inputs
from analog_lora_cli.tasks import make_task
from analog_lora_cli.tasks.multiple_choice.features import absent_choices
from analog_lora_cli.workflows.train import prepare, train
from tests.tasks.section import task_section

COLUMNS = ["first", "second", "third"]
KEYS = {"question_column": "ask", "choice_columns": COLUMNS, "label_column": "right"}
ROWS = [
    {"ask": "yes", "first": "no", "second": "no no", "third": "yes no", "right": "0"},
    {"ask": "yes yes", "first": "no no no", "second": "no", "third": "yes", "right": "2"},
    {"ask": "no", "first": "yes", "second": "no no no", "third": "no", "right": "1"},
]


def write(path: Path, rows: Sequence[Mapping[str, Any]]) -> str:
    """A CSV or JSONL file."""
    if path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        path.write_text("\n".join(json.dumps(row) for row in rows))
    return str(path)


def task(file: str, validation: str | None = None, **keys: Any) -> Any:
    names = {"train_file": file, "validation_file": validation or file}
    return make_task(task_section(name="multiple_choice", **names, **{**KEYS, **keys}), seed=3)


def as_list(row: Mapping[str, str], labels: Sequence[str] | None = None) -> dict[str, Any]:
    """The row with its choices in one column."""
    texts = [row[column] for column in COLUMNS]
    return {"ask": row["ask"], "all": texts if labels is None else {"text": texts, "label": labels}}


def test_from_file_to_features_and_score(tokenizer: Any, tmp_path: Path) -> None:
    chosen = task(write(tmp_path / "data.csv", ROWS))
    features = chosen.train_features(tokenizer)
    assert features["labels"][:] == [0, 2, 1]
    assert features[0]["input_ids"] == [2, 4, 3, 5, 3, 2, 4, 3, 5, 5, 3, 2, 4, 3, 4, 5, 3]
    assert features[0]["choice_lengths"] == [5, 6, 6] and features[0]["length"] == 17
    batch = chosen.collator(tokenizer)([features[0], features[1]])
    assert batch["input_ids"].shape == batch["attention_mask"].shape == batch["token_type_ids"].shape == (2, 3, 8)
    assert batch["input_ids"][0, 1].tolist() == [2, 4, 3, 5, 5, 3, 0, 0]
    assert batch["attention_mask"][0].sum(dim=1).tolist() == [5, 6, 6] and batch["labels"].tolist() == [0, 2]

    (found,) = chosen.eval_sets(tokenizer)
    assert found.features["length"][:3] == [5, 6, 6] and len(found.features) == 9
    assert chosen.collator(tokenizer)([found.features[row] for row in (0, 1)])["input_ids"].shape == (2, 1, 6)
    right_and_wrong = np.array([[3.0], [1], [2], [0], [5], [1], [-3], [-2], [-9]])
    scores = found.score(list(right_and_wrong))
    assert scores.samples["prediction"].tolist() == [0, 1, 1]
    assert scores.metrics == pytest.approx({"accuracy": 200 / 3})
    assert chosen.baseline_score() == pytest.approx({"accuracy": 100 / 3})
    with pytest.raises(ValueError, match=r"shape \(2,\), expected \(1,\)"):
        found.score([np.zeros(2)] * 9)


def test_a_context_stands_before_question_and_choice(tokenizer: Any, tmp_path: Path) -> None:
    file = write(tmp_path / "data.csv", [{**row, "passage": "no"} for row in ROWS])
    features = task(file, context_column="passage").train_features(tokenizer)
    assert features[0]["input_ids"][:6] == [2, 5, 3, 4, 5, 3]
    assert features[0]["token_type_ids"][:6] == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize(
    ("labels", "form"),
    [
        ([0, 2, 1], "index"),
        (["1", "3", "2"], "number"),
        (["a", "C", "B"], "letter"),
        (["no", "yes", "no no no"], "text"),
        (["first", "third", "second"], "name"),
    ],
)
def test_every_form_of_label_is_told_from_the_others(labels: list[Any], form: str, tmp_path: Path) -> None:
    file = write(tmp_path / "data.jsonl", [{**row, "right": label} for row, label in zip(ROWS, labels, strict=True)])
    chosen = task(file)
    assert chosen.settled().label_form == form
    assert chosen._gold("train").tolist() == task(file, label_form=form)._gold("validation").tolist() == [0, 2, 1]


def test_choices_in_one_column_with_and_without_labels(tokenizer: Any, tmp_path: Path) -> None:
    plain = [{**as_list(row), "right": int(row["right"])} for row in ROWS]
    expected = task(write(tmp_path / "columns.csv", ROWS)).train_features(tokenizer).to_dict()
    file = write(tmp_path / "list.jsonl", plain)
    assert task(file, choice_columns=["all"]).train_features(tokenizer).to_dict() == expected
    # As in ARC, where some questions have letters and some have numbers.
    labels = [["A", "B", "C"], ["1", "2", "3"], ["A", "B", "C"]]
    named = [
        {**as_list(row, names), "right": names[int(row["right"])]} for row, names in zip(ROWS, labels, strict=True)
    ]
    chosen = task(write(tmp_path / "arc.jsonl", named), choice_columns=["all"])
    assert chosen.form == "name" and chosen.train_features(tokenizer).to_dict() == expected


def test_questions_with_fewer_choices(tokenizer: Any, tmp_path: Path) -> None:
    """What fills a batch up has no part in the loss, nor in evaluation."""
    chosen = task(write(tmp_path / "data.csv", [ROWS[1], {**ROWS[0], "third": ""}]))
    features = chosen.train_features(tokenizer)
    assert features[1]["choice_lengths"] == [5, 6]
    batch = chosen.collator(tokenizer)([features[0], features[1]])
    assert absent_choices(batch["attention_mask"]).tolist() == [[False] * 3, [False, False, True]]
    logits = torch.tensor([[0.5, 1.0, -1.0], [2.0, 1.0, 9.0]])
    alone = torch.stack([cross_entropy(logits[0], torch.tensor(2)), cross_entropy(logits[1, :2], torch.tensor(0))])
    assert chosen.batch_loss({"logits": logits}, batch).item() == pytest.approx(alone.mean().item())
    (found,) = chosen.eval_sets(tokenizer)
    assert len(found.features) == 5
    scores = found.score([np.array([value]) for value in (0.0, 1, 2, 5, 4)])
    assert scores.samples["prediction"].tolist() == [2, 0] and scores.metrics["accuracy"] == 100.0


def test_shares_and_subsets_keep_questions_and_answers_together(tokenizer: Any, tmp_path: Path) -> None:
    rows = [{"ask": "yes " * (row + 1), "first": "a", "second": "b", "right": row % 2} for row in range(40)]
    keys = {**KEYS, "choice_columns": COLUMNS[:2], "train_file": write(tmp_path / "data.csv", rows)}
    section = task_section(
        name="multiple_choice", validation_share=0.25, max_train_samples=9, max_eval_samples=5, **keys
    )
    chosen = make_task(section, seed=3)
    features, (found,) = chosen.train_features(tokenizer), chosen.eval_sets(tokenizer)
    trained = [row["choice_lengths"][0] - 5 for row in features]
    measured = [length - 5 for length in found.features["length"][::2]]
    assert len(trained) == 9 and len(measured) == 5 and not set(trained) & set(measured)
    assert features["labels"][:] == [row % 2 for row in trained]
    assert found.truth["label"].tolist() == [row % 2 for row in measured]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"right": ""}, r"data.jsonl, line 4, column 'right': the label is empty"),
        (
            {"right": "3"},
            r"line 4, column 'right': the label '3' is none of the 3 choices; expected an index \(0 to 2\)",
        ),
        ({"right": -1}, "line 4, column 'right': label -1 marks unlabelled data"),
        ({"right": [1]}, r"line 4, column 'right': the label \[1\] must be text or a number"),
        ({"ask": 7}, "line 4: column 'ask' must be text, not 7"),
        ({"second": ""}, "line 4: column 'second' is empty, but a later choice is not"),
        ({"second": "", "third": None}, "line 4: 1 choices in columns first, second, third; a question needs two"),
        ({"second": ["b"]}, r"line 4: column 'second' must be text, not \[\"b\"\]"),
    ],
)
def test_wrong_rows(change: dict[str, Any], message: str, tokenizer: Any, tmp_path: Path) -> None:
    file = write(tmp_path / "data.jsonl", [*ROWS, {**ROWS[0], **change}])
    with pytest.raises(DataError, match=message):
        task(file).train_features(tokenizer)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ("a, b", "line 1: column 'all' must hold a list of choices.*not 'a, b'.*name all in task.choice_columns"),
        (["a", 3], "line 1: column 'all', choice 2 must be text, not 3"),
        ({"text": ["a", "b"], "label": ["A"]}, "line 1: column 'all': `label` must be a list with one entry for each"),
        (["a"], "line 1: 1 choices in column 'all'; a question needs two"),
    ],
)  # fmt: skip
def test_wrong_lists(choices: Any, message: str, tmp_path: Path) -> None:
    file = write(tmp_path / "data.jsonl", [{"ask": "yes", "all": choices, "right": "a"}])
    with pytest.raises(DataError, match=message):
        task(file, choice_columns=["all"]).form  # noqa: B018


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data.csv, line 1: the column 'fourth' is missing.*"):
        task(write(tmp_path / "data.csv", ROWS), choice_columns=[*COLUMNS, "fourth"]).settled()


def test_labels_that_may_mean_two_things(tmp_path: Path) -> None:
    """Numbers between the first and the last choice count from 0 or from 1; a text may be an index too."""
    rows = [{**row, "right": 1} for row in ROWS]
    with pytest.raises(
        DataError,
        match=r"line 2, column 'right': the label '1' may be meant as number \(choice 'no'\) or as index \(choice "
        r"'no no'\).*set task.label_form to number or index",
    ):
        task(write(tmp_path / "data.csv", rows)).settled()
    assert task(write(tmp_path / "data.csv", rows), label_form="number").settled().label_form == "number"
    sums = [{"ask": "yes", "first": "2", "second": "1", "third": "0", "right": label} for label in "01"]
    with pytest.raises(DataError, match=r"'0' may be meant as text \(choice '0'\) or as index \(choice '2'\)"):
        task(write(tmp_path / "sums.csv", sums)).settled()


def test_the_validation_data_have_the_form_of_the_training_data(tmp_path: Path, tokenizer: Any) -> None:
    letters = [{**row, "right": "ABC"[int(row["right"])]} for row in ROWS]
    chosen = task(write(tmp_path / "train.csv", ROWS), write(tmp_path / "validation.csv", letters))
    with pytest.raises(DataError, match=r"validation.csv, line 2.*'A' is none of the 3 choices; expected an index"):
        chosen.eval_sets(tokenizer)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("task.choice_columns=[question, b]", "the column 'question' stands twice"),
        ("task.choice_columns=[]", "task.choice_columns"),
        ("task.label_form=letters", "task.label_form"),
        ("train.label_smoothing_factor=0.1", "0.1 does not go with task multiple_choice"),
        ("task.choice_column=[a]", "did you mean task.choice_columns?"),
    ],
)
def test_wrong_keys(key: str, message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    output = ["--output", str(tmp_path / "run")]
    kind = ["--set", "task={name: multiple_choice}", "--set", key]
    assert main(["train", "--preset", "smoke-squad-lora", *output, *kind]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()


@pytest.fixture
def tile_questions(tmp_path: Path) -> tuple[str, str]:
    """Which word a question repeats."""
    words = ["good", "bad", "fast", "slow"]
    rows = [
        {"ask": f"the tile is {word}", "first": word, "second": other, "right": "first"}
        for word, other in zip(words * 6, [*words[1:], words[0]] * 6, strict=True)
    ]
    return write(tmp_path / "train.csv", rows), write(tmp_path / "validation.csv", rows[:9])


def configuration(make_config: Callable[..., Config], files: tuple[str, str], **sections: Any) -> Config:
    keys = {**KEYS, "choice_columns": COLUMNS[:2], "train_file": files[0], "validation_file": files[1]}
    return make_config(
        task={"name": "multiple_choice", **keys},
        drift={"chips": 2, "times": ["1y"]},
        train={"max_steps": 3},
        **sections,
    )


def test_one_choice_a_row_gives_what_all_choices_of_a_question_give(
    make_config: Callable[..., Config], tile_questions: tuple[str, str]
) -> None:
    """transformers' model with all choices of a question at once is the reference."""
    model = prepare(configuration(make_config, tile_questions, method="digital")).model.loaded
    module = model.module.eval()
    features = model.task.train_features(model.processor)
    collate = model.task.collator(model.processor)
    batch = collate([features[row] for row in range(9)])
    labels = batch.pop("labels")
    with torch.no_grad():
        together = module(**batch).logits
    (found,) = model.task.eval_sets(model.processor)
    rows = collate([found.features[row] for row in range(18)])
    with torch.no_grad():
        apart = model.task.outputs(module(**rows), [])
    assert torch.tensor(np.stack(apart)).reshape(9, 2).allclose(together, atol=1e-5)
    accuracy = 100 * (together.argmax(dim=1) == labels).double().mean().item()
    evaluator = Evaluator(model.task, model.processor, 4, torch.device("cpu"))
    assert evaluator.run(module).metrics["accuracy"] == pytest.approx(accuracy)


def test_padding_of_choices_is_left_out_of_a_layers_inputs(
    make_config: Callable[..., Config], tile_questions: tuple[str, str]
) -> None:
    """As calibration and recalibration see them: (tokens, in_features)."""
    loaded = prepare(configuration(make_config, tile_questions, method="digital")).model.loaded
    features = loaded.task.train_features(loaded.processor)
    rows = [{**features[0]}, {**features[1]}]
    for name in ("input_ids", "attention_mask", "token_type_ids"):
        if name in rows[0]:
            rows[0][name] = [*rows[0][name], 1]
    rows[0]["choice_lengths"] = [rows[0]["choice_lengths"][0], rows[0]["choice_lengths"][1] + 1]
    batch = loaded.task.collator(loaded.processor)(rows)
    name, layer = next((name, one) for name, one in linear_modules(loaded.plain).items() if name.endswith("query"))
    seen: list[torch.Tensor] = []
    layer_inputs(loaded.plain, {name: layer}, [batch], lambda _, x: seen.append(x))
    assert [len(x) for x in seen] == [int(batch["attention_mask"].sum())]
    assert len(seen[0]) == sum(sum(row["choice_lengths"]) for row in rows) < batch["input_ids"].numel()


def test_trained_measured_over_drift_and_exported(
    make_config: Callable[..., Config], tile_questions: tuple[str, str], tmp_path: Path
) -> None:
    from transformers import AutoModelForMultipleChoice

    objective = {"kind": "distillation", "teacher": "self", "hidden_weight": 0.5}
    config = configuration(make_config, tile_questions, objective=objective)
    result = train(config, tmp_path / "run")
    assert result.drift is not None and list(result.drift.digital) == ["accuracy"]
    assert "label_form: name" in (tmp_path / "run/analora.yaml").read_text()
    drift = json.loads((tmp_path / "run/drift/default/drift.json").read_text())
    assert drift["times"][0]["metrics"]["accuracy"]["ci95"] is not None
    merged = tmp_path / "merged"
    assert main(["export", str(tmp_path / "run"), "--format", "merged", "--output", str(merged), "--quiet"]) == 0
    readme = (merged / "README.md").read_text()
    assert "pipeline_tag: multiple-choice" in readme
    code = readme.partition("```python\n")[2].partition("```")[0].replace('folder = "."', f"folder = {str(merged)!r}")
    scope: dict[str, Any] = {"__name__": "example"}
    exec(code, scope)
    assert scope["outputs"].logits.shape == (1, 2)
    assert AutoModelForMultipleChoice.from_pretrained(merged).config.model_type == "bert"
