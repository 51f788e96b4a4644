"""The plan of a comparison of recipes: a YAML file of tasks, recipes and rounds."""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from analog_lora_cli.config.load import load_config
from analog_lora_cli.config.schema import Config

DIGITAL = "digital"
"""Name of the recipe that every plan has: the same LoRA without analog simulation, what the others lose against."""


class Strict(BaseModel):
    """An unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TaskPlan(Strict):
    """One task of the comparison."""

    set: list[str]
    """Settings as for `--set`, before those of the recipe."""
    train_file: str | None = None
    """File below `--data`; None: as the settings say."""
    validation_file: str | None = None
    steps_factor: int = Field(default=1, ge=1)
    """Factor on the steps of each round, for a task that learns nothing in fewer."""
    metric: str | None = None
    """Metric to compare, better in the same direction as the task's headline metric; None: that one."""


class Round(Strict):
    """One round of successive halving: every recipe that is left, on every task, with several seeds."""

    steps: int = Field(ge=1)
    seeds: int = Field(ge=2)
    chips: int = Field(ge=1)
    times: list[str]
    set: list[str] = []
    keep: int | None = Field(default=None, ge=1)
    """Number of recipes for the next round, beside digital and the baseline; None in the last round."""


class Plan(Strict):
    """A comparison of recipes."""

    extends: str
    """Preset below everything."""
    set: list[str] = []
    """Settings of all runs."""
    tasks: dict[str, TaskPlan]
    recipes: dict[str, list[str]]
    """Settings of each recipe by its name."""
    baseline: str
    """Recipe that the others are compared with; like digital, it stays in every round."""
    rounds: list[Round] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> Plan:
        for name in (DIGITAL, self.baseline):
            if name not in self.recipes:
                raise ValueError(f"recipes: {name} is missing, the others are compared with it")
        if "method=digital" not in self.recipes[DIGITAL]:
            raise ValueError(f"recipes.{DIGITAL}: needs method=digital")
        return self

    def config(self, task: str, recipe: str, round_: Round, data: Path | None) -> Config:
        """Configuration of the runs of a recipe on a task.

        Args:
            task: name in `tasks`.
            recipe: name in `recipes`.
            round_: steps, chips and times.
            data: folder of the tasks' files.

        Raises:
            ConfigError: a setting is wrong.
            ValueError: a task has files and there is no folder of data.
        """
        own = self.tasks[task]
        files = {"train_file": own.train_file, "validation_file": own.validation_file}
        named = {key: name for key, name in files.items() if name is not None}
        if named and data is None:
            raise ValueError(f"task {task}: its files need --data FOLDER")
        return load_config(
            self.extends,
            overrides=[
                *self.set,
                *own.set,
                *(f"task.{key}={data / name}" for key, name in named.items() if data is not None),
                f"train.max_steps={own.steps_factor * round_.steps}",
                f"drift.chips={round_.chips}",
                f"drift.times=[{', '.join(round_.times)}]",
                *round_.set,
                *self.recipes[recipe],
            ],
        )


def read_plan(file: Path) -> Plan:
    """Read and check a plan.

    Raises:
        OSError, yaml.YAMLError, pydantic.ValidationError: the file cannot be read, or is wrong.
    """
    return Plan.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
