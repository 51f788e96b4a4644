"""Weights of classes in the training loss."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from analog_lora_cli.cli import main
from analog_lora_cli.config.schema import Config
from analog_lora_cli.errors import UsageError
from analog_lora_cli.training.arguments import training_arguments
from analog_lora_cli.training.objectives import make_objective
from analog_lora_cli.workflows.train import prepare, settled
from tests.tasks.classification.own_data import task, write

KINDS = ["cold"] * 30 + ["fast"] * 10 + ["warm"] * 20
ROWS = [{"remark": f"the tile is {kind}", "topic": kind} for kind in KINDS]
SETS = [{"remark": "a", "topic": topic} for topic in [["cold"], ["cold", "fast"], ["cold", "warm"], ["cold"]] * 15]


def weights_of(rows: list[dict[str, Any]], tmp_path: Path, setting: object, **keys: Any) -> Any:
    file = write(tmp_path / "data.json", rows)
    return task(file, file, class_weights=setting, **keys)._weights


def test_balanced_weights_are_those_of_scikit_learn(tmp_path: Path) -> None:
    from sklearn.utils.class_weight import compute_class_weight

    expected = compute_class_weight("balanced", classes=np.array(["cold", "fast", "warm"]), y=KINDS)
    assert weights_of(ROWS, tmp_path, "balanced") == pytest.approx(expected)
    assert weights_of(ROWS, tmp_path, "none") is None
    assert weights_of(ROWS, tmp_path, {"fast": 4}) == pytest.approx([1, 4, 1])
    assert weights_of(ROWS, tmp_path, "balanced", labels=["cold", "fast", "slow", "warm"])[2] == 1


def test_balanced_weights_of_sets_are_absent_to_present(tmp_path: Path) -> None:
    assert weights_of(SETS, tmp_path, "balanced", multi_label=True) == pytest.approx([1 / 60, 3, 3])


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("kind", ["supervised", "distillation"])
def test_the_trainer_minimizes_the_weighted_loss(
    kind: str, multi_label: bool, make_config: Callable[..., Config], tmp_path: Path
) -> None:
    """Equal to torch's losses with weights; without weights to the model's own."""
    file = write(tmp_path / "data.json", SETS if multi_label else ROWS)
    weights = {"cold": 0.5, "fast": 2.0, "warm": 7.0}
    losses = []
    for setting in (weights, "none"):
        keys = {"text_columns": ["remark"], "label_column": "topic", "multi_label": multi_label}
        section = {"name": "classification", "train_file": file, "validation_file": file, "class_weights": setting}
        alone = {"weight": 0.0, "hidden_weight": 1e-9} if kind == "distillation" else {}
        config = make_config(task={**section, **keys}, objective={"kind": kind, **alone}, train={"max_steps": 1})
        setup = prepare(config)
        objective: Any = make_objective(config.objective, setup.model.loaded.task)
        trainer: Any = objective.trainer(setup.model, setup.features, training_arguments(config, tmp_path), [], None)
        batch = trainer.data_collator([setup.features[row] for row in (0, 1, 2, 30, 40, 41)])
        setup.model.loaded.module.eval()
        with torch.no_grad():
            loss, outputs = trainer.compute_loss(setup.model.loaded.module, batch, return_outputs=True)
        losses.append(loss.item())
        logits, labels = outputs["logits"], batch["labels"]
        if setting == "none":
            assert loss.item() == pytest.approx(outputs["loss"].item(), rel=1e-6)
            continue
        vector = torch.tensor([0.5, 2.0, 7.0])
        if multi_label:
            log_p, log_not = logits.sigmoid().log(), (-logits).sigmoid().log()
            expected = -(vector * labels * log_p + (1 - labels) * log_not).mean()
        else:
            each = -logits.log_softmax(dim=-1)[torch.arange(6), labels]
            expected = (vector[labels] * each).sum() / vector[labels].sum()
        assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert losses[0] != pytest.approx(losses[1], rel=1e-3)


def test_the_classes_are_listed_with_their_weights(
    tokenizer: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "data.json", ROWS + [{"remark": "a", "topic": "slow"}] * 3)
    task(file, file, class_weights="balanced").note_training_data()
    err = " ".join(capsys.readouterr().err.split())
    assert "weights of the classes: cold 0.525 (30 samples), fast 1.58 (10 samples), slow 5.25 (3 samples)" in err
    assert "few of the 63 training samples are of slow (3)" in err and "class_weights: balanced" not in err
    task(file, file).note_training_data()
    assert "task.class_weights: balanced gives them more weight" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("balance", "task.class_weights: expected none, balanced, or weights of classes as {CLASS: WEIGHT}"),
        ([1, 2], "task.class_weights: expected none, balanced"),
        ({"cold": 0}, "task.class_weights: the weight of class 'cold' must be a number above 0, got 0"),
        ({"cold": "1"}, "the weight of class 'cold' must be a number above 0"),
    ],
)
def test_wrong_weights(setting: object, message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    section = json.dumps({"name": "classification", "train_file": "nowhere.csv", "class_weights": setting})
    assert main(["train", "--preset", "smoke-squad-lora", "--output", str(tmp_path), "--set", f"task={section}"]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_a_weight_of_no_class(make_config: Callable[..., Config], tmp_path: Path) -> None:
    file = write(tmp_path / "data.json", ROWS)
    keys = {"name": "classification", "train_file": file, "text_columns": ["remark"], "label_column": "topic"}
    config = make_config(task={**keys, "class_weights": {"fats": 2.0}})
    with pytest.raises(UsageError, match="task.class_weights: there is no class 'fats'.*cold, fast, warm.*is 'fast'"):
        settled(config)


def test_names_of_weights_are_those_of_a_file() -> None:
    from tests.tasks.section import task_section

    section: Any = task_section(name="classification", class_weights={2: 1, True: 3.5, "good": 2})
    assert section.class_weights == {"2": 1.0, "true": 3.5, "good": 2.0}
