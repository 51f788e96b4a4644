"""Training sets that do not fit into memory, and lines that should not be there."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from analog_lora_cli.errors import DataError
from analog_lora_cli.tasks import make_task
from analog_lora_cli.tasks.data.files import LONGEST_TEXT
from tests.tasks.section import task_section

MIB = 1 << 20


def write_rows(path: Path, rows: int) -> Path:
    """Short sentences of a few words, one of two classes each."""
    generator = random.Random(0)
    words = "the tile reads drifts fast slow chip noise holds weight good bad cold warm unit array".split()
    with path.open("w", encoding="utf-8") as file:
        file.write("sentence,label\n")
        for index in range(rows):
            file.write(f"{' '.join(generator.choices(words, k=generator.randint(3, 12)))},{index % 2}\n")
    return path


@pytest.mark.parametrize("limit", [None, 15_000])
@pytest.mark.parametrize("keys", [{"name": "sst2"}, {"name": "classification", "text_columns": ["sentence"]}])
def test_training_rows_are_never_all_in_memory(
    keys: dict[str, Any], limit: int | None, tokenizer: Any, tmp_path: Path
) -> None:
    file = write_rows(tmp_path / "train.csv", 20_000)
    files = {"train_file": str(file), "validation_file": str(file)}
    task = make_task(task_section(**keys, **files, max_train_samples=limit), seed=0)
    task.train_features(tokenizer)  # What the libraries allocate once.
    tracemalloc.start()
    features = task.train_features(tokenizer)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(features) == (limit or 20_000)
    # As Python lists they take 20 MiB and more.
    assert peak < 6 * MIB, f"{peak / MIB:.1f} MiB"


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "json"])
def test_a_line_without_an_end(suffix: str, tokenizer: Any, tmp_path: Path) -> None:
    text = "ab " * (LONGEST_TEXT // 2)
    content = {
        "csv": f"sentence,label\n{text},1\n",
        "jsonl": f'{{"sentence": "{text}", "label": 1}}\n',
        "json": f'[{{"sentence": "{text}", "label": 1}}]',
    }
    file = tmp_path / f"train.{suffix}"
    file.write_text(content[suffix])
    task = make_task(task_section(name="sst2", train_file=str(file)), seed=0)
    with pytest.raises(DataError, match=r"line 2: malformed CSV: field larger|has 15000000 characters, more than"):
        task.train_features(tokenizer)


OWN_COLUMNS = "task={name: classification, text_columns: [sentence], max_length: 32, validation_file: VALIDATION}"


@pytest.mark.slow
@pytest.mark.parametrize("task", ["task.name=sst2", OWN_COLUMNS])
def test_a_million_rows(task: str, tmp_path: Path) -> None:
    """Peak memory of a run over a million rows against one over ten thousand."""
    peaks = []
    for rows in (10_000, 1_000_000):
        file = write_rows(tmp_path / f"{rows}.csv", rows)
        validation = write_rows(tmp_path / "validation.csv", 100)
        chosen = task.replace("VALIDATION", str(validation))
        settings = [chosen, f"task.train_file={file}", "task.max_train_samples=null", "train.max_steps=20"]
        command = ["train", "--preset", "smoke-glue-lora", "--no-drift", "--output", str(tmp_path / f"run-{rows}")]
        for setting in settings:
            command += ["--set", setting]
        code = (
            "import resource, sys; from analog_lora_cli.cli import main; code = main(sys.argv[1:]); "
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss); sys.exit(code)"
        )
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, "-c", code, *command], env=environment, capture_output=True, text=True, check=True
        )
        peaks.append(int(done.stdout.split()[-1]) / 1024)
    # Held as Python objects the rows would be over a GiB; what grows is the order of the samples and the mapped file.
    assert peaks[1] - peaks[0] < 250, f"{peaks} MiB"
