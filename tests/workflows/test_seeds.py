"""Several trainings that differ in their seed: the same as alone, resumable, shared, and one method in statistics."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from analog_lora_cli.cli import main
from analog_lora_cli.config.load import dump_config
from analog_lora_cli.config.schema import Config
from analog_lora_cli.evaluation.stored_result import read_seeds
from analog_lora_cli.storage.files import file_sha256
from analog_lora_cli.storage.locks import locked
from analog_lora_cli.storage.manifest import read_manifest, write_manifest
from analog_lora_cli.workflows.drift import evaluate_drift
from analog_lora_cli.workflows.drift_request import DriftRequest
from analog_lora_cli.workflows.seeds import train_seeds
from analog_lora_cli.workflows.train import train

MakeConfig = Callable[..., Config]


def adapter_hash(run: Path) -> str:
    return hashlib.sha256((run / "adapters/default/adapter_model.safetensors").read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def two_methods(tmp_path_factory: pytest.TempPathFactory, make_config: MakeConfig) -> Path:
    """Folders `lora` and `digital` of two trainings each."""
    folder = tmp_path_factory.mktemp("seeds")
    for method in ("lora", "digital"):
        config = make_config(
            method=method, train={"max_steps": 3, "seed": 7}, drift={"chips": 2, "times": ["0s", "1y"]}
        )
        train_seeds(config, folder / method, 2)
    return folder


def test_a_training_of_a_series_is_the_one_alone(two_methods: Path, make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(train={"max_steps": 3, "seed": 8}, drift={"chips": 2, "times": ["0s", "1y"]})
    train(config, tmp_path / "alone")
    assert adapter_hash(tmp_path / "alone") == adapter_hash(two_methods / "lora/seed-1")
    alone, series = (
        json.loads((run / "drift/default/drift.json").read_text())
        for run in (tmp_path / "alone", two_methods / "lora/seed-1")
    )
    assert alone == series and series["training_seeds"] == [8]


def test_the_folder_is_one_method(two_methods: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written = json.loads((two_methods / "lora/seeds.json").read_text())
    assert written["training_seeds"] == [7, 8] and [time["label"] for time in written["times"]] == ["0s", "1y"]
    values = [
        json.loads((two_methods / f"lora/seed-{seed}/drift/default/drift.json").read_text())["times"][1]["metrics"][
            "accuracy"
        ]["mean"]
        for seed in range(2)
    ]
    assert written["times"][1]["metrics"]["accuracy"]["values"] == values
    assert main(["evaluate-drift", str(two_methods / "lora"), "--quiet"]) == 0
    table = capsys.readouterr().out
    assert "2 training seeds" in table and max(map(len, table.splitlines())) <= 80
    assert json.loads((two_methods / "lora/seeds.json").read_text()) == written


def test_two_folders_are_two_methods(two_methods: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [str(two_methods / name) for name in ("lora", "digital")]
    assert main(["evaluate-drift", *folders, "--quiet", "--output", str(tmp_path / "out")]) == 0
    table = capsys.readouterr().out
    assert "two methods" in table and "Welch" in table and max(map(len, table.splitlines())) <= 80
    content = json.loads((tmp_path / "out/comparison.json").read_text())
    assert content["unit_of_comparison"] == "training seed" and set(content["differences"]) == {"digital"}
    assert (tmp_path / "out/comparison.png").read_bytes().startswith(b"\x89PNG")


def test_two_single_trainings_are_two_adapters(
    two_methods: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [str(two_methods / name / "seed-0") for name in ("lora", "digital")]
    assert main(["evaluate-drift", *folders, "--quiet", "--output", str(tmp_path / "out")]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "two adapters" in text and "not their methods" in text
    assert json.loads((tmp_path / "out/comparison.json").read_text())["unit_of_comparison"] == "chip"


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (["lora", "digital/seed-0"], "one training cannot stand for its method"),
        (["lora", "--adapter", "all"], "--adapter"),
    ],
)
def test_wrong_calls(folders: list[str], message: str, two_methods: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [each if each.startswith("-") or each == "all" else str(two_methods / each) for each in folders]
    assert main(["evaluate-drift", *arguments, "--quiet"]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_resumed_and_shared(make_config: MakeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = make_config(train={"max_steps": 2}, drift={"chips": 1, "times": ["0s"]})
    (tmp_path / "run.yaml").write_text(dump_config(config))
    command = ["train", "--config", str(tmp_path / "run.yaml"), "--output", str(tmp_path / "runs"), "--seeds"]
    assert main([*command, "1", "--quiet"]) == 0
    first = adapter_hash(tmp_path / "runs/seed-0")
    assert main([*command, "2", "--quiet"]) == 2
    assert "--resume" in capsys.readouterr().err
    assert not (tmp_path / "runs/seed-1").exists(), "nothing is written"
    with locked(tmp_path / "runs/seed-1"):
        assert main([*command, "3", "--resume"]) == 0
    assert "another process is training" in " ".join(capsys.readouterr().err.split())
    assert adapter_hash(tmp_path / "runs/seed-0") == first
    assert not (tmp_path / "runs/seed-1/manifest.json").exists() and (tmp_path / "runs/seed-2/manifest.json").exists()
    assert main([*command, "3", "--resume", "--quiet"]) == 0
    assert len(json.loads((tmp_path / "runs/seeds.json").read_text())["training_seeds"]) == 3


def test_a_checkpoint_is_no_folder_for_several(
    two_methods: Path, make_config: MakeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.yaml").write_text(dump_config(make_config()))
    output = str(two_methods / "lora/seed-0")
    assert main(["train", "--config", str(tmp_path / "run.yaml"), "--seeds", "2", "--output", output]) == 2
    assert "is a checkpoint itself" in " ".join(capsys.readouterr().err.split())


def test_one_method_is_trainings_that_differ_in_their_seed(
    two_methods: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(two_methods / "lora", tmp_path / "twins")
    shutil.copytree(two_methods / "lora/seed-0", tmp_path / "twins/seed-2")
    assert main(["evaluate-drift", str(tmp_path / "twins"), "--quiet"]) == 2
    assert "the same train.seed 7" in " ".join(capsys.readouterr().err.split())
    shutil.rmtree(tmp_path / "twins/seed-1")
    shutil.rmtree(tmp_path / "twins/seed-2")
    shutil.copytree(two_methods / "digital/seed-1", tmp_path / "twins/seed-1")
    assert main(["evaluate-drift", str(tmp_path / "twins"), "--quiet"]) == 2
    assert "method: 'lora' there, 'digital' here" in " ".join(capsys.readouterr().err.split())
    assert main(["export", str(two_methods / "lora"), "--format", "peft", "--output", str(tmp_path / "out")]) == 2
    assert "holds several trainings" in " ".join(capsys.readouterr().err.split())


def test_a_requirement_is_on_the_method(two_methods: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["evaluate-drift", str(two_methods / "lora"), "--quiet", "--require"]
    assert main([*command, "accuracy>=0@1y"]) == 0
    capsys.readouterr()
    assert main([*command, "accuracy>100@1y"]) == 3
    assert "1 of 1 requirements do not hold" in " ".join(capsys.readouterr().err.split())


def test_a_smaller_evaluation_leaves_the_seeds_file_as_full_as_it_was(two_methods: Path, tmp_path: Path) -> None:
    shutil.copytree(two_methods / "lora", tmp_path / "lora")
    before = (tmp_path / "lora/seeds.json").read_text()
    assert main(["evaluate-drift", str(tmp_path / "lora"), "--chips", "1", "--times", "1y", "--quiet"]) == 0
    assert (tmp_path / "lora/seeds.json").read_text() == before


def test_three_methods_are_readable(two_methods: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(two_methods / "lora", tmp_path / "again")
    folders = [str(two_methods / "lora"), str(two_methods / "digital"), str(tmp_path / "again")]
    assert main(["evaluate-drift", *folders, "--quiet"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80 and sum(line.startswith(" 1y ") for line in lines) == 2
    assert not any("nan" in line for line in lines)


def test_each_training_measures_its_own_fragile_layers(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(
        hardware={"layers": "auto:1"}, train={"max_steps": 1}, drift={"chips": 1, "times": ["0s"], "draws": 1}
    )
    train_seeds(config, tmp_path / "runs", 2)
    again = train_seeds(config, tmp_path / "runs", 2, resume=True)
    assert again.group is not None and len(again.runs) == 2
    for name, layer in (("seed-0", "query"), ("seed-1", "key")):  # As if they had found different ones.
        text = (tmp_path / "runs" / name / "analora.yaml").read_text()
        stored = yaml.safe_load(text)
        stored["hardware"]["digital_layers"] = [f"bert.encoder.layer.0.attention.self.{layer}"]
        (tmp_path / "runs" / name / "analora.yaml").write_text(yaml.safe_dump(stored))
        manifest = read_manifest(tmp_path / "runs" / name)
        manifest["files"]["analora.yaml"] = file_sha256(tmp_path / "runs" / name / "analora.yaml")
        write_manifest(tmp_path / "runs" / name, manifest)
    assert len(DriftRequest(checkpoints=[tmp_path / "runs"]).plan()) == 2


def test_recalibrated_rows_are_stored(two_methods: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(two_methods / "lora", tmp_path / "lora")
    small = ["drift.recalibration_tokens=64", "drift.recalibration_reads=2"]
    evaluate_drift(folder, recalibrate=2, times="0s,1y", chips=1, overrides=small)
    stored = read_seeds(folder / "seeds.json", "lora")
    assert [row.label for row in stored.further] == ["0s recalibrated", "1y recalibrated"]
    runs = [json.loads((folder / f"seed-{seed}/drift/default/drift.json").read_text()) for seed in range(2)]
    own = [run["recalibrated"][1]["metrics"]["accuracy"]["mean"] for run in runs]
    assert stored.further[1].values == pytest.approx(own)
