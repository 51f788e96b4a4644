"""Names that point out of the folder they belong to."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from analog_lora_cli.cli import main
from analog_lora_cli.errors import CheckpointError
from analog_lora_cli.export.conductances import load_model
from analog_lora_cli.storage.files import file_sha256
from analog_lora_cli.storage.manifest import read_manifest, write_manifest

Captured = pytest.CaptureFixture[str]
OUTSIDE = ["../second", "/etc", "a/../../b", "..", ".", ".hidden", "a/b", "~root", "", "a\x00b", "a\nb"]


def refused(capsys: Captured, *arguments: object) -> str:
    assert main([*map(str, arguments), "--quiet"]) == 2
    return " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("name", OUTSIDE)
def test_names_of_adapters(name: str, checkpoint: Path, capsys: Captured) -> None:
    before = sorted(checkpoint.parent.rglob("*"))
    assert "expected a name of" in refused(capsys, "adapt", checkpoint, "--adapter", name, "--no-drift")
    assert "no adapter" in refused(capsys, "evaluate-drift", checkpoint, "--adapter", name)
    assert sorted(checkpoint.parent.rglob("*")) == before
    content = read_manifest(checkpoint)
    content["adapters"][name] = content["adapters"]["default"]
    write_manifest(checkpoint, content)
    for command in (["evaluate-drift"], ["export", "--format", "peft", "--output", checkpoint.parent / "out"]):
        assert "manifest.json: damaged: adapters." in refused(capsys, command[0], checkpoint, *command[1:])


@pytest.mark.parametrize("name", ["../../other.safetensors", "/etc/passwd", "a/../../b"])
def test_files_in_a_manifest(name: str, checkpoint: Path, capsys: Captured) -> None:
    content = read_manifest(checkpoint)
    for files in (content["files"], content["adapters"]["default"]["files"]):
        files[name] = "0" * 64
        write_manifest(checkpoint, content)
        assert "expected a file inside the checkpoint" in refused(capsys, "evaluate-drift", checkpoint)
        del files[name]


@pytest.mark.parametrize(
    "name", ["../smoke-squad-lora", "/etc/passwd", "./smoke-squad-lora", "presets/smoke-squad-lora"]
)
def test_names_of_presets(name: str, capsys: Captured, tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(f"extends: {name}\n")
    for arguments in (["train", "--preset", name], ["train", "--config", file], ["presets", name]):
        assert "there is no preset" in refused(capsys, *arguments)


def test_exports(checkpoint: Path, tmp_path: Path) -> None:
    """Damaged files, and names in export.json that point elsewhere."""
    export = tmp_path / "export"
    assert main(["export", str(checkpoint), "--format", "conductances", "--output", str(export), "--quiet"]) == 0
    load_model(export)
    for file in sorted(path for path in export.rglob("*") if path.is_file() and path.suffix != ".md"):
        copy = Path(shutil.copytree(export, tmp_path / "copy"))
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        (copy / file.relative_to(export)).write_bytes(bytes(content))
        if file.name != "export.json":
            with pytest.raises(CheckpointError, match=f"{file.name}: is damaged"):
                load_model(copy)
        shutil.rmtree(copy)
    content = json.loads((export / "export.json").read_text())
    content["files"]["../run.yaml"] = file_sha256(export / "export.json")
    (export / "export.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=r"export\.json: damaged"):
        load_model(export)
