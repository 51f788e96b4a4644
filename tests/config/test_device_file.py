"""Device files as `hardware.device`: the constants go into the configuration, the file is needed no more."""

from __future__ import annotations

from pathlib import Path

import pytest

from analog_lora_cli.config.device_file import PCM, DeviceConstants, device_file_text, read_device_file
from analog_lora_cli.config.load import dump_config, load_config
from analog_lora_cli.errors import ConfigError
from analog_lora_cli.hardware.physics.devices import noise_model
from analog_lora_cli.hardware.physics.fitted_noise import FittedNoiseModel

OWN = DeviceConstants.model_validate(PCM.model_dump() | {"g_max_uS": 20.0, "t_0_s": 30.0})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "own.yaml"
    path.write_text(device_file_text(OWN, {"measurements": "m.csv"}), encoding="utf-8")
    return path


def problems(*overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config("smoke-squad-lora", overrides=list(overrides))
    return str(caught.value)


def test_the_file_is_read_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_device_file(file) == OWN
    monkeypatch.chdir(file.parent)
    config = load_config("smoke-squad-lora", overrides="hardware.device=own.yaml")
    assert config.hardware.device == "fitted"
    assert config.hardware.conductance_range == (0.0, 20.0)
    kept = file.with_name("kept.yaml")
    kept.write_text(dump_config(config), encoding="utf-8")
    file.unlink()
    assert load_config(file=kept) == config
    model = noise_model(load_config(file=kept).hardware)
    assert isinstance(model, FittedNoiseModel)
    assert (model.t_0, model.reference, model.g_converter.g_max) == (30.0, 20.0, 20.0)


def test_constants_can_be_set_over_the_file(file: Path) -> None:
    for order in (1, -1):
        overrides = [f"hardware.device={file}", "hardware.device_options.t_0_s=60"][::order]
        assert load_config("smoke-squad-lora", overrides=overrides).hardware.device_options["t_0_s"] == 60
    config = load_config("smoke-squad-lora", overrides=[f"hardware.device={file}", "hardware.g_max=15"])
    assert config.hardware.conductance_range == (0.0, 15.0)


def test_another_device_replaces_all_constants(file: Path) -> None:
    base = load_config("smoke-squad-lora", overrides=f"hardware.device={file}").model_dump(mode="json")
    assert load_config(base=base, overrides="hardware.device=pcm").hardware.device_options == {}
    other = file.with_name("other.yaml")
    other.write_text(device_file_text(PCM, {}), encoding="utf-8")
    changed = load_config(base=base, overrides=f"hardware.device={other}")
    assert changed.hardware.device_options == PCM.model_dump(mode="json")
    assert load_config(base=base, overrides="hardware.device=fitted").hardware.device_options["t_0_s"] == 30.0


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("t_0_s: 30.0", "t0_s: 30.0", "t0_s: unknown key; did you mean t_0_s?"),
        ("t_0_s: 30.0", "t0_s: 30.0", "t_0_s: is missing"),
        ("exponent: 0.65", "exponent: much", "read_noise.exponent: input should be a valid number, got 'much'"),
        ("min: 0.049", "min: 0.2", "drift_mean: min (0.2) must not be above max (0.1)"),
        ("- 0.26348", "- -0.26348", "programming_noise_uS is below 0 (-0.263 uS) at 0 uS"),
        ("version: 1", "version: 2", "version: input should be 1, got 2"),
    ],
)
def test_wrong_files(file: Path, old: str, new: str, expected: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")
    message = problems(f"hardware.device={file}")
    assert f"hardware.device: {file}: {expected}" in message


def test_what_does_not_fit_the_device(file: Path) -> None:
    assert "none.yaml: cannot be read: No such file" in problems("hardware.device=none.yaml")
    assert "name the file that `analora fit-device` wrote" in problems("hardware.device=fitted")
    above = problems(f"hardware.device={file}", "hardware.g_max=25")
    assert "g_max (25 uS) is above the largest conductance that the device file was fitted to (20 uS)" in above
    unknown = problems(f"hardware.device={file}", "hardware.device_options.t_0=60")
    assert "device_options: t_0: unknown key; did you mean t_0_s?" in unknown
