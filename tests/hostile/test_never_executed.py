"""Files that want to run code when they are loaded: they are refused, and nothing of them runs."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from analog_lora_cli.cli import main
from analog_lora_cli.config.load import dump_config
from analog_lora_cli.config.schema import Config
from analog_lora_cli.storage.checkpoint import adapter_files
from analog_lora_cli.storage.files import file_sha256
from analog_lora_cli.storage.layout import CONFIG, MANIFEST, TRAINER
from analog_lora_cli.storage.manifest import read_manifest, write_manifest
from analog_lora_cli.training.saved_state import COMPLETE

Captured = pytest.CaptureFixture[str]


class Bomb:
    """Unpickling it makes a folder."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """Exists if something was executed."""
    path = tmp_path / "executed"
    pickle.loads(pickle.dumps(Bomb(path)))
    path.rmdir()  # The bomb works.
    return path


def refused(capsys: Captured, *arguments: object) -> str:
    assert main([*map(str, arguments), "--quiet"]) in (1, 2)
    error = " ".join(capsys.readouterr().err.split())
    assert "not expected" not in error, error
    return error


def planted(path: Path, mark: Path) -> None:
    """A bomb as torch stores it."""
    path.unlink(missing_ok=True)
    torch.save({"state": Bomb(mark)}, path)


def rewritten(checkpoint: Path) -> None:
    """The manifest as one would write it who has replaced an adapter."""
    content = read_manifest(checkpoint)
    content["adapters"]["default"]["files"] = adapter_files(checkpoint, "default")
    write_manifest(checkpoint, content)


@pytest.mark.parametrize("name", ["adapter_model.bin", "adapter_model.safetensors"])
def test_an_adapter(name: str, checkpoint: Path, mark: Path, capsys: Captured, tmp_path: Path) -> None:
    folder = checkpoint / "adapters/default"
    (folder / "adapter_model.safetensors").unlink()
    planted(folder / name, mark)
    assert "adapter_model.safetensors: is" in refused(capsys, "evaluate-drift", checkpoint)
    rewritten(checkpoint)
    # What was measured is valid still; a new folder has to load the adapter.
    refused(capsys, "evaluate-drift", checkpoint, "--output", tmp_path / "new")
    assert not mark.exists()


def test_weights_of_method_full(whole: Path, tmp_path: Path, mark: Path, capsys: Captured) -> None:
    checkpoint = Path(shutil.copytree(whole / "full", tmp_path / "full"))
    (checkpoint / "model/model.safetensors").unlink()
    planted(checkpoint / "model/pytorch_model.bin", mark)
    # What was measured is valid still; to measure anew the weights have to be loaded.
    error = refused(capsys, "evaluate-drift", checkpoint, "--output", tmp_path / "new", "--overwrite")
    assert "model" in error and not mark.exists()


@pytest.fixture
def run_file(make_config: Callable[..., Config], tiny_model: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A configuration with a base model of its own, and that model's folder."""
    base = Path(shutil.copytree(tiny_model, tmp_path / "base"))
    config = make_config(model={"name": str(base)}, train={"max_steps": 4, "save_steps": 2})
    file = tmp_path / "run.yaml"
    file.write_text(dump_config(config))
    return file, base


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
def test_a_base_model(name: str, run_file: tuple[Path, Path], mark: Path, capsys: Captured, tmp_path: Path) -> None:
    file, base = run_file
    (base / "model.safetensors").unlink()
    planted(base / name, mark)
    assert str(base) in refused(capsys, "train", "--config", file, "--output", tmp_path / "run")
    assert not mark.exists() and not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "trained.safetensors"])
def test_a_state_to_resume_from(
    name: str, run_file: tuple[Path, Path], mark: Path, capsys: Captured, tmp_path: Path
) -> None:
    file, _ = run_file
    run = tmp_path / "run"
    assert main(["train", "--config", str(file), "--output", str(run), "--no-drift", "--quiet"]) == 0
    (run / MANIFEST).unlink()
    # Of the last step nothing but the weights would be needed.
    shutil.rmtree(run / TRAINER / "checkpoint-4")
    state = run / TRAINER / "checkpoint-2"
    planted(state / name, mark)
    complete = json.loads((state / COMPLETE).read_text())
    (state / COMPLETE).write_text(json.dumps(complete | {name: file_sha256(state / name)}))
    error = refused(capsys, "train", "--config", file, "--output", run, "--no-drift", "--resume")
    assert str(state) in error, error
    assert not mark.exists()


def test_code_beside_a_model(run_file: tuple[Path, Path], mark: Path, capsys: Captured, tmp_path: Path) -> None:
    """`auto_map` names a Python file in the model's folder; transformers runs it only with trust_remote_code."""
    file, base = run_file
    (base / "modeling_own.py").write_text(f"import os\nos.mkdir({str(mark)!r})\n")
    config = json.loads((base / "config.json").read_text())
    config["auto_map"] = {
        "AutoConfig": "modeling_own.Config",
        "AutoModelForSequenceClassification": "modeling_own.Model",
        "AutoTokenizer": ["modeling_own.Slow", "modeling_own.Fast"],
    }
    for model_type in ("own", "bert"):
        (base / "config.json").write_text(json.dumps(config | {"model_type": model_type}))
        main(["train", "--config", str(file), "--output", str(tmp_path / model_type), "--no-drift", "--quiet"])
        error = capsys.readouterr().err
        assert "not expected" not in error
        assert not mark.exists()
    assert not (tmp_path / "own" / CONFIG).exists()


def test_a_changed_configuration_of_the_base(run_file: tuple[Path, Path], capsys: Captured, tmp_path: Path) -> None:
    """The same weights with another activation are another model."""
    file, base = run_file
    run = tmp_path / "run"
    assert main(["train", "--config", str(file), "--output", str(run), "--no-drift", "--quiet"]) == 0
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"hidden_act": "relu"}))
    error = refused(capsys, "evaluate-drift", run, "--chips", 1, "--times", "0s", "--output", tmp_path / "new")
    assert "hidden_act is 'relu', the manifest says 'gelu'" in error
