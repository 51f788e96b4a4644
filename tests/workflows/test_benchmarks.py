"""Benchmarks over drift through the commands: at the training's end, at an existing checkpoint, resumed, refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analog_lora_cli.cli import main
from analog_lora_cli.config.schema import Config
from analog_lora_cli.workflows.observer import SilentObserver
from analog_lora_cli.workflows.train import train as run_training
from tests.tasks.causal.benchmarks.questions import write_questions

pytest.importorskip("lm_eval")

MakeConfig = Callable[..., Config]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_questions(tmp_path_factory.mktemp("questions"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, make_config: MakeConfig, folder: Path) -> Path:
    """A checkpoint of an instruction task with one benchmark, measured over drift."""
    run = tmp_path_factory.mktemp("trained") / "run"
    config = make_config(
        "instruction",
        task={"benchmarks": ["copa"], "benchmark_folder": str(folder), "max_length": 64},
        train={"max_steps": 2},
        drift={"times": ["0s"], "chips": 2, "reads": 1, "draws": 1, "gaussian": [0.03]},
    )
    run_training(config, run, SilentObserver())
    return run


def evaluate(run: Path, *arguments: object) -> int:
    chips = ["--chips", "2", "--times", "0s,1y", "--reads", "1", "--set", "drift.draws=1"]
    return main(["evaluate-drift", str(run), *chips, *map(str, arguments)])


def result(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "drift.json").read_text())
    return content


def test_a_training_measures_its_benchmarks(trained: Path) -> None:
    content = result(trained / "drift/default")
    assert content["metric"] == "perplexity" and not content["higher_is_better"]
    assert content["samples"]["copa"] == {"samples": 2, "clusters": 2}
    for row in (content["times"][0], content["gaussian"][0]):
        assert row["metrics"]["copa"]["mean"] in (0, 25, 50, 75, 100)
        assert row["metrics"]["copa_margin"]["ci95"] is not None
    metrics = json.loads((trained / "metrics.json").read_text())
    assert {"perplexity", "copa", "copa_margin"} <= metrics["digital"].keys()
    assert "benchmark copa validation" in json.loads((trained / "manifest.json").read_text())["data"]


def test_other_benchmarks_of_an_existing_checkpoint(
    trained: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--set", "task.benchmarks=[piqa,arc_easy]", "--output", tmp_path / "out"]
    assert evaluate(trained, *options, "--limit", 1) == 0
    table = capsys.readouterr().out
    assert max(map(len, table.splitlines())) <= 80
    for name in ("average", "piqa", "arc_easy"):
        assert any(line.split()[:1] == [name] and len(line.split()) == 5 for line in table.splitlines())
    content = result(tmp_path / "out")
    assert content["samples"]["piqa"]["samples"] == 1 and "copa" not in content["digital"]
    one = content["times"][1]["metrics"]
    average = [(a + b) / 2 for a, b in zip(one["piqa"]["values"], one["arc_easy"]["values"], strict=True)]
    assert one["average"]["values"] == pytest.approx(average)


def test_an_interrupted_evaluation_goes_on_and_other_questions_are_another_measurement(
    trained: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    questions = write_questions(tmp_path)
    options = ["--set", f"task.benchmark_folder={questions}", "--output", tmp_path / "out"]
    assert evaluate(trained, *options) == 0
    whole, log = result(tmp_path / "out"), tmp_path / "out/measurements.jsonl"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:4]))
    assert evaluate(trained, *options) == 0 and result(tmp_path / "out") == whole
    capsys.readouterr()
    rows = (questions / "copa.jsonl").read_text()
    (questions / "copa.jsonl").write_text(rows.replace("Birds sing", "Birds sang"))
    assert evaluate(trained, *options) == 2
    assert "data.benchmark copa validation" in capsys.readouterr().err
    assert result(tmp_path / "out") == whole


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("task.benchmarks=[piqua]", "did you mean piqa"),
        ("task.benchmarks=[arc_challenge]", "there is no file"),
        ("task.benchmarks=[copa,copa]", "copa stands there twice"),
        ("task.benchmark_folder=/nowhere", "there is no folder /nowhere"),
        ("task.benchmarks=copa", "task.benchmarks"),
        ("task.benchmarks=[gsm8k]", "together with the question"),
    ],
)
def test_one_clear_error_before_anything_is_written(
    setting: str, message: str, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(trained, "--set", setting, "--output", tmp_path / "out") == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out/drift.json").exists()


def test_adapters_are_compared_on_each_benchmark(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    other = Path(shutil.copytree(trained, tmp_path / "other"))
    shutil.rmtree(other / "drift")
    assert main(["evaluate-drift", str(trained), str(other), "--quiet", "--output", str(tmp_path / "out")]) == 0
    assert "other - run: benchmarks" in capsys.readouterr().out
    content = json.loads((tmp_path / "out/comparison.json").read_text())
    assert content["differences_by_metric"]["copa_margin"]["other"]["0s"]["mean"] == 0
    assert content["differences_by_metric"]["perplexity"] == content["differences"]
