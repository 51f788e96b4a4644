"""`analora inspect-tiles` as scripts use it."""

from __future__ import annotations

import csv
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from analog_lora_cli import cli
from analog_lora_cli.errors import EXIT_USAGE
from analog_lora_cli.runtime import console

Captured = pytest.CaptureFixture[str]
BERT_LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    console.messages.cache_clear()
    console.results.cache_clear()
    console.set_quiet(False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


@pytest.fixture
def bert(tmp_path: Path) -> str:
    """A folder with nothing but the config.json of a small BERT."""
    from transformers import BertConfig

    folder = tmp_path / "small-bert"
    BertConfig(num_hidden_layers=2).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def run_file(tiny_model: Path, sst2_files: tuple[Path, Path]) -> str:
    files = {"train_file": str(sst2_files[0]), "validation_file": str(sst2_files[1])}
    content = {"model": {"name": str(tiny_model)}, "task": {"name": "sst2", "max_length": 32, **files}}
    Path("run.yaml").write_text(yaml.safe_dump(content))
    return "run.yaml"


def inspect_tiles(*arguments: str) -> int:
    return cli.main(["inspect-tiles", *arguments])


def test_tables_by_configuration_alone(bert: str, capsys: Captured) -> None:
    assert inspect_tiles("--model", bert) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("small-bert: 12 layers on 80 tiles of 512x512")
    for title in ("Stays digital", "Totals", "Latency of 320 tokens"):
        assert title in captured.out
    assert "Weights" not in captured.out and captured.err == ""
    assert list(Path().iterdir()) == []


def test_a_setting_shows_its_effect(bert: str, capsys: Captured) -> None:
    settings = ["--set", "hardware.tile_rows=256", "--set", "latency.integration_times_ns=[64.0]"]
    assert inspect_tiles("--model", bert, *settings) == 0
    captured = capsys.readouterr()
    assert "on 132 tiles of 256x512" in captured.out and "set: integration_times_ns 64" in captured.out


def test_a_preset_with_its_data(run_file: str, capsys: Captured) -> None:
    assert inspect_tiles("--config", run_file, "--errors", "--times", "1d", "--chips", "2", "--quiet") == 0
    captured = capsys.readouterr()
    assert captured.err == "" and "2 chips" in captured.out and "sst2's validation data" in captured.out
    assert inspect_tiles("--preset", "smoke-squad-lora", "--pack") == 0
    assert "shared" in capsys.readouterr().out


def test_only_json_on_stdout(run_file: str, capsys: Captured) -> None:
    assert inspect_tiles("--config", run_file, "--errors", "--times", "1d", "--inputs", "random", "--json", "-") == 0
    captured = capsys.readouterr()
    content = json.loads(captured.out)
    assert content["source"] == "run" and content["errors_measured_on"]["times"] == ["1d"]
    assert "layers" in captured.err


def test_files(bert: str, capsys: Captured) -> None:
    files = ["--json", "out/a.json", "--csv", "out/a.csv", "--plot", "out/a.png"]
    assert inspect_tiles("--model", bert, *files) == 0
    assert "small-bert" in capsys.readouterr().out
    assert {path.name for path in Path("out").iterdir()} == {"a.json", "a.csv", "a.png"}
    content = json.loads(Path("out/a.json").read_text())
    with Path("out/a.csv").open() as handle:
        assert [line["layer"] for line in csv.DictReader(handle)] == [layer["name"] for layer in content["layers"]]
    assert Path("out/a.png").read_bytes().startswith(b"\x89PNG")

    Path("out/a.csv").write_text("mine")
    Path("out/a.json").unlink()
    assert inspect_tiles("--model", bert, *files) == EXIT_USAGE
    assert "--csv out/a.csv: exists already; replace it with --overwrite" in capsys.readouterr().err
    assert not Path("out/a.json").exists()
    assert Path("out/a.csv").read_text() == "mine"
    assert inspect_tiles("--model", bert, *files, "--overwrite") == 0
    assert Path("out/a.csv").read_text().startswith("layer,")


def test_a_failure_leaves_no_file(tmp_path: Path, capsys: Captured) -> None:
    assert inspect_tiles("--model", str(tmp_path / "none"), "--json", "a.json", "--plot", "a.png") == EXIT_USAGE
    assert "there is no such folder" in capsys.readouterr().err
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give exactly one of CHECKPOINT, --preset NAME (or --config FILE) and --model ID; got none"),
        (["folder", "--model", "x"], "got CHECKPOINT and --model"),
        (["--preset", "quickstart", "--model", "x"], "got --preset or --config and --model"),
        (["--preset", "quikstart"], "did you mean quickstart"),
        (["folder"], "not a checkpoint folder"),
        (["--preset", "quickstart", "--adapter", "a"], "--adapter names an adapter of a checkpoint"),
        (["--preset", "quickstart", "--times", "1d"], "--times: has an effect on --errors only"),
        (["--preset", "quickstart", "--chips", "2"], "--chips: has an effect on --errors only"),
        (
            ["--preset", "quickstart", "--errors", "--chips", "0"],
            "--chips: input should be greater than or equal to 1, got 0",
        ),
        (["--preset", "quickstart", "--errors", "--times", "1x"], "--times: '1x' is not a time"),
        (["--preset", "quickstart", "--errors", "--inputs", "some"], "--inputs: expected data or random, got 'some'"),
        (["--model", "x", "--errors", "--inputs", "data"], "--inputs data: --model names no data"),
        (["--preset", "quickstart", "--set", "hardware.adc_bound=6"], "hardware.adc_bound acts on the errors; add"),
        (["--model", "no such/folder/here"], "model.name: no such/folder/here: neither a folder nor a name on the hub"),
        (["--preset", "quickstart", "--set", "hardware.clip_sigma=2.0"], "add --statistics or --errors"),
        (["--preset", "quickstart", "--set", "train.max_steps=2"], "changes nothing that inspect-tiles shows"),
        (["--preset", "quickstart", "--set", "hardware.weight_noise=0.1"], "changes nothing that inspect-tiles shows"),
        (["--preset", "quickstart", "--set", "drift.times=[1d]"], "give --times instead"),
        (
            ["--preset", "quickstart", "--errors", "--set", "hardware.simulator=aihwkit"],
            "--set hardware.simulator=aihwkit: the errors are those of this tool's own tile",
        ),
        (["--preset", "quickstart", "--set", "hardware.tile_row=6"], "did you mean hardware.tile_rows?"),
        (["--preset", "quickstart", "--set", "latency.startup_ns=-1"], "latency.startup_ns: input should be greater"),
        (["--preset", "quickstart", "--set", "latency.clusters=two"], "expected one of tile, layer"),
        (["--preset", "quickstart", "--csv", "-"], "--csv -: only --json can go to stdout"),
        (["--preset", "quickstart", "--json", "a", "--csv", "./a"], "must name different files"),
        (["--preset", "quickstart", "--plot", "."], "is a folder, expected a file"),
    ],
)
def test_wrong_arguments(arguments: list[str], message: str, capsys: Captured) -> None:
    assert inspect_tiles(*arguments) == EXIT_USAGE
    captured = capsys.readouterr()
    assert captured.out == "" and message in captured.err and captured.err.count("error: ") == 1
    assert list(Path().iterdir()) == []


def test_without_a_hub_the_error_says_what_to_do(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert inspect_tiles("--model", "nobody/nothing-like-it") == EXIT_USAGE
    message = capsys.readouterr().err
    assert "the configuration is neither in the local cache nor could it be fetched" in message
    assert "set model.name to a local folder" in message


def test_a_damaged_configuration(tmp_path: Path, capsys: Captured) -> None:
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / "config.json").write_text("{")
    assert inspect_tiles("--model", str(folder)) == EXIT_USAGE
    assert "the configuration cannot be loaded" in capsys.readouterr().err


def test_bert_large_is_shown_at_once(tmp_path: Path) -> None:
    """By its configuration, from shell to shell.

    Measured in processor time and against the import of the model's class, because machines are shared and differ.
    The first look needs that import and little else; the shapes are kept, so that further looks do without it.
    """
    from transformers import BertConfig

    BertConfig(**BERT_LARGE).save_pretrained(tmp_path / "bert-large")

    def seconds(*arguments: str, cache: str = "none") -> tuple[float, str]:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(tmp_path / cache)}
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert done.returncode == 0, done.stderr
        processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return min(processor, time.perf_counter() - start), done.stdout

    def look(tile_rows: int, cache: str) -> float:
        command = ["-m", "analog_lora_cli", "inspect-tiles", "--model", str(tmp_path / "bert-large")]
        taken, shown = seconds(*command, "--set", f"hardware.tile_rows={tile_rows}", cache=cache)
        assert f"{1152 * 512 // tile_rows} tiles of {tile_rows}x512" in shown
        return taken

    def imports() -> float:
        # A torchvision that does not fit torch would let transformers' models fail.
        hidden = "import sys; sys.modules['torchvision'] = None"
        return seconds("-c", f"{hidden}; from transformers import BertForQuestionAnswering")[0]

    # Measured: 1.0 and 0.4. Once more where it takes longer, because other tests run beside it. A cache of its own
    # holds no shapes.
    assert look(512, "one") < 1.6 * imports() or look(512, "two") < 1.6 * imports()
    assert look(256, "one") < 0.7 * imports() or look(128, "one") < 0.7 * imports()
