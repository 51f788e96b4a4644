"""Disks that fill up while something is saved, and folders that cannot be written."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from analog_lora_cli.runtime.failure import hint
from tests.faults.disks import disk, remount
from tests.faults.process import analora
from tests.faults.work import Undisturbed, Work, left_over, result, see_that_nothing_is_half

slow = pytest.mark.slow


def check_full(work: Work, code: int, said: str, folder: Path) -> None:
    """One error that names the file, the room, and what to do; what is there is whole."""
    assert code == 1, said
    assert said.count("error: ") == 1 and "Traceback" not in said
    assert f"error: {folder}/" in said and "cannot be saved" in said and "MiB are free there. Make room; " in said
    assert said.endswith(hint(work.command(folder)))
    see_that_nothing_is_half(folder)
    assert left_over(folder) == []


def check_goes_on(work: Work, folder: Path, whole: Path) -> None:
    code, said = analora(*work.command(folder), *work.again, said=folder.parent / "again")
    assert code == 0, said
    assert result(folder) == result(whole)


@pytest.mark.parametrize(
    ("name", "largest_file"),
    [
        pytest.param("train", 1_000, marks=slow),  # analora.yaml
        ("train", 12_000),  # the first saved state
        pytest.param("evaluate-drift", 300, marks=slow),  # the first line of the measurements
        ("evaluate-drift", 1_000),  # the middle of one of the next
        pytest.param("evaluate-drift", 2_900, marks=slow),  # drift.json
        pytest.param("evaluate-drift", 20_000, marks=slow),  # drift.png
        pytest.param("adapt", 12_000, marks=slow),  # a saved state
        pytest.param("export", 10_000, marks=slow),
        ("export --overwrite", 10_000),
    ],
)
def test_no_room_for_a_file(
    name: str, largest_file: int, works: dict[str, Work], undisturbed: Undisturbed, tmp_path: Path
) -> None:
    work = works[name]
    folder = work.prepare(tmp_path / "w")
    before = result(folder)
    code, said = analora(*work.command(folder), said=tmp_path / "said", largest_file=largest_file)
    check_full(work, code, said, folder)
    if name.startswith("export"):
        assert result(folder) == before, "an earlier export stays as it was"
    check_goes_on(work, folder, undisturbed(name)[0])


@slow
@pytest.mark.parametrize("name", ["train", "evaluate-drift", "adapt", "export"])
def test_a_small_disk(name: str, works: dict[str, Work], undisturbed: Undisturbed, tmp_path: Path) -> None:
    """The folder lies on a disk that fills up; with more room the command goes on."""
    work, small = works[name], tmp_path / "disk"
    with disk(small, "400m"):
        folder = work.prepare(small / "w")
        needed = sum(path.stat().st_blocks for path in folder.rglob("*")) // 2
        room = {"train": 300, "evaluate-drift": 30, "adapt": 200, "export": 150}[name]
        remount(small, f"size={needed + room}k")
        code, said = analora(*work.command(folder), said=tmp_path / "said")
        check_full(work, code, said, folder)
        remount(small, "size=400m")
        code, said = analora(*work.command(folder), *work.again, said=tmp_path / "again")
        assert code == 0, said
        found = Path(shutil.copytree(folder, tmp_path / "found"))
    assert result(found) == result(undisturbed(name)[0])


@pytest.mark.parametrize("name", ["train", "evaluate-drift", "adapt", "export"])
def test_a_folder_that_cannot_be_written(name: str, works: dict[str, Work], tmp_path: Path) -> None:
    """One error before anything is computed. Root may write wherever the file system can."""
    work, fixed = works[name], tmp_path / "disk"
    with disk(fixed, "50m"):
        folder = work.prepare(fixed / "w")
        before = result(folder)
        remount(fixed, "ro")
        command = [part for part in work.command(folder) if part != "--quiet"]
        code, said = analora(*command, said=tmp_path / "said")
        assert code == 2
        assert said.startswith(f"error: {folder}") and "no permission to write" in said and said.count("error") == 1
        assert result(folder) == before
        if name == "evaluate-drift":
            code, said = analora(*work.command(folder), "--output", tmp_path / "out", said=tmp_path / "said")
            assert code == 0, f"reading is enough where the output lies elsewhere: {said}"
