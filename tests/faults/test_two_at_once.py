"""Two processes and one output folder: the second is refused at once, the first does not notice."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.faults.process import Command, analora
from tests.faults.work import Undisturbed, Work, left_over, log_texts, result

slow = pytest.mark.slow


@pytest.mark.parametrize(
    ("name", "more"),
    [
        pytest.param("train", ["--resume"], marks=slow),
        ("train", ["--overwrite"]),
        pytest.param("train", [], marks=slow),
        pytest.param("evaluate-drift", [], marks=slow),
        pytest.param("evaluate-drift", ["--overwrite"], marks=slow),
        pytest.param("adapt", ["--resume"], marks=slow),
        pytest.param("adapt", ["--overwrite"], marks=slow),
        pytest.param("export", [], marks=slow),
        ("export --overwrite", []),
    ],
)
def test_the_second_is_refused(
    name: str, more: list[str], works: dict[str, Work], undisturbed: Undisturbed, tmp_path: Path
) -> None:
    work = works[name]
    folder = work.prepare(tmp_path / "w")
    first = Command(*work.command(folder), said=tmp_path / "first")

    def at_work() -> bool:
        if name.startswith("export"):
            return any((place / "x").exists() for place in left_over(folder))
        return any(len(text.splitlines()) > 12 for text in log_texts(folder))

    assert first.wait_until(at_work)
    first.send(signal.SIGSTOP)
    second = [part for part in work.command(folder) if part != "--quiet"]
    code, said = analora(*second, *more, said=tmp_path / "second")
    first.send(signal.SIGCONT)
    assert code == 2, said
    assert said.count("error: ") == 1 and "another process is writing to this folder" in said
    assert "Placement" not in said, "before anything is computed"
    assert first.wait() == 0, first.text()
    assert result(folder) == result(undisturbed(name)[0])
