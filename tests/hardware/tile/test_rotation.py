"""Rotation of inputs and weights: exact where nothing is quantized, the same everywhere, and worth it for outliers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from analog_lora_cli.config.recalibration import Recalibration
from analog_lora_cli.config.schema import Config
from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.errors import ConfigError, UsageError
from analog_lora_cli.export.export import export
from analog_lora_cli.export.request import ExportRequest
from analog_lora_cli.hardware.tile.analog_linear import AnalogLinear
from analog_lora_cli.hardware.tile.rotation import HadamardRotation, block_size, rotation_additions
from analog_lora_cli.models.build import load_base, with_adapter
from analog_lora_cli.models.input_ranges import set_input_ranges
from analog_lora_cli.models.modules import inputs_to
from analog_lora_cli.models.recalibration import Recalibrator
from analog_lora_cli.models.tiling import AnalogModel, put_on_tiles
from analog_lora_cli.workflows.observer import SilentObserver
from analog_lora_cli.workflows.train import train as run_training

ROTATED = {"input_rotation": "hadamard", "bound_management": "iterative"}
IDEAL = {"dac_bits": 0, "adc_bits": 0, "adc_bound": 0.0, "output_noise": 0.0, "clip_sigma": 0.0}


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("inputs", [1, 7, 8, 12, 64, 96, 576])
def test_orthogonal_in_blocks(inputs: int) -> None:
    rotation = HadamardRotation("layer", inputs)
    matrix_II = rotation(torch.eye(inputs, dtype=torch.float64)).T
    block = block_size(inputs)
    assert inputs % block == 0 and (inputs // block) % 2 == 1
    assert torch.allclose(matrix_II @ matrix_II.T, torch.eye(inputs, dtype=torch.float64), atol=1e-12)
    inside = torch.block_diag(*[torch.ones(block, block)] * (inputs // block)).bool()
    assert torch.equal(matrix_II != 0, inside)
    assert torch.allclose(matrix_II[inside].abs(), torch.tensor(block**-0.5, dtype=torch.float64))


def test_weights_turn_with_the_inputs_and_back() -> None:
    rotation, weight, x = HadamardRotation("layer", 96), normal(10, 96), normal(5, 96, seed=1)
    turned = rotation.of_weight(weight)
    assert torch.allclose(turned, rotation(weight), atol=1e-12)
    assert torch.allclose(functional.linear(rotation(x), turned), functional.linear(x, weight), atol=1e-12)
    assert torch.allclose(rotation.undone(turned), weight, atol=1e-12)


def test_layers_draw_signs_of_their_own() -> None:
    signs = [HadamardRotation(name, 64).signs for name in ("a", "b", "a")]
    assert torch.equal(signs[0], signs[2]) and not torch.equal(signs[0], signs[1])
    assert set(signs[0].tolist()) == {-1.0, 1.0}


def test_half_precision_is_rotated_in_float32() -> None:
    rotation, x = HadamardRotation("layer", 512), normal(20, 512).bfloat16()
    exact = rotation(x.double())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        turned = rotation(x)
    assert turned.dtype == torch.bfloat16
    assert torch.equal(turned, exact.float().bfloat16()) or (turned - exact).norm() / exact.norm() < 2e-3


def test_gradient_is_turned_back() -> None:
    layer, weight = _layer(normal(6, 24), HardwareConfig(**ROTATED, **IDEAL)), normal(6, 24)
    x = normal(3, 24, seed=2).requires_grad_()
    layer(x).sum().backward()
    assert x.grad is not None
    assert torch.allclose(x.grad, weight.sum(dim=0).expand(3, -1), atol=1e-6)


def test_outliers_cost_less() -> None:
    """Inputs with one number 50 times the others: 8-bit DACs leave the others 5 levels; rotated, they share all."""
    x, weight = normal(200, 256), normal(64, 256, seed=1)
    x[:, 3] *= 50
    exact = functional.linear(x, weight)
    errors = {}
    for kind in ("none", "hadamard"):
        hardware = HardwareConfig(**{**ROTATED, "input_rotation": kind}, output_noise=0.0, clip_sigma=0.0)
        errors[kind] = float((_layer(weight, hardware)(x) - exact).norm() / exact.norm())
    assert errors["hadamard"] < 0.6 * errors["none"], errors


def _layer(weight: Tensor, hardware: HardwareConfig) -> AnalogLinear:
    rotation = HadamardRotation("layer", weight.shape[1]) if hardware.input_rotation != "none" else None
    held = weight.clone() if rotation is None else rotation.of_weight(weight)
    return AnalogLinear(held, None, hardware, "layer", rotation=rotation).eval()


@pytest.fixture(params=["sst2", "instruction"])
def config(request: pytest.FixtureRequest, make_config: Callable[..., Config]) -> Config:
    return make_config(request.param, hardware={**ROTATED, **IDEAL})


def _on_tiles(config: Config) -> AnalogModel:
    loaded = with_adapter(load_base(config))
    loaded.module.eval()
    return put_on_tiles(loaded, config.hardware)


@pytest.mark.parametrize("simulator", ["fast", "aihwkit"])
def test_model_computes_as_before(config: Config, simulator: str) -> None:
    """With ideal converters and exact weights, and digitally, a rotated model is the plain one."""
    plain = with_adapter(load_base(config))
    plain.module.eval()
    tokens = torch.randint(5, 20, (3, 9), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = plain.module(input_ids=tokens).logits
        hardware = config.hardware.model_copy(update={"simulator": simulator, "bound_management": "saturate"})
        model = _on_tiles(config.model_copy(update={"hardware": hardware}))
        assert torch.allclose(model.loaded.module(input_ids=tokens).logits, expected, atol=2e-5)
        with model.digital():
            assert torch.allclose(model.loaded.module(input_ids=tokens).logits, expected, atol=2e-5)
    for layer in model.layers.values():
        assert not torch.allclose(layer.weight, layer.model_weight, atol=1e-3)


def test_ranges_are_of_rotated_inputs(make_config: Callable[..., Config]) -> None:
    config = make_config("sst2", hardware={**ROTATED, "input_range": "static", "input_range_value": 100.0})
    model = _on_tiles(config)
    set_input_ranges(model, before_training=True)
    name, layer = next(iter(model.layers.items()))
    largest: list[float] = []
    features = Recalibrator(model, Recalibration(rank=1, tokens=64, reads=1)).batches[0]
    with (
        torch.no_grad(),
        model.digital(),
        inputs_to(
            model.layers,
            lambda name_, x: largest.append(float(layer.at_tiles(x).abs().max())) if name_ == name else None,
        ),
    ):
        model.loaded.module(**features)
    assert layer.input_range is not None
    assert largest[0] == pytest.approx(float(layer.input_range.max()), rel=0.3)


def test_ranges_of_unrotated_inputs_are_not_those_of_rotated_ones() -> None:
    plain = HardwareConfig(input_range="static")
    rotated, coarser = (plain.model_copy(update=one) for one in ({"input_rotation": "hadamard"}, {"adc_bits": 6}))
    assert plain.shares_ranges(coarser)
    assert not plain.shares_ranges(rotated) and not rotated.shares_ranges(plain)


def test_recalibration_corrects_in_the_models_own_inputs(config: Config) -> None:
    """A correction of a rotated chip, as a plain adapter has it, brings the product nearer to the exact one."""
    hardware = config.hardware.model_copy(update={"input_rotation": "hadamard"})
    model = _on_tiles(config.model_copy(update={"hardware": hardware}))
    calibration = Recalibrator(model, Recalibration(rank=8, tokens=512, reads=1)).calibrate(3, 31536000.0)
    name, correction = max(calibration.corrections.items(), key=lambda one: one[1].rank)
    layer = model.layers[name]
    recorded: dict[str, Tensor] = {}
    batch = Recalibrator(model, Recalibration(rank=8, tokens=512, reads=1)).batches[0]
    with torch.no_grad(), model.digital(), inputs_to(model.layers, lambda own, x: recorded.update({own: x})):
        model.loaded.module(**batch)
    x = recorded[name]
    exact = functional.linear(x, layer.model_weight, layer.bias)
    with torch.no_grad(), model.on_chip(model.program(3), 31536000.0):
        analog = layer(x)
    without, corrected = (exact - analog).norm(), (exact - analog - correction.of(x)).norm()
    assert corrected < 0.9 * without


def test_exports(make_config: Callable[..., Config], tmp_path: Path) -> None:
    """The merged model's weights are the model's own; conductances are read back with their rotation."""
    from analog_lora_cli import load_conductances

    config = make_config("sst2", hardware={**ROTATED, "output_noise": 0.0})
    checkpoint = tmp_path / "run"
    run_training(config, checkpoint, SilentObserver())

    def exported(form: str) -> Path:
        request = ExportRequest(checkpoint=checkpoint, format=form, output=tmp_path / form)
        return export(request, lambda text: None).folder

    model, merged = load_conductances(exported("conductances")), exported("merged")
    assert "Hadamard" in (tmp_path / "conductances" / "README.md").read_text()
    import transformers

    plain = transformers.AutoModelForSequenceClassification.from_pretrained(merged).eval()
    tokens = torch.randint(5, 20, (3, 9), generator=torch.Generator().manual_seed(1))
    layers = [layer for layer in model.modules() if isinstance(layer, AnalogLinear)]
    assert layers and all(layer.rotation is not None for layer in layers)
    for layer in layers:
        layer.analog = False
    with torch.no_grad():
        assert torch.allclose(model(input_ids=tokens).logits, plain(input_ids=tokens).logits, atol=1e-4)
    with pytest.raises(UsageError, match="hardware.input_rotation=none"):
        exported("aihwkit")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "full"}, "input_rotation with method full"),
        ({"adapter": {"variant": "dora", "dropout": 0.0}}, "input_rotation with adapter.variant dora"),
        ({"method": "digital", "adapter": {"variant": "dora"}}, "input_rotation with adapter.variant dora"),
    ],
)
def test_refused(make_config: Callable[..., Config], changes: dict[str, object], message: str) -> None:
    with pytest.raises((ConfigError, ValueError), match=message):
        make_config("sst2", hardware=ROTATED, **changes)


def test_additions() -> None:
    assert rotation_additions(HardwareConfig(), 576) == 0
    assert rotation_additions(HardwareConfig(**ROTATED), 576) == 576 * 6
