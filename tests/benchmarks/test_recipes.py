"""The comparison of recipes: scores, resumption, and who goes on to the next round."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from scipy import stats

from tests.benchmarks.recipes import __main__ as command
from tests.benchmarks.recipes.plan import Plan, read_plan
from tests.benchmarks.recipes.runs import Outcome
from tests.benchmarks.recipes.score import difference, level, over_log_time, share
from tests.benchmarks.recipes.table import COLUMNS, ranking, rows

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


def test_intervals_are_welchs_over_training_seeds() -> None:
    digital, baseline, own = [90.0, 92.0, 91.0], [80.0, 82.0], [86.0, 86.5, 87.0]
    found = difference(digital, own)
    test = stats.ttest_ind(digital, own, equal_var=False).confidence_interval(0.95)
    assert found.value == pytest.approx(4.5) and found.interval == pytest.approx((test.low, test.high))
    assert share(digital, baseline, own) == pytest.approx(0.45)
    assert math.isnan(share(digital, digital, own))
    assert str(difference([90.0], [80.0, 81.0])) == "9.50", "one seed has no spread"
    assert str(difference([90.0, 90.0], [80.0, 80.0])) == "10.00 [10.00, 10.00]"


def test_rows_compare_with_the_digital_recipe_and_with_the_baseline() -> None:
    own_runs = [replace(outcome(90.0, 84.0 + off), recalibrated={0.0: [88.0 - off]}) for off in (-0.5, 0.5)]
    table = rows(
        {
            "digital": [outcome(90.0, 90.0), outcome(92.0, 92.0)],
            "paper": [outcome(90.0, 79.0), outcome(90.0, 83.0)],
            "own": own_runs,
        },
        "paper",
    )
    assert [len(row) for row in table] == [len(COLUMNS)] * 3
    _, paper, own = table
    assert paper[4].startswith("10.00 [") and paper[5:7] == ["", ""] and paper[10:13] == ["", "", ""]
    assert own[4].startswith("7.00 [") and own[5].startswith("3.00 [") and own[6] == "0.70"
    assert own[10].startswith("3.00 [") and own[11].startswith("7.00 [") and own[12] == "0.30"


def test_ranking_by_the_drop() -> None:
    tasks = {
        "one": {
            "digital": [outcome(90.0, 90.0), outcome(92.0, 92.0)],
            "worse": [outcome(90.0, 80.0), outcome(90.0, 80.0)],
            "better": [outcome(90.0, 89.0), outcome(90.0, 89.0)],
        }
    }
    assert ranking(tasks, ["worse", "better"]) == ["better", "worse"]


@pytest.mark.parametrize("name", ["encoders", "finalists", "instructions"])
def test_shipped_plans_are_valid(name: str) -> None:
    plan = read_plan(Path(__file__).parent / "recipes" / f"{name}.yaml")
    factors = {"quickstart": 1, "sst2": 1, "stsb": 2, "instructions": 1}
    for round_ in plan.rounds:
        for task in plan.tasks:
            for recipe in plan.recipes:
                config = plan.config(task, recipe, round_, Path("/data"))
                assert config.train.max_steps == factors[task] * round_.steps


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
