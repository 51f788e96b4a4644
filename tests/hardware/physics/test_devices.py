"""From the configuration to aihwkit's noise models, converters and tile configuration."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from aihwkit.inference.converter import conductance
from aihwkit.inference.noise.custom import StateIndependentNoiseModel
from aihwkit.inference.noise.hermes import HermesNoiseModel
from aihwkit.inference.noise.pcm import CustomDriftPCMLikeNoiseModel, PCMLikeNoiseModel
from aihwkit.inference.noise.reram import ReRamCMONoiseModel, ReRamWan2022NoiseModel

from analog_lora_cli.config.device_file import PCM
from analog_lora_cli.config.devices import DEVICES, Converter
from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.errors import ConfigError
from analog_lora_cli.hardware.physics.aihwkit_tiles import rpu_config
from analog_lora_cli.hardware.physics.chip import Chip
from analog_lora_cli.hardware.physics.devices import conductance_converter, defined_times, noise_model, undefined_times
from analog_lora_cli.hardware.physics.fitted_noise import FittedNoiseModel
from analog_lora_cli.hardware.tile.analog_linear import AnalogLinear

DRIFT_MODEL = {"g_lst": [0.0, 10.0, 25.0], "nu_mean_lst": [0.1, 0.06, 0.05], "nu_std_lst": [0.02, 0.02, 0.02]}
OPTIONS: dict[str, dict[str, Any]] = {
    "custom-drift": {"custom_drift_model": DRIFT_MODEL},
    "fitted": PCM.model_dump(),
}
CLASSES: dict[str, type] = {
    "pcm": PCMLikeNoiseModel,
    "custom-drift": CustomDriftPCMLikeNoiseModel,
    "hermes": HermesNoiseModel,
    "reram-cmo": ReRamCMONoiseModel,
    "reram-wan2022": ReRamWan2022NoiseModel,
    "state-independent": StateIndependentNoiseModel,
    "fitted": FittedNoiseModel,
}
CONVERTERS: dict[str, tuple[type, dict[str, Any]]] = {
    "single-pair": (conductance.SinglePairConductanceConverter, {}),
    "dual-pair": (conductance.DualPairConductanceConverter, {"f_lst": [1.0, 3.0]}),
    "n-pair": (conductance.NPairConductanceConverter, {"f_lst": [1.0, 2.0, 3.0]}),
    "custom-pair": (
        conductance.CustomPairConductanceConverter,
        {"f_lst": [1.0], "g_lst": [[0.0, 0.0, 0.0, 12.5, 25.0], [25.0, 12.5, 0.0, 0.0, 0.0]]},
    ),
    "single-device": (conductance.SingleDeviceConductanceConverter, {}),
}


def error(**changes: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        noise_model(HardwareConfig(**changes))
    return str(caught.value)


def test_the_lists_are_whole() -> None:
    assert set(CLASSES) == set(DEVICES.names())
    assert set(CONVERTERS) == set(get_args(Converter))


@pytest.mark.parametrize("device", CLASSES)
def test_devices_have_the_constants_of_aihwkit(device: str) -> None:
    model = noise_model(HardwareConfig(device=device, device_options=OPTIONS.get(device, {})))  # type: ignore[arg-type]
    assert type(model) is CLASSES[device]
    published = vars(CLASSES[device](**OPTIONS.get(device, {})))
    ours = vars(model)
    assert ours.keys() == published.keys()
    for name, value in published.items():
        if name == "g_converter":
            assert type(ours[name]) is type(value)
            # aihwkit's default for Wan's devices is 25 uS, but their constants were measured with 40.
            g_max = 40.0 if device == "reram-wan2022" else value.g_max
            assert (ours[name].g_min, ours[name].g_max) == (value.g_min, g_max)
        elif not (callable(value) or (device == "reram-wan2022" and "g_max" in name)):
            assert str(ours[name]) == str(value), name


@pytest.mark.parametrize("device", CLASSES)
def test_devices_program_and_age(device: str) -> None:
    """Errors of the first day are there, but small beside the weights; and zeros do no harm.

    The largest are those of `state-independent`, whose drift exponents spread by half their mean.
    """
    hardware = HardwareConfig(device=device, device_options=OPTIONS.get(device, {}))  # type: ignore[arg-type]
    weight = torch.randn(30, 50, generator=torch.Generator().manual_seed(1))
    weight[4] = 0
    layer = AnalogLinear(weight, None, hardware, "a")
    chip = Chip(1, {"a": layer}, hardware)
    for seconds in (1.0, 86400.0):
        chip.age(seconds)
        assert layer.state is not None
        held = layer.state.weight * layer.state.compensation.T
        assert torch.isfinite(held).all()
        assert 0.01 < (held - weight).norm() / weight.norm() < (0.5 if device == "state-independent" else 0.25)
        assert (held[4] == 0).all()


@pytest.mark.parametrize("name", CONVERTERS)
def test_converters(name: str) -> None:
    """Each gives back the weights it was given, with the configured range, and the noise model uses it."""
    kind, options = CONVERTERS[name]
    hardware = HardwareConfig(converter=name, converter_options=options, g_max=25.0, g_min=0.0)  # type: ignore[arg-type]
    converter = conductance_converter(hardware)
    assert type(converter) is kind
    assert (converter.g_min, converter.g_max) == (0.0, 25.0)
    weights = torch.linspace(-1, 1, 21).reshape(3, 7)
    conductances, parameters = converter.convert_to_conductances(weights)
    assert all(((each >= 0) & (each <= 25.0001)).all() for each in conductances)
    assert max(float(each.max()) for each in conductances) == pytest.approx(25, rel=1e-5)
    assert torch.allclose(converter.convert_back_to_weights(conductances, parameters), weights, atol=1e-5)
    assert type(noise_model(hardware).g_converter) is kind


def test_conductance_range() -> None:
    converter = conductance_converter(HardwareConfig(g_max=40.0, g_min=2.0))
    conductances, _ = converter.convert_to_conductances(torch.tensor([[-1.0, 0.0, 0.5]]))
    assert torch.allclose(conductances[0], torch.tensor([[2.0, 2.0, 21.0]]))
    assert torch.allclose(conductances[1], torch.tensor([[40.0, 2.0, 2.0]]))
    model = noise_model(HardwareConfig(device="reram-cmo", g_max=60.0))
    assert (model.g_converter.g_min, model.g_converter.g_max) == (9.0, 60.0)


def test_more_pairs_make_programming_more_exact() -> None:
    """Two pairs share the noise: the significant ones are written first, with more conductance for a weight."""
    errors = {}
    for converter in ("single-pair", "dual-pair"):
        hardware = HardwareConfig(
            converter=converter, converter_options=CONVERTERS[converter][1], drift_compensation="none"
        )
        weight = torch.rand(40, 50, generator=torch.Generator().manual_seed(1)) * 2 - 1
        layer = AnalogLinear(weight, None, hardware, "a")
        Chip(1, {"a": layer}, hardware).age(0.0)
        assert layer.state is not None
        errors[converter] = float((layer.state.weight - weight).norm())
    assert errors["dual-pair"] < 0.9 * errors["single-pair"]


@pytest.mark.parametrize("device", [device for device in CLASSES if device != "fitted"])  # It checks them earlier.
def test_unknown_constants(device: str) -> None:
    text = error(device=device, device_options={**OPTIONS.get(device, {}), "t0": 20.0, "noise": 1.0})
    assert "hardware.device_options.t0" in text
    assert "hardware.device_options.noise" in text
    assert "scale" in text, "the known constants are listed"
    for hidden in ("g_converter", "self", "g_max"):
        assert hidden not in text.replace("coeff_g_max_reference", "")


def test_constants_that_only_other_keys_may_set() -> None:
    """The range and the converter have keys of their own."""
    for device in ("pcm", "reram-cmo", "hermes"):
        for name in ("g_max", "g_converter", "self"):
            assert f"hardware.device_options.{name}" in error(device=device, device_options={name: 30.0})
    assert "hardware.converter_options.g_max" in error(converter_options={"g_max": 30.0})


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"converter_options": {"f_lst": [1.0]}}, "hardware.converter_options.f_lst"),
        ({"converter": "dual-pair"}, "hardware.converter_options"),
        ({"converter": "dual-pair", "converter_options": {"f_lst": [1.0]}}, "hardware.converter_options"),
        ({"converter": "n-pair", "converter_options": {"f_lst": 2.0}}, "hardware.converter_options"),
        ({"device": "custom-drift"}, "hardware.device_options"),
        ({"device": "custom-drift", "device_options": {"custom_drift_model": [1.0]}}, "hardware.device_options"),
        (
            {"device": "custom-drift", "g_max": 60.0, "device_options": {"custom_drift_model": DRIFT_MODEL}},
            "hardware.device_options",
        ),
        ({"device": "hermes", "device_options": {"num_devices": 3}}, "hardware.device_options"),
        ({"device": "reram-cmo", "converter": "single-pair"}, "hardware.converter"),
        (
            {"device_options": {"prog_coeff": [0.3, 1.0], "prog_coeff_g_max_reference": 25.0}},
            "hardware.device_options",
        ),
        ({"device": "reram-wan2022", "device_options": {"coeff_dic": {"soon": [1.0]}}}, "hardware.device_options"),
        ({"device_options": {"prog_noise_scale": "much"}}, "hardware.device_options"),
        ({"device_options": {"t_0": "20s"}}, "hardware.device_options"),
        ({"device_options": {"prog_coeff": []}}, "hardware.device_options"),
        ({"device_options": {"t_0": 0.0}}, "hardware.device_options"),
        ({"device": "reram-wan2022", "device_options": {"coeff_dic": [1.0]}}, "hardware.device_options.coeff_dic"),
        ({"device": "reram-wan2022", "device_options": {"coeff_g_max_reference": 40.0}}, "hardware.device_options"),
        (
            {"device": "custom-drift", "device_options": {"custom_drift_model": {"g_lst": [0.0, 25.0]}}},
            "hardware.device_options",
        ),
    ],
)
def test_constants_that_are_not_accepted(changes: dict[str, Any], key: str) -> None:
    assert key in error(**changes)


def test_constants_arrive() -> None:
    model = noise_model(HardwareConfig(device_options={"prog_noise_scale": 0.5, "t_0": 10.0, "prog_coeff": [1.0]}))
    assert (model.prog_noise_scale, model.t_0, model.prog_coeff) == (0.5, 10.0, [1.0])
    assert noise_model(HardwareConfig(g_max=30.0)).g_max == 30.0


def test_building_a_model_draws_nothing() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    noise_model(HardwareConfig())
    assert torch.equal(torch.rand(3), expected)


def test_defined_times() -> None:
    day = 86400.0
    hardware = HardwareConfig(device="reram-wan2022")
    assert defined_times(noise_model(hardware)) == [1.0, day, 2 * day]
    assert undefined_times(hardware, [0.0, 1.0, day, 7 * day]) == ([0.0, 7 * day], [1.0, day, 2 * day])
    own = HardwareConfig(device="reram-wan2022", device_options={"coeff_dic": {"1": [1.0], "3600": [2.0]}})
    assert defined_times(noise_model(own)) == [1.0, 3600.0]
    for device in set(CLASSES) - {"reram-wan2022"}:
        every = HardwareConfig(device=device, device_options=OPTIONS.get(device, {}))  # type: ignore[arg-type]
        assert undefined_times(every, [0.0, 1e9]) == ([], None)


def test_tile_configuration() -> None:
    """Levels over the range, as the schema promises, and nothing of aihwkit's that we do not simulate."""
    config = rpu_config(HardwareConfig(dac_bits=5, adc_bits=6, adc_bound=7.0, tile_rows=100, tile_columns=50))
    assert round(2 / (2 * config.forward.inp_res)) + 1 == 2**5 - 1
    assert round(2 / (2 * config.forward.out_res)) + 1 == 2**6 - 1
    assert config.forward.out_bound == 7.0
    assert (config.mapping.max_input_size, config.mapping.max_output_size) == (100, 50)
    assert config.forward.out_noise == 0.04
    assert config.modifier.std_dev == 0.067
    assert config.drift_compensation is None
    ideal = rpu_config(HardwareConfig(dac_bits=0, adc_bits=0, adc_bound=0.0))
    assert ideal.forward.inp_res <= 0 and ideal.forward.out_res <= 0 and ideal.forward.out_bound <= 0
    assert ideal.forward.inp_noise == 0 and ideal.forward.w_noise == 0
