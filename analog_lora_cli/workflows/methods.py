"""Methods: the trainings of a folder of `train --seeds`, measured together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from analog_lora_cli.config.load import differences
from analog_lora_cli.errors import UsageError
from analog_lora_cli.workflows.subject import Subject

if TYPE_CHECKING:
    from analog_lora_cli.evaluation.drift_result import DriftResult
    from analog_lora_cli.evaluation.training_seeds import SeedGroup
    from analog_lora_cli.workflows.evaluate import Evaluation


def check_methods(plan: Sequence[Subject]) -> None:
    """Check that the trainings of a folder differ in their seed alone."""
    firsts: dict[Path, Subject] = {}
    seeds: dict[tuple[Path, int], Subject] = {}
    for one in plan:
        if one.group is None:
            continue
        first = firsts.setdefault(one.group, one)
        own = ("train.seed:", "reference.", *(f"hardware.{key}:" for key in one.config.hardware.measured_keys))
        other = [line for line in differences(first.config, one.config) if not line.startswith(own)]
        if other:
            raise UsageError(
                f"{one.group}: {first.checkpoint.folder.name} and {one.checkpoint.folder.name} are not trainings of "
                f"one method: {other[0]}"
            )
        twin = seeds.setdefault((one.group, one.config.train.seed), one)
        if twin is not one:
            raise UsageError(
                f"{one.group}: {twin.checkpoint.folder.name} and {one.checkpoint.folder.name} have the same train.seed "
                f"{one.config.train.seed}: one training counts once"
            )


def methods(measured: Sequence[Evaluation]) -> list[SeedGroup]:
    """The methods: evaluations by the folder of `train --seeds` that they belong to; empty if there are none."""
    from analog_lora_cli.evaluation.training_seeds import SeedGroup

    by_folder: dict[Path, list[DriftResult]] = {}
    for one in measured:
        if one.subject.group is not None:
            by_folder.setdefault(one.subject.group, []).append(one.result)
    if any(len(results) < 2 for results in by_folder.values()):
        return []  # One training stands for itself, not for its method.
    names = [folder.resolve().name for folder in by_folder]
    distinct = len(set(names)) == len(names)
    return [
        SeedGroup(folder.resolve().name if distinct else str(folder), results) for folder, results in by_folder.items()
    ]


def with_what_is_stored(group: SeedGroup, stored: Sequence[DriftResult]) -> SeedGroup:
    """A method with all that is stored of its trainings, where that is the same chips and conditions for all of them.

    Args:
        group: what was asked for.
        stored: the stored results of the same trainings.
    """
    alike = len({(tuple(one.chips), tuple(one.conditions)) for one in stored}) == 1
    return replace(group, results=stored) if alike else group
