"""Every file of a checkpoint, damaged in every way: a clear error, or the same numbers; never others."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from analog_lora_cli.cli import main
from analog_lora_cli.storage.layout import ADAPTERS, TRAINER
from analog_lora_cli.training.saved_state import newest_state

Captured = pytest.CaptureFixture[str]
Damage = Callable[[Path], None]
OUTPUTS = {"drift.csv", "drift.png", "drift.json", "metrics.json"}
"""What is written anew and never read by an evaluation."""


def truncate(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def remove(path: Path) -> None:
    path.unlink()


def flip(path: Path) -> None:
    """One digit of the content, or one bit where there is none."""
    content = bytearray(path.read_bytes())
    digits = [index for index, byte in enumerate(content) if chr(byte).isdigit()]
    index = digits[2 * len(digits) // 3] if digits else len(content) // 2
    content[index] ^= 1
    path.write_bytes(bytes(content))


def swap(path: Path) -> None:
    """With another file of the same folder."""
    others = sorted(other for other in path.parent.iterdir() if other.is_file() and other != path)
    if not others:
        pytest.skip("the only file of its folder")
    path.write_bytes(others[0].read_bytes())


DAMAGES: list[Damage] = [truncate, empty, remove, flip, swap]


def files(folder: Path) -> list[str]:
    """What an evaluation may read."""
    found = (path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file())
    return [str(p) for p in found if p.name not in {".lock", *OUTPUTS} and p.parts[0] != TRAINER]


def numbers(folder: Path) -> object:
    content = json.loads((folder / "drift.json").read_text())
    return {key: content[key] for key in ("digital", "converters_only", "times", "chips")}


def outcomes(method: str, whole: Path, tmp_path: Path, damage: Damage, capsys: Captured) -> Iterator[tuple[str, str]]:
    for name in files(whole / method):
        copy = Path(shutil.copytree(whole / method, tmp_path / name.replace("/", "-")))
        try:
            damage(copy / name)
        except pytest.skip.Exception:
            continue
        # Measured anew, except where the finished measurements themselves are what is damaged.
        place = [] if name.startswith("drift/") else ["--output", str(tmp_path / "drift"), "--overwrite"]
        code = main(["evaluate-drift", str(copy), *adapters(name), *place, "--quiet"])
        error = " ".join(capsys.readouterr().err.split())
        if code:
            assert code == 2, (name, error)
            assert Path(name).name in error.replace(" ", ""), (name, error)
            assert "not expected" not in error, (name, error)
        else:
            adapter = "second" if "second" in name else "default"
            where = tmp_path / "drift" if place else copy / "drift" / adapter
            assert numbers(where) == numbers(whole / method / "drift" / adapter), name
        yield name, error
        shutil.rmtree(copy)
        shutil.rmtree(tmp_path / "drift", ignore_errors=True)


def adapters(name: str) -> list[str]:
    """The adapter that a file belongs to."""
    return ["--adapter", "second"] if "second" in name else []


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_named_or_makes_no_difference(
    damage: Damage, method: str, whole: Path, tmp_path: Path, capsys: Captured
) -> None:
    refused = {name for name, error in outcomes(method, whole, tmp_path, damage, capsys) if error}
    needed = {"analora.yaml", "manifest.json", "tokenizer.json", "tokenizer_config.json"}
    needed |= {name for name in files(whole / method) if name.startswith((f"{ADAPTERS}/", "model/"))}
    assert needed - {"model/generation_config.json"} <= refused


def test_a_changed_measurement_is_measured_again(checkpoint: Path) -> None:
    """A digit in a finished measurement would otherwise be believed."""
    log = checkpoint / "drift/default/measurements.jsonl"
    before, drift = log.read_text(), numbers(log.parent)
    lines = before.splitlines()
    lines[-1] = lines[-1].replace('"accuracy": ', '"accuracy": 1')
    assert lines[-1] != before.splitlines()[-1]
    log.write_text("\n".join(lines) + "\n")
    assert main(["evaluate-drift", str(checkpoint), "--quiet"]) == 0
    assert numbers(log.parent) == drift
    assert len(log.read_text().splitlines()) == len(lines) + 1


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_state_is_passed_over(damage: Damage, checkpoint: Path, tmp_path: Path) -> None:
    """For each file of the newest state: the one before is taken, or none."""
    states = sorted((checkpoint / TRAINER).glob("checkpoint-*"), key=lambda state: int(state.name.split("-")[1]))
    before = states[-2] if len(states) > 1 else None
    for path in sorted(states[-1].iterdir()):
        copy = Path(shutil.copytree(checkpoint / TRAINER, tmp_path / path.name))
        damage(copy / states[-1].name / path.name)
        found = newest_state(copy)
        assert (found.name if found else None) == (before.name if before else None), path.name
        assert not (copy / states[-1].name).exists()


def test_an_adapter_of_another_checkpoint_is_not_taken(whole: Path, checkpoint: Path, capsys: Captured) -> None:
    folder = checkpoint / ADAPTERS
    (folder / "default").rename(folder / "aside")
    (folder / "second").rename(folder / "default")
    (folder / "aside").rename(folder / "second")
    assert main(["evaluate-drift", str(checkpoint), "--quiet"]) == 2
    assert "is damaged: its sha256 differs" in " ".join(capsys.readouterr().err.split())
