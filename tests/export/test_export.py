"""Exports of tiny models, loaded again in processes that have the other library and nothing of this project."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from analog_lora_cli.config.device_file import PCM
from analog_lora_cli.config.schema import Config
from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.errors import UsageError
from analog_lora_cli.export.conductances import load_model
from analog_lora_cli.export.export import Exported, export
from analog_lora_cli.export.request import ExportRequest
from analog_lora_cli.export.source import Source
from analog_lora_cli.hardware.physics.chip import Chip
from analog_lora_cli.models.input_ranges import set_input_ranges
from analog_lora_cli.models.loaded import LoadedModel
from analog_lora_cli.models.tiling import AnalogModel, put_on_tiles
from analog_lora_cli.workflows.observer import SilentObserver
from analog_lora_cli.workflows.train import train as run_training

MakeConfig = Callable[..., Config]
FORMATS = ("peft", "merged", "conductances", "aihwkit")
HARDWARE = {"tile_rows": 24, "tile_columns": 20, "clip_sigma": 1.5}
"""Several tiles a layer, and clipping that one cannot overlook."""

RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "lora": ("sst2", {}),
    "squad": ("squad", {}),
    "digital": ("sst2", {"method": "digital"}),
    "full": ("sst2", {"method": "full"}),
    "rslora": ("sst2", {"adapter": {"variant": "rslora"}}),
    "dora": ("sst2", {"adapter": {"variant": "dora", "dropout": 0.0}}),
    "adalora": ("sst2", {"adapter": {"variant": "adalora"}}),
    "vera": ("sst2", {"adapter": {"variant": "vera", "rank": 4}}),
    "frozen-head": ("sst2", {"adapter": {"train_head": False}}),
    "frozen-head-squad": ("squad", {"adapter": {"train_head": False, "targets": ["query", "value"]}}),
    "static": ("sst2", {"hardware": {**HARDWARE, "input_range": "static", "input_range_value": 95.0}}),
    "learned": ("squad", {"hardware": {**HARDWARE, "input_range": "learned"}}),
    "some-layers": ("sst2", {"hardware": {**HARDWARE, "layers": ["query", "intermediate.dense"]}}),
}

LOAD = """
import json, sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "analog_lora_cli":
            raise ImportError("this process has no analora")
sys.meta_path.insert(0, Hidden())
try:
    import torchvision
except Exception:
    sys.modules["torchvision"] = None
import importlib.util
import torch, transformers
from pathlib import Path
from safetensors.torch import load_file, save_file
torch.set_num_threads(1)

def load(kind, folder, head):
    auto = getattr(transformers, head)
    if kind == "merged":
        return auto.from_pretrained(folder)
    if kind == "peft":
        from peft import PeftModel
        return PeftModel.from_pretrained(auto.from_pretrained(folder / "base"), folder)
    spec = importlib.util.spec_from_file_location("load", folder / "load.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.load_model(folder, output_noise=0.0)

def logits(model, inputs):
    with torch.no_grad():
        result = model(**inputs)
    return result.logits if "logits" in result else torch.stack([result.start_logits, result.end_logits], dim=1)

for run in map(Path, sys.argv[1:]):
    texts = json.loads((run / "texts.json").read_text())
    for kind in ("peft", "merged", "aihwkit"):
        folder = run / kind
        if not folder.exists():
            continue
        model = load(kind, folder, texts["head"]).eval()
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        inputs = tokenizer(*texts["columns"], return_tensors="pt", padding=True)
        results = {"": logits(model, inputs)}
        if kind == "aihwkit":
            from aihwkit.inference import drift_analog_weights, program_analog_weights
            torch.manual_seed(0)
            program_analog_weights(model, None)
            layers = [module for module in model.modules() if hasattr(module, "analog_tiles")]
            tiles = [tile for layer in layers for tile in layer.analog_tiles()]
            programmed = [tile.programmed_weights.clone() for tile in tiles]
            for seconds in (0.0, 3.15e7, 3.15e7):
                drift_analog_weights(model, seconds)
                results[f"drifted{len(results)}"] = logits(model, inputs)
            same = [torch.equal(tile.programmed_weights, old) for tile, old in zip(tiles, programmed)]
            results["same-chip"] = torch.tensor([all(same)])
            results["alpha"] = torch.stack([tile.alpha.mean() for tile in tiles])
        save_file({f"{kind}{name}": tensor.contiguous() for name, tensor in results.items()}, run / f"{kind}.outputs")
assert not any(name.startswith("analog_lora_cli") for name in sys.modules)
"""


def texts_of(task: str) -> dict[str, Any]:
    first = ["the tile is good", "a slow chip drifts", "weight of a bad unit", "noise"]
    second = ["the array reads fast", "was warm", "chip holds a weight of the tile", "a fast unit drifts"]
    if task == "squad":
        return {"head": "AutoModelForQuestionAnswering", "columns": [first, second]}
    return {"head": "AutoModelForSequenceClassification", "columns": [first]}


def logits(model: Any, inputs: Any) -> Tensor:
    with torch.no_grad():
        result = model(**inputs)
    return result.logits if "logits" in result else torch.stack([result.start_logits, result.end_logits], dim=1)


def export_quietly(checkpoint: Path, kind: str, output: Path, **options: Any) -> Exported:
    request = ExportRequest(checkpoint=checkpoint, format=kind, output=output, **options)
    return export(request, lambda text: None)


def on_tiles(checkpoint: Path, **changes: Any) -> AnalogModel:
    """The checkpoint's model on tiles, with other hardware if wanted."""
    loaded = Source.open(checkpoint, "default").build()
    model = put_on_tiles(loaded, loaded.config.hardware.model_copy(update=changes))
    set_input_ranges(model)
    return model


def inputs_of(loaded: LoadedModel, task: str) -> Any:
    assert loaded.processor is not None
    return loaded.processor(*texts_of(task)["columns"], return_tensors="pt", padding=True)


@pytest.fixture(scope="session")
def exports(make_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All runs, each exported in all its formats, with what one new process makes of them."""
    root = tmp_path_factory.mktemp("exports")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for name, (task, changes) in RUNS.items():
            short = {"learning_rate": 1e-2, "max_steps": 4, "save_steps": 4}
            config = make_config(task, **{"hardware": HARDWARE, **changes, "train": short})
            run_training(config, root / name / "checkpoint", SilentObserver(), drift=False)
            (root / name / "texts.json").write_text(json.dumps(texts_of(task)))
            for kind in FORMATS:
                if kind != "peft" or config.method != "full":
                    export_quietly(root / name / "checkpoint", kind, root / name / kind)
        code = [sys.executable, "-c", LOAD, *(str(root / name) for name in RUNS)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(code, cwd=root, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
    finally:
        torch.set_num_threads(threads)
    return root


def loaded(exports: Path, name: str, kind: str) -> dict[str, Tensor]:
    return load_file(str(exports / name / f"{kind}.outputs"))


@cache
def digital(exports: Path, name: str) -> Tensor:
    """What the tool's digital evaluation computes."""
    checkpoint = exports / name / "checkpoint"
    if RUNS[name][1].get("method") == "digital":
        loaded = Source.open(checkpoint, "default").build()
        return logits(loaded.module, inputs_of(loaded, RUNS[name][0]))
    model = on_tiles(checkpoint)
    with model.digital():
        return logits(model.loaded.module, inputs_of(model.loaded, RUNS[name][0]))


@cache
def without_noise(exports: Path, name: str) -> tuple[Any, Tensor]:
    """Inputs, and what the tool computes of them on tiles without output noise."""
    analog = on_tiles(exports / name / "checkpoint", output_noise=0.0)
    inputs = inputs_of(analog.loaded, RUNS[name][0])
    return inputs, logits(analog.loaded.module, inputs)


@pytest.mark.parametrize("name", [name for name in RUNS if not name.startswith("full")])
def test_plain_peft_computes_the_digital_evaluation(name: str, exports: Path) -> None:
    expected = digital(exports, name)
    assert torch.equal(loaded(exports, name, "peft")["peft"], expected)
    adapter = load_file(str(exports / name / "peft" / "adapter_model.safetensors"))
    assert any("classifier" in key or "qa_outputs" in key for key in adapter) or "targets" in str(RUNS[name])


@pytest.mark.parametrize("name", RUNS)
def test_plain_transformers_computes_the_digital_evaluation(name: str, exports: Path) -> None:
    expected = digital(exports, name)
    actual = loaded(exports, name, "merged")["merged"]
    assert torch.allclose(actual, expected, rtol=1e-4, atol=1e-5)
    if name.startswith("full"):
        assert torch.equal(actual, expected)


def test_the_base_of_the_peft_export_is_what_the_adapter_was_trained_on(exports: Path, tiny_model: Path) -> None:
    """On the unclipped base the outputs are others, so the clipped one must go with the adapter."""
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    plain = AutoModelForSequenceClassification.from_pretrained(str(tiny_model), num_labels=2)
    folder = exports / "lora" / "peft"
    model = PeftModel.from_pretrained(plain, str(folder)).eval()
    inputs = AutoTokenizer.from_pretrained(str(folder))(*texts_of("sst2")["columns"], return_tensors="pt", padding=True)
    assert not torch.allclose(logits(model, inputs), digital(exports, "lora"), atol=1e-3)
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == "base"


@pytest.mark.parametrize("name", RUNS)
def test_conductances_reproduce_the_analog_outputs(name: str, exports: Path) -> None:
    inputs, expected = without_noise(exports, name)
    model = load_model(exports / name / "conductances", output_noise=0.0)
    assert torch.equal(logits(model, inputs), expected)
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_conductances_of_a_chip_reproduce_its_outputs(exports: Path, tmp_path: Path) -> None:
    for name in ("squad", "dora"):
        checkpoint = exports / name / "checkpoint"
        export_quietly(checkpoint, "conductances", tmp_path / name, chip=11, at="1y")
        analog = on_tiles(checkpoint, output_noise=0.0)
        inputs = inputs_of(analog.loaded, RUNS[name][0])
        exact = logits(analog.loaded.module, inputs)
        # The chip's own drift read-out has the noise that the layers here do without.
        chip = Chip(11, analog.layers, analog.loaded.config.hardware)
        with analog.on_chip(chip, 31536000.0):
            expected = logits(analog.loaded.module, inputs)
        actual = logits(load_model(tmp_path / name, output_noise=0.0), inputs)
        assert torch.equal(actual, expected) and not torch.equal(actual, exact)


def test_a_chip_with_faults_and_references(make_config: MakeConfig, tmp_path: Path) -> None:
    """Its conductances reproduce it; aihwkit's tiles could not, and would without a word compute something else."""
    faults = {"stuck_low": 0.05, "dead_columns": 0.05, "adc_gain_mismatch": 0.1, "adc_offset_mismatch": 0.1}
    hardware = HARDWARE | {"device": "reram-cmo", "ir_drop": 1.0, "ir_drop_g_ratio": 1e4, **faults}
    config = make_config("sst2", hardware=hardware, train={"max_steps": 1})
    run_training(config, tmp_path / "run", SilentObserver(), drift=False)
    export_quietly(tmp_path / "run", "conductances", tmp_path / "out", chip=11, at="1y")
    analog = on_tiles(tmp_path / "run", output_noise=0.0)
    inputs = inputs_of(analog.loaded, "sst2")
    chip = Chip(11, analog.layers, analog.loaded.config.hardware)
    with analog.on_chip(chip, 31536000.0):
        expected = logits(analog.loaded.module, inputs)
    assert torch.equal(logits(load_model(tmp_path / "out", output_noise=0.0), inputs), expected)
    readme = (tmp_path / "out" / "README.md").read_text()
    for part in ("`reference`", "`adc_gain`", "`adc_offset`", "(g - mean(reference) + rounding) / scale"):
        assert part in readme
    assert "ADC(adc_gain * (q @ w - ir_drop(q, w)) + output_noise + adc_offset)" in readme
    with pytest.raises(
        UsageError, match=r"uses hardware\.reference_columns, hardware\.ir_drop, .*; use --format conductances"
    ):
        export_quietly(tmp_path / "run", "aihwkit", tmp_path / "aihwkit")
    assert not (tmp_path / "aihwkit").exists()


@pytest.mark.parametrize("name", RUNS)
def test_aihwkit_computes_the_analog_outputs(name: str, exports: Path) -> None:
    """To the bit what the tool's own `simulator: aihwkit` does, which `tests/parity` holds to the fast tile."""
    analog = on_tiles(exports / name / "checkpoint", output_noise=0.0, simulator="aihwkit")
    inputs, fast = without_noise(exports, name)
    results = loaded(exports, name, "aihwkit")
    assert torch.allclose(results["aihwkit"], logits(analog.loaded.module, inputs), atol=1e-6)
    quantized = (fast - digital(exports, name)).abs().max()
    assert (results["aihwkit"] - fast).abs().max() < max(1e-4, 0.5 * float(quantized))


@pytest.mark.parametrize("name", RUNS)
def test_aihwkits_own_programming_and_drift_run(name: str, exports: Path) -> None:
    results = loaded(exports, name, "aihwkit")
    exact, programmed, aged, again = (results[f"aihwkit{key}"] for key in ("", "drifted1", "drifted2", "drifted3"))
    assert all(torch.isfinite(tensor).all() for tensor in results.values())
    assert not torch.equal(exact, programmed) and not torch.equal(programmed, aged)
    assert not torch.equal(aged, again), "each reading draws read noise of its own"
    assert bool(results["aihwkitsame-chip"]), "one chip, read at three times"
    # The mean conductance of PCM falls by (t / t_0)^-nu, nu about 0.05, in a year: by half.
    assert 1.5 < float(results["aihwkitalpha"].mean()) < 3.0


def test_aihwkit_with_ideal_converters_agrees_closely(exports: Path, tmp_path: Path, make_config: MakeConfig) -> None:
    """Without rounding that a last bit could tip over, aihwkit and the fast tile compute the same."""
    from analog_lora_cli.export.aihwkit_loader import load_model as load_aihwkit

    ideal = {**HARDWARE, "dac_bits": 0, "adc_bits": 0, "drift_compensation": "per-column"}
    run_training(make_config(hardware=ideal), tmp_path / "run", SilentObserver(), drift=False)
    export_quietly(tmp_path / "run", "aihwkit", tmp_path / "out")
    analog = on_tiles(tmp_path / "run", output_noise=0.0)
    inputs = inputs_of(analog.loaded, "sst2")
    model = load_aihwkit(tmp_path / "out", output_noise=0.0)
    assert torch.allclose(logits(model, inputs), logits(analog.loaded.module, inputs), atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"device": "reram-cmo"},
        {"converter": "dual-pair", "converter_options": {"f_lst": [1.0, 4.0]}, "g_max": 30.0},
        {"device": "pcm", "device_options": {"drift_scale": 0.5, "t_0": 30.0}, "drift_compensation": "none"},
        {"device": "reram-wan2022", "drift_compensation": "global-exact"},
        {"bound_management": "iterative", "adc_bits": 6, "clip_sigma": 0.0},
    ],
    ids=lambda options: "-".join(map(str, options)),
)
def test_the_loader_builds_the_same_aihwkit_configuration(options: dict[str, Any]) -> None:
    """By aihwkit's own comparison, through JSON."""
    from dataclasses import fields

    from analog_lora_cli.export.aihwkit_loader import build_rpu_config
    from analog_lora_cli.hardware.physics.aihwkit_tiles import rpu_config, rpu_description
    from analog_lora_cli.hardware.physics.devices import noise_model

    hardware = HardwareConfig(**{"drift_compensation": "global", **options})
    built = build_rpu_config(json.loads(json.dumps(rpu_description(hardware))))
    expected = rpu_config(hardware)
    for section in ("mapping", "forward", "modifier"):
        for field in fields(getattr(expected, section)):
            value = getattr(getattr(built, section), field.name)
            assert value == getattr(getattr(expected, section), field.name), field.name
    ours = noise_model(hardware)
    assert type(built.noise_model) is type(ours)
    assert type(built.noise_model.g_converter) is type(ours.g_converter)
    assert built.noise_model.g_converter.__dict__ == ours.g_converter.__dict__
    without = {key: value for key, value in ours.__dict__.items() if key != "g_converter"}
    assert {key: value for key, value in built.noise_model.__dict__.items() if key != "g_converter"} == without
    names = {"none": "NoneType", "global": "GlobalDriftCompensation"}
    expected_name = names.get(hardware.drift_compensation, "GlobalDriftCompensationWithExactReference")
    assert type(built.drift_compensation).__name__ == expected_name


def test_a_device_that_aihwkit_does_not_have_is_refused(
    tmp_path: Path, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config("sst2", hardware={"device": "fitted", "device_options": PCM.model_dump()})
    source = SimpleNamespace(config=config, has_adapter=True)
    monkeypatch.setattr(Source, "open", lambda folder, adapter: source)
    with pytest.raises(UsageError, match="--format aihwkit: aihwkit has no noise model .* hardware.device fitted"):
        export_quietly(tmp_path, "aihwkit", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_compensation_that_aihwkit_does_not_have_is_refused(
    tmp_path: Path, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config("sst2", hardware={"drift_compensation": "least-squares", "ir_drop": 0.1})
    monkeypatch.setattr(Source, "open", lambda folder, adapter: SimpleNamespace(config=config, has_adapter=True))
    with pytest.raises(UsageError, match="train with hardware.drift_compensation=global, hardware.ir_drop=0"):
        export_quietly(tmp_path, "aihwkit", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_loader_refuses_what_is_not_aihwkits(exports: Path) -> None:
    from analog_lora_cli.export.aihwkit_loader import build_object

    with pytest.raises(ValueError, match=r"os\.system: only classes of aihwkit\.inference"):
        build_object({"class": "os.system", "arguments": {"command": "true"}})


README_CODE = """
import json, os, sys
try:
    import torchvision
except Exception:
    sys.modules["torchvision"] = None
for kind, code in json.loads(sys.argv[1]).items():
    print("###", kind)
    os.chdir(kind)
    exec(code, {"__name__": "__main__"})
    os.chdir("..")
"""


@pytest.fixture(scope="module")
def printed_by_readmes(exports: Path) -> dict[str, str]:
    """What the program in each format's README prints, all in one new process."""
    codes = {}
    for kind in FORMATS:
        (codes[kind],) = re.findall(
            r"```python\n(.*?)```", (exports / "squad" / kind / "README.md").read_text(), flags=re.DOTALL
        )
    path = str(Path(__file__).parents[2])  # For `conductances` alone.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", README_CODE, json.dumps(codes)]
    done = subprocess.run(command, cwd=exports / "squad", env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return {part.split()[0]: part for part in done.stdout.split("### ")[1:]}


@pytest.mark.parametrize("kind", FORMATS)
def test_the_readme_runs_and_its_hashes_are_right(kind: str, exports: Path, printed_by_readmes: dict[str, str]) -> None:
    from analog_lora_cli.storage.files import file_sha256

    folder = exports / "squad" / kind
    readme = (folder / "README.md").read_text()
    assert "analog_lora_cli." not in readme, "public names only"
    assert "torchvision::nms does not exist" in readme
    assert "tensor(" in printed_by_readmes[kind]
    listed = dict(re.findall(r"\| `([^`]+)` \| `([0-9a-f]{64})` \|", readme))
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert listed.keys() == present - {"README.md", "export.json"}
    assert all(file_sha256(folder / name) == digest for name, digest in listed.items())
    manifest = json.loads((folder / "export.json").read_text())
    assert manifest["files"].keys() == present - {"export.json"} and manifest["kind"] == kind


def test_no_export_holds_a_pickle_or_a_path_of_this_machine(exports: Path, tiny_model: Path) -> None:
    for name in RUNS:
        for path in (path for kind in FORMATS for path in (exports / name / kind).rglob("*") if path.is_file()):
            assert path.suffix in {".md", ".json", ".safetensors", ".py"}, path
            if path.suffix != ".safetensors":
                assert str(tiny_model) not in path.read_text() and str(exports) not in path.read_text(), path


def test_an_adapter_on_an_unchanged_hub_model_needs_no_base(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only then: the base is on the hub, nothing was clipped, the head was trained."""
    config = make_config("squad", method="digital")
    run_training(config, tmp_path / "run", SilentObserver(), drift=False)
    monkeypatch.setattr(Source, "base_on_hub", True)
    export_quietly(tmp_path / "run", "peft", tmp_path / "out")
    assert not (tmp_path / "out" / "base").exists()
    adapter = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert adapter["base_model_name_or_path"] == config.model.name
    readme = (tmp_path / "out" / "README.md").read_text()
    assert f"base_model: {config.model.name}" in readme and "base_model_relation: adapter" in readme
    assert f"AutoModelForQuestionAnswering.from_pretrained({config.model.name!r})" in readme


def test_a_failed_export_leaves_nothing(exports: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from analog_lora_cli.errors import DiskFullError
    from analog_lora_cli.export import export as module

    def fail(*arguments: object) -> str:
        raise OSError(28, "No space left on device")

    checkpoint = exports / "lora" / "checkpoint"
    with monkeypatch.context() as patch:
        patch.setattr(module, "export_readme", fail)
        for kind in FORMATS:
            with pytest.raises(DiskFullError, match="No space"):
                export_quietly(checkpoint, kind, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    export_quietly(checkpoint, "merged", tmp_path / "out")
    before = (tmp_path / "out" / "model.safetensors").stat().st_mtime_ns
    with monkeypatch.context() as patch:
        patch.setattr(module, "export_readme", fail)
        with pytest.raises(DiskFullError, match="No space"):
            export_quietly(checkpoint, "merged", tmp_path / "out", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "model.safetensors").stat().st_mtime_ns == before


def test_damaged_exports_of_conductances(exports: Path, tmp_path: Path) -> None:
    import shutil

    from analog_lora_cli.errors import CheckpointError
    from analog_lora_cli.export.manifest import hashes

    folder = Path(shutil.copytree(exports / "lora" / "conductances", tmp_path / "copy"))
    weights = load_file(str(folder / "digital" / "digital.safetensors"))
    weights.popitem()
    save_file(weights, str(folder / "digital" / "digital.safetensors"))
    with pytest.raises(CheckpointError, match=r"digital\.safetensors: is damaged: its sha256 differs"):
        load_model(folder)
    manifest = json.loads((folder / "export.json").read_text())
    (folder / "export.json").unlink()
    manifest["files"] = hashes(folder)
    (folder / "export.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match=r"copy: the export cannot be read: .*Missing key.*classifier"):
        load_model(folder)
