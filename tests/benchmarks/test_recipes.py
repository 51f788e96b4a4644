"""The comparison of recipes: scores, resumption, and who goes on to the next round."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest
import yaml

from tests.benchmarks.recipes import __main__ as command
from tests.benchmarks.recipes.plan import Plan, read_plan
from tests.benchmarks.recipes.runs import Outcome
from tests.benchmarks.recipes.score import drop, level, over_log_time, share
from tests.benchmarks.recipes.table import ranking

PLAN = {
    "extends": "smoke-glue-lora",
    "set": ["drift.reads=1", "drift.draws=1"],
    "tasks": {"sst2": {"set": ["task.max_eval_samples=8", "task.max_train_samples=16"]}},
    "baseline": "paper",
    "recipes": {
        "digital": ["method=digital"],
        "paper": ["hardware.weight_noise=0.067"],
        "ramp": ["hardware.weight_noise=0.067", "hardware.weight_noise_ramp=0.6"],
    },
    "rounds": [
        {"steps": 1, "seeds": 2, "chips": 1, "times": ["0s"], "keep": 1},
        {"steps": 2, "seeds": 2, "chips": 1, "times": ["0s", "1d"]},
    ],
}


def outcome(digital: float, *by_time: float) -> Outcome:
    times = [0.0, 86400.0, 315360000.0]
    return Outcome(digital, {time: [value] for time, value in zip(times, by_time, strict=False)}, {}, 1.0, 1)


def test_mean_over_log_time() -> None:
    day, decade = math.log1p(86400 / 25), math.log1p(315360000 / 25)
    expected = (day * (10 + 20) / 2 + (decade - day) * (20 + 40) / 2) / decade
    assert over_log_time({86400.0: 20.0, 0.0: 10.0, 315360000.0: 40.0}) == pytest.approx(expected)
    assert over_log_time({0.0: 7.0}) == 7.0
    assert level(outcome(0.0, 10.0, 20.0, 40.0)) == pytest.approx(expected)


def test_share_of_the_drop() -> None:
    digital, baseline, own = [90.0, 92.0], [80.0, 82.0], [86.0, 86.0]
    assert drop(digital, own).value == pytest.approx(5.0)
    found = share(digital, baseline, own)
    assert found.value == pytest.approx(0.5) and found.low < 0.5 < found.high
    same = drop([90.0, 90.0], [80.0, 80.0])
    assert (same.low, same.high) == (10.0, 10.0)


def test_ranking_by_the_drop() -> None:
    tasks = {
        "one": {
            "digital": [outcome(90.0, 90.0), outcome(92.0, 92.0)],
            "worse": [outcome(90.0, 80.0), outcome(90.0, 80.0)],
            "better": [outcome(90.0, 89.0), outcome(90.0, 89.0)],
        }
    }
    assert ranking(tasks, ["worse", "better"]) == ["better", "worse"]


def test_shipped_plan_is_valid() -> None:
    plan = read_plan(Path(__file__).parent / "recipes" / "encoders.yaml")
    for round_ in plan.rounds:
        for task in plan.tasks:
            for recipe in plan.recipes:
                assert plan.config(task, recipe, round_, Path("/data")).train.max_steps == round_.steps


def test_plan_needs_its_baselines() -> None:
    with pytest.raises(ValueError, match="recipes: paper is missing"):
        Plan.model_validate({**PLAN, "recipes": {"digital": ["method=digital"]}})
    with pytest.raises(ValueError, match="needs method=digital"):
        Plan.model_validate({**PLAN, "recipes": {"digital": [], "paper": []}})


@pytest.mark.slow
def test_rounds_and_resumption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text(yaml.safe_dump(PLAN))
    monkeypatch.setattr(sys, "argv", ["recipes", str(plan), "--output", str(tmp_path / "runs"), "--markdown"])
    assert command.main() == 0
    printed = capsys.readouterr().out
    assert "next round: digital, paper, ramp" in printed and printed.count("**sst2**") == 2
    results = sorted((tmp_path / "runs").glob("round-*/sst2/*/seed-*/drift/default/drift.json"))
    assert len(results) == 2 * 3 * 2
    seeds = [json.loads(file.read_text())["training_seeds"] for file in results[:2]]
    assert seeds == [[0], [1]]
    before = [file.stat().st_mtime_ns for file in results]
    results[-1].unlink()
    assert command.main() == 0
    assert capsys.readouterr().out == printed
    assert [file.stat().st_mtime_ns for file in results[:-1]] == before[:-1]
