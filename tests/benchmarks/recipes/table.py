"""Tables of a round: one for each task, and the ranking that decides who goes on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from rich.table import Table

from analog_lora_cli.runtime import console
from tests.benchmarks.recipes.plan import DIGITAL
from tests.benchmarks.recipes.runs import Outcome, Run
from tests.benchmarks.recipes.score import difference, last, level, share, worst

Outcomes = Mapping[str, Sequence[Outcome]]
"""Outcomes of a task's runs by recipe, one for each training seed."""

COLUMNS = [
    "recipe", "seeds", "digital", "last time", "drop over log time", "gain", "share", "drop at last", "gain", "share",
    "recalibrated", "gain", "share", "worst chip", "s", "forwards",
]  # fmt: skip
CAPTION = (
    "baseline: {}. drop: digital recipe minus this one; gain: this one minus the baseline; [Welch's 95 % interval over "
    "training seeds]; share: of the baseline's drop"
)


def by_task(runs: Sequence[Run]) -> dict[str, dict[str, list[Outcome]]]:
    """Outcomes of the finished runs by task and recipe."""
    found: dict[str, dict[str, list[Outcome]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        if run.drift_json.exists():
            found[run.task][run.recipe].append(run.outcome())
    return {task: dict(recipes) for task, recipes in found.items()}


def rows(outcomes: Outcomes, baseline: str) -> list[list[str]]:
    """Rows of a task's table under `COLUMNS`, see `CAPTION`; cells of the baseline against itself are empty."""
    digital = [one.digital for one in outcomes[DIGITAL]]
    reference = outcomes.get(baseline, ())
    levels, lasts = [level(one) for one in reference], [last(one) for one in reference]
    return [
        [
            name,
            str(len(own)),
            f"{np.mean([one.digital for one in own]):.2f}",
            f"{np.mean([last(one) for one in own]):.2f}",
            *_compared(digital, () if name == baseline else levels, [level(one) for one in own]),
            *_compared(digital, () if name == baseline else lasts, [last(one) for one in own]),
            *_compared(digital, lasts, [last(one, recalibrated=True) for one in own if one.recalibrated]),
            f"{worst(own):.2f}",
            f"{np.mean([one.seconds for one in own]):.0f}",
            f"{np.mean([one.forward_passes for one in own]):.0f}",
        ]
        for name, own in outcomes.items()
    ]


def _compared(digital: Sequence[float], baseline: Sequence[float], own: Sequence[float]) -> list[str]:
    """Drop, gain and share of a recipe; empty where one of both was not measured."""
    if not own:
        return [""] * 3
    dropped = str(difference(digital, own))
    return (
        [dropped, str(difference(own, baseline)), f"{share(digital, baseline, own):.2f}"]
        if baseline
        else [dropped, "", ""]
    )


def ranking(tasks: Mapping[str, Outcomes], recipes: Sequence[str]) -> list[str]:
    """Recipes by the mean over tasks of their drop over log time, in units of the digital recipe's spread of seeds.

    The unit makes points of accuracy comparable with those of other metrics; it is at least 0.5 of the metric's unit,
    so that three seeds that happen to agree do not decide.
    """

    def mean_drop(recipe: str) -> float:
        drops = []
        for outcomes in tasks.values():
            digital = [one.digital for one in outcomes[DIGITAL]]
            unit = max(float(np.std(digital, ddof=1)), 0.5)
            drops.append((np.mean(digital) - np.mean([level(one) for one in outcomes[recipe]])) / unit)
        return float(np.mean(drops))

    return sorted(recipes, key=mean_drop)


def show(tasks: Mapping[str, Outcomes], baseline: str, *, markdown: bool) -> None:
    """Print a table for each task to stdout."""
    for task, outcomes in tasks.items():
        if DIGITAL not in outcomes:
            continue
        if markdown:
            print(f"\n**{task}**\n\n| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
            for row in rows(outcomes, baseline):
                print(f"| {' | '.join(row)} |")
            print(f"\n{CAPTION.format(baseline)}")
            continue
        table: Table = console.table(task, *COLUMNS, caption=CAPTION.format(baseline))
        for row in rows(outcomes, baseline):
            table.add_row(*row)
        console.results().print(table)
