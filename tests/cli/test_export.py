"""`analora export` on the command line: what it refuses, and that it writes nothing then."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from analog_lora_cli import cli
from analog_lora_cli.errors import EXIT_USAGE
from analog_lora_cli.runtime import console
from analog_lora_cli.storage.sealed import read_sealed, write_sealed

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def fresh_console(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each console is built once, with the stdout and stderr of that moment; each test has its own."""
    console.messages.cache_clear()
    console.results.cache_clear()
    console.set_quiet(False)
    monkeypatch.chdir(tmp_path)


def train(folder: Path, model: Path, files: tuple[Path, Path], **changes: object) -> Path:
    content = {
        "model": {"name": str(model)},
        "task": {"name": "sst2", "train_file": str(files[0]), "validation_file": str(files[1]), "max_length": 32},
        "train": {"max_steps": 2, "per_device_train_batch_size": 8, "save_steps": 1},
        "drift": {"times": ["0s", "1y"], "chips": 2},
        **changes,
    }
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(content))
    command = ["train", "--config", str(folder / "config.yaml"), "--output", str(folder / "run"), "--quiet"]
    assert cli.main(command) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def checkpoint(tiny_model: Path, sst2_files: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("export") / "lora", tiny_model, sst2_files)


@pytest.fixture(scope="module")
def full(tiny_model: Path, sst2_files: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("export") / "full", tiny_model, sst2_files, method="full")


def tree(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}


def refused(capsys: Captured, folder: Path, *arguments: str) -> str:
    """Run `export`, which must fail with one error and leave the folder as it is; returns the error in one line."""
    capsys.readouterr()
    before = tree(folder)
    assert cli.main(["export", *arguments]) == EXIT_USAGE
    assert tree(folder) == before
    captured = capsys.readouterr()
    message = " ".join(captured.err.replace("│", " ").split())
    assert captured.out == "" and message.lower().count("error: ") == 1 and "Traceback" not in message
    return message


def test_what_an_export_prints_and_writes(checkpoint: Path, capsys: Captured, tmp_path: Path) -> None:
    assert cli.main(["export", str(checkpoint), "--format", "merged", "--output", "out"]) == 0
    captured = capsys.readouterr()
    assert "out: merged" in captured.out and "model.safetensors" in captured.out and " KiB" in captured.out
    assert "out/README.md says how to load it" in captured.err
    names = {path.name for path in Path("out").iterdir()}
    model = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert names == {"README.md", "export.json"} | model
    assert [path.name for path in tmp_path.iterdir()] == ["out"], "nothing beside the folder"
    readme = Path("out/README.md").read_text()
    drift = json.loads((checkpoint / "drift/default/drift.json").read_text())
    for time in drift["times"]:
        mean = time["metrics"]["accuracy"]["mean"]
        assert f"| {time['label']} | {mean:.2f} |" in readme
    assert "on 2 simulated chips (pcm)" in readme and "other hardware" not in readme
    front = yaml.safe_load(readme.split("---")[1])
    assert front["library_name"] == "transformers" and front["pipeline_tag"] == "text-classification"
    assert front["metrics"] == ["accuracy"] and "base_model" not in front, "no name that the hub would not know"


def test_quiet_prints_the_result_alone(checkpoint: Path, capsys: Captured) -> None:
    assert cli.main(["export", str(checkpoint), "--format", "peft", "--output", "out", "--quiet"]) == 0
    captured = capsys.readouterr()
    assert captured.err == "" and "adapter_model.safetensors" in captured.out


def test_results_measured_on_other_hardware_are_said_to_be(checkpoint: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(checkpoint, tmp_path / "copy"))
    path = copy / "drift/default/drift.json"
    drift = read_sealed(path)
    drift["hardware"]["adc_bits"] = 6
    write_sealed(path, drift)
    assert cli.main(["export", str(copy), "--format", "peft", "--output", "out", "--quiet"]) == 0
    assert "other hardware than trained for: `adc_bits: 6`" in Path("out/README.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "peft", "--chip", "3", "--at", "1y"], "--chip: only --format conductances can hold"),
        (["--format", "merged", "--at", "1y"], "--at: only --format conductances can hold"),
        (["--format", "aihwkit", "--chip", "3"], "--chip: only --format conductances can hold"),
        (["--format", "conductances", "--chip", "3"], "--chip: needs --at TIME"),
        (["--format", "conductances", "--at", "1y"], "--at: needs --chip SEED"),
        (["--format", "conductances", "--chip", "3", "--at", "soon"], "--at: 'soon' is not a time: expected"),
        (["--format", "conductances", "--chip", "-1", "--at", "1y"], "--chip -1: expected a seed of 0 or more"),
        (["--format", "onnx"], "'onnx' is not one of 'peft', 'merged', 'conductances', 'aihwkit'"),
        (["--format", "peft", "--adapter", "other"], "no adapter 'other'; it has default"),
        (["--format", "peft", "--push-to-hub", "just-a-name"], "--push-to-hub just-a-name: expected USER/NAME"),
        (["--format", "peft", "--push-to-hub", "a/b/c"], "--push-to-hub a/b/c: expected USER/NAME"),
        (["--format", "peft", "--push-to-hub", "user/model"], "HF_HUB_OFFLINE is set"),
        ([], "Missing option '--format'"),
    ],
)
def test_options_that_do_not_fit(
    arguments: list[str], message: str, checkpoint: Path, capsys: Captured, tmp_path: Path
) -> None:
    assert message in refused(capsys, tmp_path, str(checkpoint), "--output", "out", *arguments)


def test_a_time_that_the_device_has_no_data_for(
    tiny_model: Path, sst2_files: tuple[Path, Path], capsys: Captured, tmp_path: Path
) -> None:
    changes = {"hardware": {"device": "reram-wan2022"}, "drift": {"times": ["1d"], "chips": 1}}
    run = train(tmp_path / "reram", tiny_model, sst2_files, **changes)
    options = ["--format", "conductances", "--output", "out", "--chip", "0", "--at"]
    assert "1y: device reram-wan2022 has data for" in refused(capsys, tmp_path, str(run), *options, "1y")
    assert cli.main(["export", str(run), *options, "1d"]) == 0


def test_method_full_has_no_adapter(full: Path, capsys: Captured, tmp_path: Path) -> None:
    message = refused(capsys, tmp_path, str(full), "--format", "peft", "--output", "out")
    assert "method full, which has no adapter; --format merged, conductances and aihwkit work" in message
    message = refused(capsys, tmp_path, str(full), "--format", "merged", "--output", "out", "--adapter", "x")
    assert "method full has no adapters, so --adapter x is unknown" in message


def test_checkpoints_that_are_none(checkpoint: Path, capsys: Captured, tmp_path: Path) -> None:
    rest = ["--format", "peft", "--output", "out"]
    assert "not a checkpoint folder" in refused(capsys, tmp_path, "nothing", *rest)
    copy = Path(shutil.copytree(checkpoint, tmp_path / "copy"))
    file = copy / "adapters/default/adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-4])
    assert "is damaged: its sha256 differs" in refused(capsys, tmp_path, "copy", *rest)
    copy = Path(shutil.copytree(checkpoint, tmp_path / "other"))
    (copy / "drift/default/drift.json").write_text('{"metric": "accuracy"}')
    assert "drift.json: damaged: not as it was written" in refused(capsys, tmp_path, "other", *rest)


def test_folders_that_are_taken(checkpoint: Path, capsys: Captured, tmp_path: Path) -> None:
    rest = [str(checkpoint), "--format", "peft", "--output"]
    Path("file").write_text("x")
    assert "file: is a file, expected a folder" in refused(capsys, tmp_path, *rest, "file")
    assert "file: is a file, expected a folder" in refused(capsys, tmp_path, *rest, "file/below")
    Path("mine").mkdir()
    Path("mine/thesis.txt").write_text("x")
    for more in ([], ["--overwrite"]):
        message = "mine: is not empty and holds no export of analora; choose another --output"
        assert message in refused(capsys, tmp_path, *rest, "mine", *more)
        Path("mine/export.json").write_text('{"format": "something else", "files": {}}')
    assert "holds no export" in refused(capsys, tmp_path, *rest, str(checkpoint), "--overwrite")

    Path("empty").mkdir()
    assert cli.main(["export", *rest, "empty"]) == 0
    assert "empty: holds an export already; replace it with --overwrite" in refused(capsys, tmp_path, *rest, "empty")
    (Path("empty") / "notes.txt").write_text("x")
    message = refused(capsys, tmp_path, *rest, "empty", "--overwrite")
    assert "--overwrite would remove notes.txt, which is no part of the export" in message
    (Path("empty") / "notes.txt").unlink()
    (Path("empty") / "__pycache__").mkdir()
    (Path("empty") / "__pycache__" / "load.pyc").write_text("x")
    again = ["export", str(checkpoint), "--format", "merged", "--output", "empty", "--overwrite"]
    assert cli.main(again) == 0
    assert not (Path("empty") / "base").exists() and (Path("empty") / "model.safetensors").exists()
