"""Two trainings at once on one machine, against one alone: how much each of them slows the other down.

    python -m tests.benchmarks.two_at_once --runs 3

`default` shares the cores as `runtime.cores` does; the other rows set OpenMP's own policy.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

POLICIES: dict[str, dict[str, str]] = {
    "default": {},
    "OpenMP's own": {"GOMP_SPINCOUNT": "300000"},
    "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
}


def trainings(count: int, variables: dict[str, str], steps: int) -> list[float]:
    """Seconds of training of each of some runs that start together."""
    with tempfile.TemporaryDirectory() as work:
        folders = [Path(work) / str(index) for index in range(count)]
        settings = [f"train.max_steps={steps}", "task.max_eval_samples=16", "task.max_train_samples=400"]
        sets = [part for setting in settings for part in ("--set", setting)]
        command = [sys.executable, "-m", "analog_lora_cli", "train", "--preset", "quickstart", "--no-drift", "--quiet"]
        jobs = [
            subprocess.Popen(
                [*command, *sets, "--output", str(folder)], env=os.environ | variables, stdout=subprocess.DEVNULL
            )
            for folder in folders
        ]
        for job in jobs:
            if job.wait():
                raise SystemExit("a training failed")
        return [json.loads((folder / "metrics.json").read_text())["train"]["seconds"] for folder in folders]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3, help="repetitions, interleaved; medians are printed")
    parser.add_argument("--steps", type=int, default=24, help="optimizer steps of each training")
    parser.add_argument("--policies", nargs="+", default=list(POLICIES), choices=list(POLICIES))
    options = parser.parse_args()
    alone: dict[str, list[float]] = {name: [] for name in options.policies}
    together: dict[str, list[float]] = {name: [] for name in options.policies}
    for _ in range(options.runs):
        for name in options.policies:
            alone[name] += trainings(1, POLICIES[name], options.steps)
            together[name] += trainings(2, POLICIES[name], options.steps)
    for name in options.policies:
        one, two = median(alone[name]), median(together[name])
        print(f"{name:14} alone {one:6.2f} s   together {two:6.2f} s each   {two / one:.2f} times slower")


if __name__ == "__main__":
    main()
