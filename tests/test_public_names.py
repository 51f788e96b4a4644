"""The names that Python callers use: lazy, and each does what the command does, files included."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest

import analog_lora_cli
from analog_lora_cli.config.schema import Config
from analog_lora_cli.errors import ConfigError, UsageError
from analog_lora_cli.workflows.adaptation import AdaptRequest
from analog_lora_cli.workflows.drift_request import DriftRequest
from analog_lora_cli.workflows.inspect import InspectRequest
from analog_lora_cli.workflows.request import Request

MakeConfig = Callable[..., Config]
DRIFT_FILES = {"measurements.jsonl", "drift.json", "drift.csv", "drift.png", "samples.npz"}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_file() and not path.name.endswith((".lock", ".log"))}


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = """
import json, sys
import analog_lora_cli
assert {*analog_lora_cli.__all__} <= {*dir(analog_lora_cli)}
heavy = {"torch", "transformers", "pydantic", "rich", "numpy", "yaml"}
print(json.dumps(sorted(heavy & sys.modules.keys())))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout) == []


def test_a_broken_torchvision_is_hidden_from_whoever_uses_a_name(tmp_path: Path) -> None:
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text("raise RuntimeError('operator nms does not exist')")
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
from analog_lora_cli import load_conductances
from transformers import BertModel
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", analog_lora_cli.__all__)
def test_each_name_is_a_documented_function(name: str) -> None:
    function = getattr(analog_lora_cli, name)
    assert inspect.isfunction(function) and "Args:" in str(function.__doc__)
    described = str(function.__doc__)
    for parameter in inspect.signature(function).parameters:
        assert f"{parameter}: " in described, parameter
    assert getattr(analog_lora_cli, name) is function


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'trian'"):
        getattr(analog_lora_cli, "trian")  # noqa: B009


def test_a_run_through_python_has_the_files_of_the_contract(make_config: MakeConfig, tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = analog_lora_cli.train(make_config(), run)
    assert {"analora.yaml", "manifest.json", "metrics.json"} <= names(run)
    assert names(run / "drift/default") == DRIFT_FILES
    assert result.drift is not None and result.drift.chips == [0, 1]

    second = tmp_path / "second"
    analog_lora_cli.train(make_config(method="digital"), second, drift=False)
    assert not (second / "drift/default/drift.json").exists()

    evaluation = analog_lora_cli.evaluate_drift(run, chips=1, times=["1d"], reads=2, output=tmp_path / "one")
    assert names(tmp_path / "one") == DRIFT_FILES
    (measured,) = evaluation.measured
    assert measured.drift is not None and len(measured.drift.measurements) == 2 and evaluation.failed == []

    rules = ["accuracy>=101@1y"]
    both = analog_lora_cli.evaluate_drift([run, second], requirements=rules, output=tmp_path / "both")
    assert names(tmp_path / "both") == {"comparison.json", "comparison.png"}
    assert names(tmp_path / "both/run") == DRIFT_FILES and len(both.failed) == 2

    recovery = analog_lora_cli.adapt(run, adapter="six", start="default", overrides=["hardware.adc_bits=6"])
    assert names(run / "drift/six") == DRIFT_FILES | {"adaptation.json", "adaptation.png"}
    assert recovery.before is not None

    analog_lora_cli.evaluate_drift(run, adapters="all", output=tmp_path / "all")
    assert names(tmp_path / "all") == {"deployment.json"}

    table = tmp_path / "tiles.csv"
    inspection = analog_lora_cli.inspect_tiles(run, csv=table)
    assert table.read_text().count("\n") == 1 + len(inspection.placement.analog)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: analog_lora_cli.load_config("quickstrat"), ConfigError, "did you mean quickstart"),
        (lambda: analog_lora_cli.evaluate_drift([]), UsageError, "at least one checkpoint"),
        (lambda: analog_lora_cli.evaluate_drift("none"), UsageError, "none: not a checkpoint folder"),
        (lambda: analog_lora_cli.adapt("none", adapter="x"), UsageError, "none: not a checkpoint folder"),
        (lambda: analog_lora_cli.inspect_tiles(), UsageError, "give exactly one of"),
        (lambda: analog_lora_cli.load_conductances(Path("none")), UsageError, "none"),
    ],
)
def test_errors_are_those_of_the_commands(
    call: Callable[[], Any], error: type[Exception], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        call()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("function", "request_class", "observer"),
    [
        (analog_lora_cli.adapt, AdaptRequest, "observer"),
        (analog_lora_cli.evaluate_drift, DriftRequest, "observer"),
        (analog_lora_cli.inspect_tiles, InspectRequest, "progress"),
    ],
)
def test_a_function_takes_what_its_request_holds(
    function: Callable[..., object], request_class: type[Request], observer: str
) -> None:
    parameters = inspect.signature(function).parameters
    options = {field.name: field.default for field in fields(request_class)}
    assert list(parameters) == [*options, observer]
    for name, default in options.items():
        assert parameters[name].default == (inspect.Parameter.empty if default is MISSING else default), name


def test_paths_may_be_text_and_several_values_may_be_one(tmp_path: Path) -> None:
    request = DriftRequest(checkpoints="run", adapters="all", output="out")  # type: ignore[arg-type]
    assert (request.checkpoints, request.adapters, request.output) == (["run"], ["all"], Path("out"))
    file = tmp_path / "some.yaml"
    file.write_text("extends: smoke-squad-lora\ntrain: {seed: 7}\n")
    assert analog_lora_cli.load_config(file=str(file)).train.seed == 7


def test_a_run_is_continued_or_replaced(make_config: MakeConfig, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(UsageError, match="give one of them"):
        analog_lora_cli.train(make_config(), run, resume=True, overwrite=True)
    assert not run.exists()
    analog_lora_cli.train(make_config(), run, drift=False)
    with pytest.raises(UsageError, match="give one of them"):
        analog_lora_cli.adapt(run, adapter="new", resume=True, overwrite=True)


def test_a_callers_loggers_warnings_and_collector_are_its_own() -> None:
    code = """
import gc, logging, warnings
logger, handler, show = logging.getLogger("transformers"), logging.NullHandler(), warnings.showwarning
logger.addHandler(handler)
gc.disable()
from analog_lora_cli import train
assert handler in logger.handlers and warnings.showwarning is show and not gc.isenabled()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
