"""SIGKILL at random moments and at dangerous ones: what was finished stays, and a resume ends as if undisturbed."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.faults.process import Command, analora
from tests.faults.work import Undisturbed, Work, left_over, result, see_that_nothing_is_half

SEED = 20240917
NAMES = ["train", "evaluate-drift", "adapt", "export", "export --overwrite"]


def check_kill(work: Work, folder: Path, whole: Path, kill: Command, how: str) -> str:
    """After a kill nothing is half, and the command ends as if there had been none; returns where it was killed."""
    kill.kill()
    stage = where(folder)
    see_that_nothing_is_half(folder)
    again = [*work.command(folder), *work.again]
    code, said = analora(*again, said=folder.parent / "again")
    if code == 2 and work.name == "export":
        assert "holds an export already" in said, (how, stage, said)
        stage = "after the end"
    else:
        assert code == 0, (how, stage, said)
    see_that_nothing_is_half(folder)
    assert result(folder) == result(whole), (how, stage)
    assert left_over(folder) == [], (how, stage)
    return stage


def where(folder: Path) -> str:
    """The last stage that the log tells of; for an export, what lies in its place."""
    log = folder / "c" / "log.txt"
    logs = [log] if log.exists() else list((folder / "c").rglob("log.txt"))
    if not logs:
        return "workspace made" if left_over(folder) else "before anything was written"
    words = [line.split("] ", 1)[1] for line in logs[0].read_text().splitlines() if "] " in line]
    return words[-1].partition(":")[0] if not words[-1].startswith("stage") else words[-1].split(" /")[0]


def kill_after(work: Work, folder: Path, whole: Path, delay: float) -> str:
    work.prepare(folder)
    command = Command(*work.command(folder), said=folder.parent / "said")
    time.sleep(delay)
    return check_kill(work, folder, whole, command, f"{delay:.3f} s")


def kill_at_workspace(work: Work, folder: Path, whole: Path, number: int, delay: float) -> str:
    """Kill while the `number`-th file or folder is being replaced, or as soon as it has been."""
    work.prepare(folder)
    command = Command(*work.command(folder), said=folder.parent / "said")
    seen: set[Path] = set()

    def moment() -> bool:
        seen.update(left_over(folder))
        return len(seen) >= number

    command.wait_until(moment)
    time.sleep(delay)
    return check_kill(work, folder, whole, command, f"workspace {number}, {delay:.4f} s later")


@pytest.mark.parametrize(
    ("name", "number"),
    [("train", 9), ("evaluate-drift", 2), pytest.param("adapt", 7, marks=pytest.mark.slow), ("export --overwrite", 1)],
)
def test_killed_while_a_file_is_replaced(
    name: str, number: int, works: dict[str, Work], undisturbed: Undisturbed, tmp_path: Path
) -> None:
    kill_at_workspace(works[name], tmp_path / "w", undisturbed(name)[0], number, 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_killed_at_random_moments(name: str, works: dict[str, Work], undisturbed: Undisturbed, tmp_path: Path) -> None:
    """Eight kills spread over the whole run and six while files are replaced: 70 over all commands."""
    work, (whole, seconds) = works[name], undisturbed(name)
    draw = random.Random(f"{SEED} {name}")
    stages: Counter[str] = Counter()
    for index in range(8):
        (tmp_path / f"time{index}").mkdir()
        delay = seconds * 1.02 * (index + draw.random()) / 8
        stages[kill_after(work, tmp_path / f"time{index}" / "w", whole, delay)] += 1
    for index in range(6):
        (tmp_path / f"file{index}").mkdir()
        number, delay = draw.randint(1, 14), draw.choice([0.0, 0.001, 0.004, 0.1])
        stages[kill_at_workspace(work, tmp_path / f"file{index}" / "w", whole, number, delay)] += 1
    print(f"\n{name}: {sum(stages.values())} kills, seed {SEED}, run of {seconds:.1f} s: {dict(stages)}")
