"""The runs of a round: each an ordinary checkpoint folder, trained and measured once, shared by processes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from analog_lora_cli.config.schema import Config
from analog_lora_cli.config.times import seconds
from analog_lora_cli.errors import AnaloraError, BusyError
from analog_lora_cli.runtime.libraries import prepare_libraries
from tests.benchmarks.recipes.plan import Plan, Round


@dataclass(frozen=True)
class Run:
    """One training and its measurement."""

    task: str
    recipe: str
    seed: int
    folder: Path
    config: Config
    metric: str | None = None
    """See `TaskPlan.metric`."""

    @property
    def drift_json(self) -> Path:
        """Result; there when the run is finished."""
        return self.folder / "drift" / "default" / "drift.json"

    def finish(self) -> bool:
        """Train and measure what is not there yet; False if another process works on it."""
        if self.drift_json.exists():
            return True
        prepare_libraries()
        from analog_lora_cli.workflows.train import train

        try:
            train(self.config, self.folder, resume=True)
        except BusyError:
            return False
        return True

    def outcome(self) -> Outcome:
        """Read the result of a finished run."""
        found = json.loads(self.drift_json.read_text(encoding="utf-8"))
        metric, sign = self.metric or found["metric"], 1.0 if found["higher_is_better"] else -1.0
        training = json.loads((self.folder / "metrics.json").read_text(encoding="utf-8"))["train"]

        def values(group: list[dict[str, Any]] | None) -> dict[float, list[float]]:
            return {
                seconds(one["label"].split()[0]): [sign * value for value in one["metrics"][metric]["values"]]
                for one in group or []
            }

        return Outcome(
            digital=sign * found["digital"][metric],
            by_time=values(found["times"]),
            recalibrated=values(found["recalibrated"]),
            seconds=training["seconds"],
            forward_passes=training["forward_passes"],
        )


@dataclass(frozen=True)
class Outcome:
    """Result of one run; larger is better."""

    digital: float
    """The task's headline metric, or that of its plan, of the adapter without tiles."""
    by_time: dict[float, list[float]]
    """That of each chip, by seconds after programming."""
    recalibrated: dict[float, list[float]]
    """The same after a recalibration at that time; empty if none was asked for."""
    seconds: float
    forward_passes: int
    """Forward passes of the training, a teacher's included."""


def runs(plan: Plan, number: int, recipes: list[str], data: Path | None, output: Path) -> list[Run]:
    """Plan the runs of a round, seed by seed, so that an unfinished round has every recipe.

    Args:
        plan: the comparison.
        number: index of the round.
        recipes: recipes that are left.
        data: folder of the tasks' files.
        output: folder of all runs.
    """
    round_ = plan.rounds[number]
    return [
        Run(
            task,
            recipe,
            seed,
            output / f"round-{number + 1}" / task / recipe / f"seed-{seed}",
            config,
            plan.tasks[task].metric,
        )
        for seed, task, recipe, config in _configurations(plan, round_, recipes, data)
    ]


def _configurations(
    plan: Plan, round_: Round, recipes: list[str], data: Path | None
) -> Iterator[tuple[int, str, str, Config]]:
    for seed, task, recipe in product(range(round_.seeds), plan.tasks, recipes):
        config = plan.config(task, recipe, round_, data)
        yield seed, task, recipe, config.model_copy(update={"train": config.train.model_copy(update={"seed": seed})})


def finish(planned: list[Run], report: Any) -> list[Run]:
    """Finish runs one by one.

    Args:
        planned: the runs of a round.
        report: called with a line about each run before it starts, and about one that failed.

    Returns:
        those that other processes are working on, or that failed.
    """
    left = []
    for index, run in enumerate(planned):
        report(f"{index + 1}/{len(planned)} {run.task} {run.recipe} seed {run.seed}")
        try:
            if not run.finish():
                left.append(run)
        except AnaloraError as error:
            report(f"  failed: {error}")
            left.append(run)
    return left
