"""Drift compensation at every resolution of the ADC: the factor that a chip computes against the ideal one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.hardware.physics.chip import Chip
from analog_lora_cli.hardware.physics.compensation import coarse_read_out
from analog_lora_cli.hardware.tile.analog_linear import AnalogLinear

TEN_YEARS = 315_360_000.0
BITS = [8, 7, 6, 5, 4]


def weights(kind: str, rows: int, seed: int = 0, columns: int = 96) -> Tensor:
    """(columns, rows): Gaussian, or Student's t with three degrees of freedom, as they are or clipped at 3 sigma."""
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(columns, rows, generator=generator)
    if kind == "gaussian":
        return normal
    squares = torch.randn(3, columns, rows, generator=generator).square().mean(dim=0)
    heavy = normal / squares.sqrt()
    limit = 3 * heavy.std(dim=1, keepdim=True)
    return heavy if kind == "heavy" else heavy.clamp(-limit, limit)


def factors(weight: Tensor, kind: str, bits: int, chip: int = 0, seconds: float = TEN_YEARS) -> tuple[Tensor, Tensor]:
    """The factors of a chip, (columns,), and the ideal ones: least squares of what it holds against the target."""
    hardware = HardwareConfig(drift_compensation=kind, adc_bits=bits, dac_bits=bits)  # type: ignore[arg-type]
    layer = AnalogLinear(weight, None, hardware, "layer")
    Chip(chip, {"layer": layer}, hardware).age(seconds)
    assert layer.state is not None
    # In tile units, as the ADCs count: relative to each column's largest weight.
    target, held = (one / layer.column_scale[0][:, None] for one in (weight, layer.state.weight))
    over = 1 if kind.endswith("column") else (0, 1)
    ideal = target.square().sum(dim=over) / (target * held).sum(dim=over)
    return layer.state.compensation[0], ideal.expand(len(weight))


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("rows", [512, 24])
@pytest.mark.parametrize("kind", ["gaussian", "heavy", "heavy-clipped"])
def test_least_squares_is_right_at_every_resolution(kind: str, rows: int, bits: int) -> None:
    for chip in range(3):
        found, ideal = factors(weights(kind, rows, seed=chip), "least-squares", bits, chip)
        assert float(ideal[0]) > 1.8
        assert float(found[0] / ideal[0]) == pytest.approx(1, abs=0.05 if bits == 4 else 0.02)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("rows", [512, 24])
@pytest.mark.parametrize("kind", ["gaussian", "heavy", "heavy-clipped"])
def test_each_column_has_its_own_factor(kind: str, rows: int, bits: int) -> None:
    """Its statistical spread with 128 probes, ten years after programming: 2 to 4 %; at 4 bits some columns hardly
    reach the first level of the ADC and take the tile's factor, which is as far off as the columns differ."""
    pairs = [factors(weights(kind, rows, seed), "least-squares-per-column", bits, seed) for seed in range(3)]
    computed, ideal = (torch.cat(side) for side in zip(*pairs, strict=True))
    ratio = computed / ideal
    assert float(ratio.mean()) == pytest.approx(1, abs=0.03 if bits == 4 else 0.02)
    assert float(ratio.std()) < (0.1 if bits == 4 else 0.05)
    assert float(ratio.min()) > 0.7 and float(ratio.max()) < 1.5
    if rows == 24 and bits >= 6:
        assert float(torch.corrcoef(torch.stack([computed, ideal]))[0, 1]) > 0.9


def test_columns_that_the_adc_cannot_resolve_take_the_factor_of_their_tile() -> None:
    """One weight of 1 alone, halved after ten years, is always below the first level at 4 bits."""
    weight = weights("gaussian", 64)
    weight[:5] = 0.0
    weight[:5, 0] = 1.0
    of_tile, _ = factors(weight, "least-squares", 4)
    of_columns, _ = factors(weight, "least-squares-per-column", 4)
    assert torch.equal(of_columns[:5], of_tile[:5])
    assert (of_columns[5:] != of_tile[5:]).all()


def test_the_read_out_of_single_weights_is_biased_where_the_adc_is_coarse() -> None:
    """As aihwkit's own tiles are: at 6 bits a third too large, at 5 bits by factors."""
    for bits, low, high in ((8, 0.95, 1.05), (6, 1.2, 1.5), (5, 3.0, 20.0)):
        found, ideal = factors(weights("gaussian", 384), "global", bits)
        assert low < float(found[0] / ideal[0]) < high
        warned = coarse_read_out(HardwareConfig(adc_bits=bits))
        assert (warned is None) == (bits == 8)
        keys = ("hardware.drift_compensation=global", f"adc_bits={bits}", "adc_bound=12", "least-squares")
        assert warned is None or all(key in warned for key in keys)
    assert coarse_read_out(HardwareConfig(adc_bits=4, drift_compensation="least-squares")) is None
    assert coarse_read_out(HardwareConfig(adc_bits=0)) is None


def test_a_dead_column_keeps_the_factor_1() -> None:
    layer = AnalogLinear(weights("gaussian", 64), None, HardwareConfig(), "layer")
    hardware = HardwareConfig(drift_compensation="least-squares-per-column", dead_columns=0.2)
    layer.set_hardware(hardware)
    Chip(0, {"layer": layer}, hardware).age(TEN_YEARS)
    assert layer.state is not None
    dead, factor = (layer.state.weight == 0).all(dim=1), layer.state.compensation[0]
    assert 0 < int(dead.sum()) < len(dead)
    assert (factor[dead] == 1).all() and (factor[~dead] > 1.5).all()


@pytest.mark.parametrize("kind", ["least-squares", "global-exact"])
def test_dead_columns_leave_the_factor_of_the_others_alone(kind: str) -> None:
    """Expected of them, their products would make the factor of a tile a quarter larger."""
    found = []
    for dead_columns in (0.0, 0.2):
        hardware = HardwareConfig(drift_compensation=kind, dead_columns=dead_columns)  # type: ignore[arg-type]
        layer = AnalogLinear(weights("gaussian", 64), None, hardware, "layer")
        Chip(0, {"layer": layer}, hardware).age(0.0)
        assert layer.state is not None
        alive = (layer.state.weight != 0).any(dim=1)
        assert (int(alive.sum()) < len(alive)) == bool(dead_columns)
        found.append(float(layer.state.compensation[0][alive].mean()))
    assert found[1] == pytest.approx(found[0], abs=0.05)


@pytest.mark.parametrize("kind", ["least-squares", "least-squares-per-column"])
def test_aihwkits_tiles_take_the_same_factors(kind: str) -> None:
    pytest.importorskip("aihwkit")
    from analog_lora_cli.hardware.physics.aihwkit_tiles import AihwkitLinear

    options = {"drift_compensation": kind, "output_noise": 0.0, "dac_bits": 6, "adc_bits": 6}
    weight, outputs, x = weights("gaussian", 64), [], torch.randn(5, 64, generator=torch.Generator().manual_seed(1))
    for simulator, layer_class in (("fast", AnalogLinear), ("aihwkit", AihwkitLinear)):
        hardware = HardwareConfig(simulator=simulator, **options)  # type: ignore[arg-type]
        layer = layer_class(weight, None, hardware, "layer").eval()
        Chip(0, {"layer": layer}, hardware).age(TEN_YEARS)
        assert layer.state is not None and (layer.state.compensation > 1.5).all()
        outputs.append(layer(x))
    torch.testing.assert_close(*outputs, rtol=1e-5, atol=1e-5)


def test_right_after_programming_it_is_close_to_1() -> None:
    for bits in (8, 5):
        found, ideal = factors(weights("gaussian", 512), "least-squares", bits, seconds=0.0)
        assert float(found[0]) == pytest.approx(1, abs=0.05)
        assert float(found[0]) == pytest.approx(float(ideal[0]), rel=0.01)


@pytest.mark.parametrize("kind", ["least-squares", "least-squares-per-column"])
def test_columns_of_zeros_and_ideal_converters(kind: str) -> None:
    weight = weights("gaussian", 40)
    weight[3] = 0
    found, _ = factors(weight, kind, 8)
    assert torch.isfinite(found).all()
    for empty in (torch.zeros(6, 20), weight):
        hardware = HardwareConfig(drift_compensation=kind, adc_bits=0, adc_bound=0.0, dac_bits=0)  # type: ignore[arg-type]
        layer = AnalogLinear(empty, None, hardware, "layer").eval()
        Chip(0, {"layer": layer}, hardware).age(TEN_YEARS)
        y = layer(torch.ones(2, empty.shape[1]))
        assert torch.isfinite(y).all()
