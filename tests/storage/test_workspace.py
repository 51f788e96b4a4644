"""Folders that are replaced in two steps, and put right if a process ends between them."""

from __future__ import annotations

from pathlib import Path

import pytest
from filelock import FileLock

from analog_lora_cli.storage.files import replacing
from analog_lora_cli.storage.layout import LOCK
from analog_lora_cli.storage.workspace import complete_replacement, put_in_place, remove_left_overs, workspace


class Killed(BaseException):
    """Stands for a kill: nothing after it is done."""


def folder_with(folder: Path, text: str) -> Path:
    folder.mkdir()
    (folder / "file").write_text(text)
    return folder


def break_off_between_the_steps(monkeypatch: pytest.MonkeyPatch, error: type[BaseException]) -> None:
    """Let the second of two renames fail: the one that moves the new folder into its place."""
    replace = Path.replace

    def broken(path: Path, to: Path) -> Path:
        monkeypatch.setattr(Path, "replace", replace)
        raise error

    monkeypatch.setattr(Path, "replace", broken)


def test_a_folder_is_replaced(tmp_path: Path) -> None:
    target = folder_with(tmp_path / "x", "old")
    with replacing(target) as beside:
        folder_with(beside, "new")
        assert (target / "file").read_text() == "old"
    assert (target / "file").read_text() == "new" and list(tmp_path.iterdir()) == [target]


def test_a_kill_between_the_two_steps_is_put_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, left = folder_with(tmp_path / "x", "old"), tmp_path / ".x.0123abcd.part"
    left.mkdir()
    made = folder_with(left / "x", "new")
    break_off_between_the_steps(monkeypatch, Killed)
    with pytest.raises(Killed):
        put_in_place(made, target)
    assert not target.exists()
    remove_left_overs(tmp_path)
    assert (target / "file").read_text() == "new" and list(tmp_path.iterdir()) == [target]


def test_a_reader_completes_a_broken_off_replacement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, left = folder_with(tmp_path / "x", "old"), tmp_path / ".x.part"
    left.mkdir()
    new = folder_with(left / "x", "new")
    break_off_between_the_steps(monkeypatch, Killed)
    with pytest.raises(Killed):
        put_in_place(new, target)
    with FileLock(left / LOCK):  # The writer is at work: its own second step follows.
        complete_replacement(target)
        assert not target.exists() and left.exists()
    complete_replacement(target)
    assert (target / "file").read_text() == "new" and list(tmp_path.iterdir()) == [target]
    complete_replacement(tmp_path / "no/such/folder")


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_an_error_between_the_two_steps_loses_nothing(
    error: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = folder_with(tmp_path / "x", "old")
    break_off_between_the_steps(monkeypatch, error)
    with pytest.raises(error), replacing(target) as beside:
        folder_with(beside, "new")
    assert (target / "file").read_text() == "new" and list(tmp_path.iterdir()) == [target]


def test_only_what_nobody_holds_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".x.0123abcd.part").mkdir()
    with workspace(tmp_path / "x") as held:
        assert list(tmp_path.iterdir()) == [held]
        remove_left_overs(tmp_path)
        with workspace(tmp_path / "x") as other:
            assert held.is_dir() and other != held
    assert list(tmp_path.iterdir()) == []
