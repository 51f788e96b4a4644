"""The sums and differences of the presets of task `reasoning`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from analog_lora_cli.data import generate_arithmetic


def test_committed_files_are_what_the_generator_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["generate_arithmetic", str(tmp_path)])
    generate_arithmetic.main()
    for name, content in generate_arithmetic.generate().items():
        assert (generate_arithmetic.FOLDER / name).read_bytes() == (tmp_path / name).read_bytes() == content


def test_answers_are_right_and_questions_distinct() -> None:
    rows = [json.loads(line) for part in generate_arithmetic.generate().values() for line in part.splitlines()]
    assert len({row["question"] for row in rows}) == len(rows) == 1200
    for row in rows:
        a, sign, b = row["question"].removeprefix("Calculate ").removesuffix(" =").split()
        assert int(row["answer"]) == (int(a) + int(b) if sign == "+" else int(a) - int(b))
    assert sum("+" in row["question"] for row in rows) == 600
