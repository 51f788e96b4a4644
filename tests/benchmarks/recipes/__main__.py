"""Compare training recipes by successive halving. `python -m tests.benchmarks.recipes PLAN.yaml --output DIR`.

Every run is a checkpoint folder below DIR. The same command continues what was interrupted, and several processes that
run it share the runs. A round goes on only when all of its runs are finished.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from analog_lora_cli.errors import AnaloraError
from tests.benchmarks.recipes import runs, table
from tests.benchmarks.recipes.plan import DIGITAL, Plan, read_plan


def main() -> int:
    """Run all rounds; 1 if runs are left that failed or that other processes work on."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plan", type=Path, help="YAML file of tasks, recipes and rounds, such as encoders.yaml")
    parser.add_argument("--output", type=Path, required=True, help="folder of all runs")
    parser.add_argument("--data", type=Path, help="folder of the tasks' files")
    parser.add_argument("--dry-run", action="store_true", help="check all configurations and list the first round")
    parser.add_argument("--tables", action="store_true", help="only show what is finished")
    parser.add_argument("--markdown", action="store_true", help="tables as Markdown")
    options = parser.parse_args()
    try:
        plan = read_plan(options.plan)
        _check(plan, options.data)
    except (OSError, ValueError, AnaloraError) as error:
        print(f"error: {options.plan}: {error}", file=sys.stderr)
        return 2
    recipes = list(plan.recipes)
    for number, round_ in enumerate(plan.rounds):
        planned = runs.runs(plan, number, recipes, options.data, options.output)
        if options.dry_run:
            print(f"{len(planned)} runs in round 1 of {len(plan.rounds)}")
            return 0
        left = [] if options.tables else runs.finish(planned, lambda line: print(line, file=sys.stderr, flush=True))
        tasks = table.by_task(planned)
        print(f"round {number + 1}: {round_.steps} steps, {round_.seeds} seeds, {round_.chips} chips")
        table.show(tasks, plan.baseline, markdown=options.markdown)
        if left or any(not run.drift_json.exists() for run in planned):
            return _unfinished(planned)
        if round_.keep is not None:
            recipes = _survivors(plan, tasks, recipes, round_.keep)
            print(f"next round: {', '.join(recipes)}")
    return 0


def _check(plan: Plan, data: Path | None) -> None:
    for round_ in plan.rounds:
        for task in plan.tasks:
            for recipe in plan.recipes:
                plan.config(task, recipe, round_, data)


def _survivors(plan: Plan, tasks: dict[str, dict[str, list[runs.Outcome]]], recipes: list[str], keep: int) -> list[str]:
    always = list(dict.fromkeys([DIGITAL, plan.baseline]))
    others = [recipe for recipe in recipes if recipe not in always]
    return [*always, *table.ranking(tasks, others)[:keep]]


def _unfinished(planned: list[runs.Run]) -> int:
    missing = sum(not run.drift_json.exists() for run in planned)
    print(f"{missing} of {len(planned)} runs are not finished; the same command continues", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
