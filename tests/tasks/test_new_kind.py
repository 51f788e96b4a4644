"""A new kind of task is one class and one registration: everything else asks the task."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest

from analog_lora_cli.cli import main
from analog_lora_cli.config.effects import Affects
from analog_lora_cli.config.registry import TASKS
from analog_lora_cli.config.schema import Config
from analog_lora_cli.config.sections.task import GlueSection, TokenSection
from analog_lora_cli.tasks import EvalSet, Metric, Scores, Task, make_task, register, registry
from analog_lora_cli.tasks.base import Example, FloatArray
from analog_lora_cli.tasks.data.features import mapped_features
from analog_lora_cli.tasks.data.files import locate, read_table
from analog_lora_cli.tasks.sample_statistics import Mean
from analog_lora_cli.workflows.observer import SilentObserver
from analog_lora_cli.workflows.train import train as run_training
from tests.tasks.section import task_section

COLUMNS = ("query", "passage", "relevance")


ERROR = Metric("squared_error", unit="", higher_is_better=False, statistic=Mean("squared_error", scale=1.0))


class RankingSection(TokenSection):
    """Passages ranked by their relevance to a query."""

    name: Annotated[Literal["ranking"], Affects("architecture", "score", "training")] = "ranking"
    """Ranking. Its files are JSONL."""

    depth: Annotated[int, Affects("score")] = 10
    """How many passages count."""


class Ranking(Task):
    """Passages ranked by their relevance to a query, scored by the pairs that stand in the wrong order."""

    section = RankingSection
    auto_class_name = "AutoModelForSequenceClassification"
    peft_task_type = "SEQ_CLS"
    pipeline_tag = "text-ranking"
    metrics = (Metric("inversions", higher_is_better=False), ERROR)

    @property
    def example(self) -> Example:
        return Example(("the tile", "the tile drifts"), "outputs.logits[:, 0]")

    def model_options(self) -> dict[str, Any]:
        return {"num_labels": 1, "problem_type": "regression"}

    def train_features(self, tokenizer: Any) -> Any:
        rows = self._rows("train")
        chosen = [rows[index] for index in self.training_subset(len(rows))]
        return mapped_features({**self._inputs(tokenizer, row), "labels": float(row["relevance"])} for row in chosen)

    def eval_sets(self, tokenizer: Any) -> list[EvalSet]:
        rows = self._rows("validation")
        gold = np.array([float(row["relevance"]) for row in rows])

        def scorer(outputs: Sequence[FloatArray]) -> Scores:
            scores = np.array([float(output[0]) for output in outputs])
            pairs = [(i, j) for i, j in combinations(range(len(gold)), 2) if gold[i] != gold[j]]
            wrong = [(scores[i] < scores[j]) != (gold[i] < gold[j]) for i, j in pairs]
            errors = (scores - gold) ** 2
            metrics = {"inversions": 100 * float(np.mean(wrong)), "squared_error": float(np.mean(errors))}
            return Scores(metrics, {"squared_error": errors})

        return [EvalSet("validation", mapped_features(self._inputs(tokenizer, row) for row in rows), scorer)]

    def outputs(self, result: Any, lengths: Sequence[int]) -> list[FloatArray]:
        return list(result.logits.float().cpu().numpy())

    def baseline_score(self) -> dict[str, float]:
        return {"inversions": 50.0}

    def _rows(self, role: str) -> list[dict[str, Any]]:
        file = getattr(self.config, f"{role}_file")
        return [row.values for row in read_table(locate(file, f"task.{role}_file"), COLUMNS)]

    def _inputs(self, tokenizer: Any, row: dict[str, Any]) -> dict[str, Any]:
        encoded = tokenizer(row["query"], row["passage"], truncation=True, max_length=self.config.max_length)
        return {name: encoded[name] for name in ("input_ids", "attention_mask")}


@pytest.fixture
def ranking(monkeypatch: pytest.MonkeyPatch) -> None:
    """The new kind, registered for one test."""
    for entries in (TASKS, registry._kinds):
        monkeypatch.setattr(entries, "_entries", dict(entries._entries))
    register(Ranking)


@pytest.fixture
def ranked_files(tmp_path: Path) -> tuple[str, str]:
    """A passage is as relevant as it is good."""
    draw, files = random.Random(0), (tmp_path / "train.jsonl", tmp_path / "validation.jsonl")
    for file, count in zip(files, (64, 16), strict=True):
        lines = []
        for row in range(count):
            words = ["good"] * (row % 4) + ["bad"] * (3 - row % 4) + draw.choices(["the", "tile", "chip"], k=3)
            lines.append(json.dumps({"query": "the chip", "passage": " ".join(words), "relevance": row % 4 / 3}))
        file.write_text("\n".join(lines))
    return str(files[0]), str(files[1])


def test_trained_evaluated_required_and_exported(
    ranking: None,
    ranked_files: tuple[str, str],
    make_config: Callable[..., Config],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from transformers import AutoModelForSequenceClassification

    files = {"train_file": ranked_files[0], "validation_file": ranked_files[1]}
    config = make_config(task={"name": "ranking", **files}, train={"max_steps": 4}, drift={"chips": 1, "times": ["1y"]})
    result = run_training(config, tmp_path / "run", SilentObserver())
    assert result.drift is not None and result.drift.headline == Ranking.metrics[0]
    assert result.drift.digital.keys() == {"inversions", "squared_error"}

    command = ["evaluate-drift", str(tmp_path / "run"), "--quiet"]
    assert main([*command, "--require", "inversions:worst<=100@1y"]) == 0
    assert "lower is better" in capsys.readouterr().out
    assert main([*command, "--require", "inversions:worst<0@1y"]) == 3
    assert main([*command, "--require", "inversion<=0@1y"]) == 2
    assert "did you mean inversions?" in capsys.readouterr().err
    assert json.loads((tmp_path / "run/drift/default/drift.json").read_text())["higher_is_better"] is False

    for kind in ("peft", "merged"):
        output = tmp_path / kind
        assert main(["export", str(tmp_path / "run"), "--format", kind, "--output", str(output), "--quiet"]) == 0
        readme = (output / "README.md").read_text()
        assert "pipeline_tag: text-ranking" in readme and "AutoModelForSequenceClassification" in readme
        assert "print(outputs.logits[:, 0])" in readme and "inversions (%) on 1 simulated chips" in readme
        assert "(lower is better)" in readme
    assert AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged").config.num_labels == 1


def test_it_is_listed_where_a_user_looks(ranking: None, capsys: pytest.CaptureFixture[str]) -> None:
    train = ["train", "--preset", "smoke-glue-lora", "--set"]
    assert main([*train, "task.name=rankin"]) == 2
    assert "ranking, got 'rankin'; did you mean ranking?" in " ".join(capsys.readouterr().err.split())
    assert main([*train, "task.depth=3"]) == 2
    assert "task.depth: unknown key" in capsys.readouterr().err
    assert main(["explain", "task"]) == 0
    out = capsys.readouterr().out
    assert "ranking" in out and "depth" in out
    assert main(["explain", "task.depth"]) == 0
    assert "How many passages count." in capsys.readouterr().out


def test_a_name_belongs_to_one_kind(ranking: None) -> None:
    assert isinstance(make_task(task_section(name="ranking"), 0), Ranking)
    with pytest.raises(ValueError, match="task cola is registered already"):
        register(type("Mine", (Ranking,), {"section": GlueSection}))
