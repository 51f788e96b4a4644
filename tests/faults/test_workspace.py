"""Folders that are replaced: in one step, or put right by the next process where the system cannot."""

from __future__ import annotations

from pathlib import Path

import pytest

from analog_lora_cli.storage import workspace as module
from analog_lora_cli.storage.files import replacing
from analog_lora_cli.storage.workspace import remove_left_overs, workspace


class Killed(BaseException):
    """Stands for a kill: nothing after it is done."""


def folder_with(folder: Path, text: str) -> Path:
    folder.mkdir()
    (folder / "file").write_text(text)
    return folder


def test_a_folder_is_exchanged_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = folder_with(tmp_path / "x", "old")
    monkeypatch.setattr(Path, "rename", lambda *paths: pytest.fail("two steps, and nothing in its place between them"))
    with replacing(target) as beside:
        folder_with(beside, "new")
    assert (target / "file").read_text() == "new" and list(tmp_path.iterdir()) == [target]


def test_a_kill_between_two_steps_is_put_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where folders cannot be exchanged, a kill may leave nothing in the place of the old one."""
    target, left = folder_with(tmp_path / "x", "old"), tmp_path / ".x.0123abcd.part"
    monkeypatch.setattr(module, "_exchange", lambda *paths: False)
    left.mkdir()
    made = folder_with(left / "x", "new")
    rename, calls = Path.rename, []

    def killed_at_the_second(path: Path, to: Path) -> Path:
        calls.append(path)
        if len(calls) == 2:
            raise Killed
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", killed_at_the_second)
    with pytest.raises(Killed):
        module.put_in_place(made, target)
    monkeypatch.setattr(Path, "rename", rename)
    assert not target.exists()
    remove_left_overs(tmp_path)
    assert (target / "file").read_text() == "new" and list(tmp_path.iterdir()) == [target]


def test_only_what_nobody_holds_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".x.0123abcd.part").mkdir()
    with workspace(tmp_path / "x") as held:
        assert list(tmp_path.iterdir()) == [held]
        remove_left_overs(tmp_path)
        with workspace(tmp_path / "x") as other:
            assert held.is_dir() and other != held
    assert list(tmp_path.iterdir()) == []
