"""Layers as conductances: what the numbers mean, and that reading them back gives the same bits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.errors import AnaloraError, CheckpointError
from analog_lora_cli.hardware.physics.chip import Chip
from analog_lora_cli.hardware.physics.conductance_file import CHIP, TARGETS, ChipMoment, read_layers, write_layers
from analog_lora_cli.hardware.physics.conductance_map import MAP
from analog_lora_cli.hardware.tile.analog_linear import AnalogLinear

DAY = 86400.0
CELLS: dict[str, dict[str, Any]] = {
    "single-pair": {},
    "g_min": {"g_min": 2.0},
    "dual-pair": {"converter": "dual-pair", "converter_options": {"f_lst": [1.0, 4.0]}},
    "n-pair": {"converter": "n-pair", "converter_options": {"f_lst": [0.5, 1.0, 3.0]}},
    "custom-pair": {
        "converter": "custom-pair",
        "converter_options": {"f_lst": [1.0], "g_lst": [[0.0, 0.0, 0.0, 12.5, 25.0], [25.0, 12.5, 0.0, 0.0, 0.0]]},
    },
    "single-device": {"converter": "single-device"},
    "reram-cmo": {"device": "reram-cmo"},
    "no-references": {"device": "reram-cmo", "reference_columns": 0},
    "faults": {"stuck_low": 0.05, "stuck_high": 0.02, "dead_columns": 0.1, "adc_gain_mismatch": 0.1},
    "faulty-single": {"device": "reram-cmo", "stuck_high": 0.1, "adc_offset_mismatch": 0.3},
    "faulty-n-pair": {"converter": "n-pair", "converter_options": {"f_lst": [0.5, 1.0, 3.0]}, "stuck_low": 0.1},
    "hermes": {"device": "hermes"},
    "reram-wan2022": {"device": "reram-wan2022"},
    "per-column": {"drift_compensation": "per-column"},
    "least-squares": {"drift_compensation": "least-squares-per-column", "adc_bits": 5},
    "no-compensation": {"drift_compensation": "none"},
}


def make(count: int = 2, **changes: Any) -> tuple[dict[str, AnalogLinear], HardwareConfig]:
    """Layers of 90 inputs and 50 outputs on 3 x 3 tiles, one column of one of them zero, one without a bias."""
    hardware = HardwareConfig(**{"tile_rows": 40, "tile_columns": 24, "output_noise": 0.0, **changes})
    draw = torch.Generator().manual_seed(3)
    layers = {}
    for index in range(count):
        weight = torch.randn(50, 90, generator=draw) * 10.0 ** -(index + 1)
        weight[7, 5:60] = 0.0
        weight[9, :40] = 0.0
        bias = None if index else torch.randn(50, generator=draw)
        layers[f"encoder.{index}.dense"] = AnalogLinear(weight, bias, hardware, f"encoder.{index}.dense").eval()
    return layers, hardware


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("seconds", [None, 0.0, DAY])
def test_reading_back_gives_the_same_bits(cell: str, seconds: float | None, tmp_path: Path) -> None:
    if cell == "reram-wan2022" and seconds == 0.0:
        seconds = 1.0  # It has data for some times only.
    layers, hardware = make(**CELLS[cell])
    moment = None if seconds is None else ChipMoment(Chip(5, layers, hardware), seconds)
    write_layers(tmp_path, layers, hardware, moment)
    x = torch.randn(64, 90, generator=torch.Generator().manual_seed(1))
    back = read_layers(tmp_path)
    assert list(back) == list(layers)
    for name, layer in layers.items():
        assert torch.equal(back[name].weight, layer.weight)
        if layer.state is not None:
            assert back[name].state is not None
            assert torch.equal(back[name].state.weight, layer.state.weight)
            assert torch.equal(back[name].state.compensation, layer.state.compensation)
            offset = layer.state.adc_offset
            assert (offset is None) == (back[name].state.adc_offset is None)
            assert offset is None or torch.equal(back[name].state.adc_offset, offset)
        with torch.no_grad():
            assert torch.equal(back[name](x), layer(x))
    assert (tmp_path / CHIP).exists() == (seconds is not None)


def test_the_targets_by_hand(tmp_path: Path) -> None:
    """A single pair: the column's largest weight is at g_max, each weight in one device, the other at g_min."""
    layers, hardware = make(count=1, g_min=1.0, g_max=21.0)
    write_layers(tmp_path, layers, hardware)
    tensors = load_file(str(tmp_path / TARGETS))
    (layer,) = layers.values()
    inputs, outputs = slice(30, 60), slice(17, 34)  # 90 inputs on 3 tiles of 30, 50 outputs on 17 + 17 + 16.
    block = layer.weight.detach()[outputs, inputs].double()
    scale = block.abs().amax(dim=1)
    units = block / scale[:, None]
    prefix = "encoder.0.dense/1.1"
    plus, minus = tensors[f"{prefix}/g_plus"].double(), tensors[f"{prefix}/g_minus"].double()
    assert plus.shape == (30, 17), "word lines (inputs), bit lines (outputs)"
    assert torch.allclose(plus, 1.0 + 20.0 * units.clamp(min=0).t(), atol=1e-5)
    assert torch.allclose(minus, 1.0 + 20.0 * (-units).clamp(min=0).t(), atol=1e-5)
    assert torch.equal(tensors[f"{prefix}/column_scale"].double(), scale)
    assert torch.equal(tensors["encoder.0.dense/bias"], layer.bias)
    assert tensors[f"{prefix}/rounding"].abs().max() < 1e-6 * 21.0
    content = json.loads((tmp_path / MAP).read_text())
    assert content["cell"] == {
        "devices": ["g_plus", "g_minus"],
        "significance": [1.0],
        "g_min": 1.0,
        "g_max": 21.0,
        "reference_columns": 0,
    }
    (tile,) = [t for t in content["layers"][0]["tiles"] if (t["row"], t["column"]) == (1, 1)]
    assert tile["inputs"] == [30, 60] and tile["outputs"] == [17, 34] and tile["scale"] == pytest.approx(20.0)


def test_a_chip_is_on_the_scale_of_the_programming(tmp_path: Path) -> None:
    """Devices that were programmed too high are not brought down to g_max, as aihwkit's numbers are."""
    hardware = HardwareConfig(device_options={"read_noise_scale": 0.0, "drift_scale": 0.0})
    layer = AnalogLinear(torch.randn(30, 40, generator=torch.Generator().manual_seed(1)), None, hardware, "a")
    chip = Chip(1, {"a": layer}, hardware)
    write_layers(tmp_path, {"a": layer}, hardware, ChipMoment(chip, 1000.0))
    held = load_file(str(tmp_path / CHIP))
    chip.hold_programmed()
    assert layer.state is not None
    programmed = layer.state.weight / layer.column_scale[0][:, None]
    difference = (held["a/0.0/g_plus"] - held["a/0.0/g_minus"]).t()
    assert torch.allclose(difference, 25.0 * programmed, atol=1e-4)
    assert float(difference.abs().max()) > 26.0, "the largest error of 30 columns is above 1 uS"


def test_programming_errors_of_a_chip_are_those_of_the_device(tmp_path: Path) -> None:
    """Devices at g_max have the published programming error of 1.06 uS, those at 0 one of 0.26 uS, cut off below."""
    hardware = HardwareConfig(device_options={"read_noise_scale": 0.0})
    weight = torch.where(torch.rand(400, 500, generator=torch.Generator().manual_seed(2)) < 0.5, 1.0, -1.0)
    layers = {"a": AnalogLinear(weight, None, hardware, "a")}
    write_layers(tmp_path, layers, hardware, ChipMoment(Chip(1, layers, hardware), 0.0))
    targets, held = load_file(str(tmp_path / TARGETS)), load_file(str(tmp_path / CHIP))
    error = (held["a/0.0/g_plus"] - targets["a/0.0/g_plus"])[targets["a/0.0/g_plus"] > 24.0]
    # aihwkit hands the sum of both devices' errors on: 1.0555 uS, and the half of 0.2635 uS that is above zero.
    expected = (1.05538**2 + 0.26348**2 * (0.5 - 1 / (2 * torch.pi))) ** 0.5
    assert float(error.std()) == pytest.approx(expected, rel=0.02)


def test_an_export_of_the_first_version_has_no_reference_columns(tmp_path: Path) -> None:
    layers, hardware = make(count=1, device="reram-cmo", reference_columns=0)
    write_layers(tmp_path, layers, hardware)
    content = json.loads((tmp_path / MAP).read_text())
    del content["cell"]["reference_columns"], content["hardware"]["reference_columns"]
    (tmp_path / MAP).write_text(json.dumps({**content, "version": 1}))
    for name, layer in read_layers(tmp_path).items():
        assert torch.equal(layer.weight, layers[name].weight)
        assert layer.hardware.references == 0


def test_stuck_devices_and_references_in_the_file(tmp_path: Path) -> None:
    layers, hardware = make(count=1, device="reram-cmo", stuck_high=0.1, reference_columns=2)
    write_layers(tmp_path, layers, hardware, ChipMoment(Chip(5, layers, hardware), DAY))
    targets, held = load_file(str(tmp_path / TARGETS)), load_file(str(tmp_path / CHIP))
    (tile,) = [
        t for t in json.loads((tmp_path / MAP).read_text())["layers"][0]["tiles"] if (t["row"], t["column"]) == (1, 1)
    ]
    prefix = "encoder.0.dense/1.1"
    zero = 9.0 - tile["offset"] * tile["scale"]  # The conductance of a weight of zero.
    assert targets[f"{prefix}/reference"].shape == (30, 2)
    assert torch.allclose(targets[f"{prefix}/reference"], torch.tensor(zero), atol=1e-4)
    stuck = (held[f"{prefix}/g"] - 88.199997).abs() < 1e-4
    assert 0.05 < stuck.double().mean() < 0.15


def test_a_chip_is_aged_once_for_all_layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layers, hardware = make(count=3)
    chip = Chip(1, layers, hardware)
    ages: list[float] = []
    age = chip.age
    monkeypatch.setattr(chip, "age", lambda seconds: (ages.append(seconds), age(seconds)))
    write_layers(tmp_path, layers, hardware, ChipMoment(chip, 1000.0))
    assert ages == [1000.0]


def test_another_output_noise(tmp_path: Path) -> None:
    layers, hardware = make(output_noise=0.3)
    write_layers(tmp_path, layers, hardware)
    x = torch.randn(8, 90)
    loud, quiet = read_layers(tmp_path)["encoder.0.dense"], read_layers(tmp_path, output_noise=0.0)["encoder.0.dense"]
    assert not torch.equal(loud(x), loud(x)) and torch.equal(quiet(x), quiet(x))


def test_a_tile_without_conductances_is_an_error(tmp_path: Path) -> None:
    """A single device maps the range of the weights: there is none where all are equal."""
    hardware = HardwareConfig(device="reram-cmo")
    layers = {"a": AnalogLinear(torch.zeros(4, 4), None, hardware, "a")}
    with pytest.raises(AnaloraError, match=r"a/0\.0/g: not finite: device reram-cmo with converter single-device"):
        write_layers(tmp_path, layers, hardware)
    assert list(tmp_path.iterdir()) == []


def test_damaged_files(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"conductances\.json: cannot be read"):
        read_layers(tmp_path)
    layers, hardware = make()
    write_layers(tmp_path, layers, hardware)
    content = json.loads((tmp_path / MAP).read_text())
    for changed, message in (
        ({**content, "version": 3}, "version 3, expected 2"),
        ({**content, "format": "x"}, "not an export of conductances"),
        ({**content, "layers": [{**content["layers"][0], "out_features": 7}]}, "do not fit together"),
        ({**content, "layers": None}, "do not fit together"),
        ({**content, "hardware": {"adc_bits": "many"}}, "do not fit together"),
        ({key: content[key] for key in content if key != "chip"}, "do not fit together: 'chip'"),
        ({key: content[key] for key in content if key != "version"}, "version None, expected 2"),
    ):
        (tmp_path / MAP).write_text(json.dumps(changed))
        with pytest.raises(CheckpointError, match=message):
            read_layers(tmp_path)
    (tmp_path / MAP).write_text(json.dumps(content))
    tensors = load_file(str(tmp_path / TARGETS))
    del tensors["encoder.0.dense/1.1/g_minus"]
    save_file(tensors, str(tmp_path / TARGETS))
    with pytest.raises(CheckpointError, match=r"do not fit together: 'encoder\.0\.dense/1\.1/g_minus'"):
        read_layers(tmp_path)
    (tmp_path / TARGETS).write_bytes(b"short")
    with pytest.raises(CheckpointError, match=r"conductances\.safetensors: cannot be read"):
        read_layers(tmp_path)
