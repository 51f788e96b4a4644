"""Recalibration in closed form: what it removes, under which weights, and what it never sees."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor

from analog_lora_cli.config.recalibration import Recalibration
from analog_lora_cli.config.schema import Config
from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.hardware.physics.chip import Chip
from analog_lora_cli.hardware.tile.analog_linear import AnalogLinear
from analog_lora_cli.hardware.tile.state import TileState
from analog_lora_cli.models import error_fit, recalibration
from analog_lora_cli.models.build import load_base, with_adapter
from analog_lora_cli.models.error_fit import ErrorFit, principal_directions, token_weights
from analog_lora_cli.models.recalibration import Recalibrator
from analog_lora_cli.models.tiling import AnalogModel, put_on_tiles
from analog_lora_cli.models.training_inputs import Batch, batches_with_tokens, digital_inputs, stored_inputs

YEAR = 31536000.0
EXACT = HardwareConfig(dac_bits=0, adc_bits=0, output_noise=0.0, tile_rows=0, tile_columns=0)


@pytest.fixture(params=["sst2", "instruction"])
def model(request: pytest.FixtureRequest, make_config: Callable[..., Config]) -> AnalogModel:
    """An encoder and a decoder on tiles, with an adapter."""
    loaded = with_adapter(load_base(make_config(request.param)))
    loaded.module.eval()
    return put_on_tiles(loaded, loaded.config.hardware)


def linear(weight: Tensor, hardware: HardwareConfig = EXACT) -> AnalogLinear:
    return AnalogLinear(weight, None, hardware, "layer")


def fitted(layer: AnalogLinear, x: Tensor, rank: int, reads: int = 1) -> error_fit.Correction:
    """The correction of a layer in its present state, from these inputs."""
    fit = ErrorFit(principal_directions(layer, x, rank), layer)
    for _ in range(reads):
        fit.add_read(x)
    return fit.correction(list(range(len(fit.gain_K()))))


def test_a_known_low_rank_error_is_taken_back() -> None:
    """Errors of the weights along the directions that inputs have, whatever they are along others."""
    torch.manual_seed(0)
    basis = torch.linalg.qr(torch.randn(24, 24))[0]
    x = torch.randn(400, 3) * torch.tensor([3.0, 2.0, 1.0]) @ basis[:, :3].T
    layer = linear(torch.randn(10, 24))
    exact = layer(x)
    error = torch.randn(10, 24)
    layer.state = TileState(layer.weight + error, torch.ones_like(layer.column_scale))
    correction = fitted(layer, x, rank=3)
    assert (exact - layer(x)).norm() > 0.3 * exact.norm()
    assert torch.allclose(layer(x) + correction.of(x), exact, atol=1e-4)
    assert correction.rank == 3 and correction.parameters == 3 * (10 + 24)
    assert torch.allclose(correction.before @ correction.before.T, torch.eye(3), atol=1e-5)
    expected = -error @ basis[:, :3] @ basis[:, :3].T
    assert torch.allclose(correction.after @ correction.before, expected, atol=1e-4)


def test_a_few_massive_tokens_do_not_decide_the_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The noise of a token is proportional to its largest input: unweighted, that of the massive ones is fitted."""
    torch.manual_seed(0)
    layer = linear(torch.randn(12, 16), HardwareConfig(dac_bits=8, adc_bits=8, output_noise=0.3))
    usual = torch.randn(300, 6) @ torch.randn(6, 16)
    x = torch.cat([usual, 300 * torch.randn(6, 6) @ torch.randn(6, 16)])
    layer.state = TileState(layer.weight + 0.3 * torch.randn(12, 16), torch.ones_like(layer.column_scale))

    def remaining() -> float:
        torch.manual_seed(1)
        correction = fitted(layer, x, rank=6)
        wrong = usual @ (layer.weight - layer.state.weight - correction.after @ correction.before).T
        return float(wrong.norm() / (usual @ (layer.weight - layer.state.weight).T).norm())

    weighted = remaining()
    monkeypatch.setattr(error_fit, "token_weights", lambda layer, x_TI: x_TI.new_ones(len(x_TI), 1))
    unweighted = remaining()
    assert weighted < 0.6 and weighted < 0.7 * unweighted


def test_weights_of_tokens_follow_the_rows_of_tiles() -> None:
    layer = linear(torch.randn(3, 4), HardwareConfig(tile_rows=2))
    x = torch.tensor([[3.0, -1.0, 2.0, -4.0], [0.0, 0.0, 0.0, 0.0], [0.0, 2.0, 0.0, 0.0]])
    assert token_weights(layer, x).flatten().tolist() == pytest.approx([1 / 5, 0.0, 1 / 2])


def test_noise_is_shrunk_away() -> None:
    """Where the layer has no error but its noise, nothing is corrected but a little of the noise."""
    torch.manual_seed(0)
    layer = linear(torch.randn(20, 16), HardwareConfig(dac_bits=0, adc_bits=0, output_noise=0.5))
    x = torch.randn(200, 16)
    alone, several = (fitted(layer, x, rank=8, reads=reads).after.norm() for reads in (1, 8))
    assert several < 0.15 * alone


class LowRankChip:
    """A chip whose error is as given, in place of the physics."""

    def __init__(self, layers: dict[str, AnalogLinear], errors: dict[str, Tensor]) -> None:
        self.layers, self.errors = layers, errors

    def age(self, seconds: float, read: int = 0) -> None:
        for name, layer in self.layers.items():
            layer.state = TileState(layer.weight + self.errors[name], torch.ones_like(layer.column_scale))


def outputs(model: AnalogModel) -> Tensor:
    """Outputs for the first training batch."""
    batch = batches_with_tokens(model.loaded, 64)[0]
    with torch.no_grad():
        result: Tensor = model.loaded.module(**{key: value for key, value in batch.items() if key != "labels"}).logits
    return result[batch["attention_mask"].bool()] if result.dim() == 3 else result


def error(model: AnalogModel, seed: int, read: int, block: object = None) -> float:
    """Squared error of the outputs on a chip after a year, against the digital model."""
    with model.digital():
        exact = outputs(model)
    torch.manual_seed(read)
    with model.on_chip(model.program(seed), YEAR, read), block or nullcontext():  # type: ignore[attr-defined]
        return float((outputs(model) - exact).square().mean())


def test_a_chip_gets_better_for_reads_that_the_calibration_has_not_seen(model: AnalogModel) -> None:
    recalibrator = Recalibrator(model, Recalibration(rank=8, tokens=512, reads=4))
    before = after = 0.0
    for seed in range(3):
        calibration = recalibrator.calibrate(seed, YEAR)
        before += sum(error(model, seed, read) for read in range(4))
        after += sum(error(model, seed, read, calibration.applied(model)) for read in range(4))
    assert after < 0.7 * before
    assert all(layer.state is None and not layer._forward_hooks for layer in model.layers.values())
    budget = 8 * sum(layer.in_features + layer.out_features for layer in model.layers.values())
    assert 0.9 * budget < calibration.parameters <= budget
    assert 0 < calibration.explained < 1 and len(set(calibration.ranks.values())) > 1


def test_calibration_and_evaluation_never_share_a_read(model: AnalogModel, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []
    original = Chip.age
    monkeypatch.setattr(Chip, "age", lambda self, seconds, read=0: (reads.append(read), original(self, seconds, read)))
    first = Recalibrator(model, Recalibration(rank=2, tokens=64, reads=3)).calibrate(0, YEAR)
    assert len(set(reads)) == 3 and min(reads) > 1_000_000
    torch.manual_seed(5)
    again = Recalibrator(model, Recalibration(rank=2, tokens=64, reads=3)).calibrate(0, YEAR)
    for name, correction in first.corrections.items():
        assert torch.equal(correction.after, again.corrections[name].after), "a function of chip, time and settings"


def test_the_formulas_of_the_docstring_token_by_token(make_config: Callable[..., Config]) -> None:
    config = make_config(hardware={"output_noise": 0.0, "tile_rows": 20})
    model = put_on_tiles(with_adapter(load_base(config)), config.hardware)
    recalibrator = Recalibrator(model, Recalibration(rank=64, tokens=300, reads=3))
    name = "bert.encoder.layer.1.attention.output.dense"
    layer, fitted = model.layers[name], recalibrator.calibrate(3, YEAR).corrections[name]
    x_TI = stored_inputs(model, [name], recalibrator.batches)[name]
    weight_T1 = token_weights(layer, x_TI).double()
    values_K, vectors_IK = torch.linalg.eigh((x_TI * weight_T1).T @ (x_TI * weight_T1))
    fits = []
    for read in range(3):
        with model.on_chip(model.program(3), YEAR, recalibration.FIRST_READ + read), torch.no_grad():
            error_TO = (x_TI @ layer.weight.T + layer.bias - layer(x_TI)).double()
        each = [
            w**2 * torch.outer(e, x @ vectors_IK) for w, e, x in zip(weight_T1, error_TO, x_TI.double(), strict=True)
        ]
        fits.append(torch.stack(each).sum(dim=0) / values_K)
    mean_OK, variance_K = torch.stack(fits).mean(dim=0), torch.stack(fits).var(dim=0).sum(dim=0) / 3
    expected_OK = mean_OK * (1 - variance_K / mean_OK.square().sum(dim=0)).clamp(min=0)
    # Those with much energy, which float32 tells from each other.
    own_OK = fitted.after.double() @ (fitted.before.double() @ vectors_IK)
    assert torch.allclose(own_OK[:, -12:], expected_OK[:, -12:], atol=2e-5)
    assert expected_OK[:, -12:].norm(dim=0).min() > 5e-3


def test_a_small_workspace_changes_passes_only(model: AnalogModel, monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[int] = []

    def counted(model: AnalogModel, names: list[str], batches: list[Batch]) -> dict[str, Tensor]:
        passes.append(len(names))
        return stored_inputs(model, names, batches)

    monkeypatch.setattr(recalibration, "stored_inputs", counted)
    found = []
    for workspace in (1 << 30, 64 * 32 * 4 * 3):
        monkeypatch.setattr("analog_lora_cli.models.workspace.WORKSPACE", workspace)
        recalibrator = Recalibrator(model, Recalibration(rank=4, tokens=64, reads=2))
        found.append([recalibrator.calibrate(seed, YEAR) for seed in (0, 1)])
    assert len(passes) > 7 and passes[0] == len(model.layers), "once in all; else for directions and for each chip"
    assert sum(passes) == (1 + 3) * len(model.layers)
    for whole, parts in zip(*found, strict=True):
        assert whole.ranks == parts.ranks
        assert all(torch.equal(one.after, parts.corrections[name].after) for name, one in whole.corrections.items())


def test_an_error_of_full_rank_in_one_layer_gets_the_budget(
    make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = with_adapter(load_base(make_config(hardware={"output_noise": 0.0, "dac_bits": 0, "adc_bits": 0})))
    model = put_on_tiles(loaded, loaded.config.hardware)
    torch.manual_seed(0)
    errors = {name: 1e-7 * torch.randn_like(layer.weight) for name, layer in model.layers.items()}
    (name,) = [name for name in errors if name.endswith("layer.1.attention.self.query")]
    errors[name] = 0.1 * torch.randn(32, 32)
    monkeypatch.setattr(AnalogModel, "program", lambda self, seed: LowRankChip(dict(self.layers), errors))
    calibration = Recalibrator(model, Recalibration(rank=2, tokens=256, reads=2)).calibrate(0, 0.0)
    ranks = calibration.ranks
    assert ranks[name] == 4 == max(ranks.values()), "twice the mean rank is the most that a layer gets"


def test_padding_does_not_count(make_config: Callable[..., Config]) -> None:
    model = put_on_tiles(with_adapter(load_base(make_config())), make_config().hardware)
    batches = batches_with_tokens(model.loaded, 100)
    tokens = sum(int(batch["attention_mask"].sum()) for batch in batches)
    assert 100 <= tokens < 120 < sum(batch["input_ids"].numel() for batch in batches)
    seen: dict[str, int] = {}
    digital_inputs(
        model, batches, lambda name, x: seen.update({name: seen.get(name, 0) + len(x.reshape(-1, x.shape[-1]))})
    )
    assert set(seen.values()) == {tokens, sum(len(batch["input_ids"]) for batch in batches)}
