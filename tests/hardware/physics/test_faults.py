"""Reference columns of single devices, and what differs from chip to chip for good."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from analog_lora_cli.config.devices import DEVICES
from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.hardware.physics.aihwkit_tiles import AihwkitLinear
from analog_lora_cli.hardware.physics.chip import Chip
from analog_lora_cli.hardware.tile.analog_linear import AnalogLinear
from analog_lora_cli.hardware.tile.grid import TileGrid
from analog_lora_cli.hardware.tile.mapping import clip_weight_
from analog_lora_cli.hardware.tile.state import TileState

TEN_YEARS = 10 * 365 * 86400.0
SINGLE = [name for name in DEVICES.names() if DEVICES[name].converter == "single-device"]
IDEAL: dict[str, Any] = {"dac_bits": 0, "adc_bits": 0, "adc_bound": 0.0, "output_noise": 0.0}
QUIET = {"prog_noise_scale": 0.0, "read_noise_scale": 0.0, "drift_scale": 0.0}


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def on_chip(
    hardware: HardwareConfig, seconds: float, weight: Tensor | None = None, seed: int = 1, kind: type = AnalogLinear
) -> tuple[AnalogLinear, TileState]:
    """A layer of 50 outputs and 90 inputs, unless another weight is given, on a chip."""
    layer = kind(normal(50, 90, seed=3) if weight is None else weight, None, hardware, "layer").eval()
    Chip(seed, {"layer": layer}, hardware).age(seconds)
    assert layer.state is not None
    return layer, layer.state


def gelu_error(device: str, seed: int, **changes: Any) -> float:
    """Relative error of a layer's product after GELU at 10 years, with the default converters and clipping."""
    hardware = HardwareConfig(device=device, **changes)
    grid = TileGrid.of(128, 384, hardware)
    weight = normal(128, 384, seed=seed)
    clip_weight_(weight, grid, hardware.clip_sigma, hardware.clip_scope)
    layer, _ = on_chip(hardware, TEN_YEARS, weight, seed)
    x = functional.gelu(normal(256, 384, seed=seed + 100))
    torch.manual_seed(0)
    with torch.no_grad():
        exact = functional.linear(x, weight)
        return float((layer(x) - exact).norm() / exact.norm())


class TestReferences:
    @pytest.mark.parametrize("device", SINGLE)
    @pytest.mark.parametrize("compensation", ["global", "none"])
    def test_after_gelu_and_ten_years(self, device: str, compensation: str) -> None:
        errors = [gelu_error(device, seed, drift_compensation=compensation) for seed in range(3)]
        assert max(errors) < 0.15
        without = gelu_error(device, 0, drift_compensation=compensation, reference_columns=0)
        assert without > 0.8, "the common decay of all devices, which no gain removes"

    def test_there_is_such_a_device(self) -> None:
        assert SINGLE == ["reram-cmo"]

    def test_a_decay_of_all_devices_alike_cancels(self) -> None:
        alike = {"prog_noise_scale": 0.0, "decay_dict": {"mean": [-0.089], "std": [0.0, 0.0]}}
        alike |= {"read_noise_scale": 0.0}
        chosen: dict[str, Any] = {"device": "reram-cmo", "device_options": alike, "drift_compensation": "none"}
        errors = []
        for columns in (1, 3, 0):
            layer, state = on_chip(HardwareConfig(reference_columns=columns, tile_rows=0, **chosen), TEN_YEARS)
            scale = layer.column_scale[0][:, None]
            # The lowest conductances cannot decay: aihwkit clamps them at g_min.
            free = layer.weight / scale > -0.9
            errors.append(float(((state.weight - layer.weight) / scale)[free].abs().max()))
        assert max(errors[:2]) < 1e-5
        assert errors[2] == pytest.approx(0.089 * math.log(TEN_YEARS) / 39.6, rel=1e-3), "tile units of 39.6 uS"

    @pytest.mark.parametrize("columns", [1, 4, 16])
    def test_their_own_noise_is_shared_and_averaged(self, columns: int) -> None:
        """Of the error of a weight, the part that all columns share has 1 / n of the variance of one device."""
        weight = normal(400, 300, seed=1).clamp(-1, 1)
        hardware = HardwareConfig(device="reram-cmo", reference_columns=columns, drift_compensation="none")
        layer, state = on_chip(hardware, TEN_YEARS, weight)
        error = (state.weight - weight) / layer.column_scale[0][:, None]
        shared = error.mean(dim=0)
        ratio = float(shared.var() / (error - shared).var())
        # 300 references are one sample: the variance of the ratio is 2 / 300, and 1 / 400 comes from the average.
        assert ratio == pytest.approx(1 / columns + 1 / 400, rel=4.5 * (2 / 300) ** 0.5)

    def test_they_take_columns_of_the_tile(self) -> None:
        hardware = HardwareConfig(device="reram-cmo", tile_columns=24)
        assert (hardware.references, hardware.weight_columns) == (4, 20)
        assert TileGrid.of(50, 90, hardware).columns == [(0, 17), (17, 34), (34, 50)]
        assert len(TileGrid.of(20, 90, hardware).columns) == 1 and len(TileGrid.of(21, 90, hardware).columns) == 2
        assert HardwareConfig(device="reram-cmo", tile_columns=0).weight_columns == 0
        assert HardwareConfig().references == 0

    def test_refusals(self) -> None:
        with pytest.raises(ValueError, match="reference_columns: converter single-pair has two devices"):
            HardwareConfig(reference_columns=1)
        with pytest.raises(ValueError, match=r"reference_columns \(8\) must be below tile_columns \(8\)"):
            HardwareConfig(device="reram-cmo", reference_columns=8, tile_columns=8)


CELLS: dict[str, dict[str, Any]] = {
    "pair": {},
    "n-pair": {"converter": "n-pair", "converter_options": {"f_lst": [1.0, 2.0]}},
    "single": {"converter": "single-device", "g_min": 1.0},
}


class TestStuckDevices:
    @pytest.mark.parametrize("cell", CELLS)
    def test_the_same_devices_at_all_times(self, cell: str) -> None:
        hardware = HardwareConfig(stuck_low=0.1, stuck_high=0.05, tile_rows=60, **CELLS[cell])
        layer = AnalogLinear(normal(200, 120, seed=1), None, hardware, "layer")
        chip, healthy = (
            Chip(3, {"layer": layer}, one)
            for one in (hardware, hardware.model_copy(update={"stuck_low": 0.0, "stuck_high": 0.0}))
        )
        g_min, g_max = hardware.conductance_range
        before: list[Tensor] | None = None
        for seconds in (0.0, TEN_YEARS):
            stuck = []
            for tile, well in zip(
                chip.conductances("layer", seconds), healthy.conductances("layer", seconds), strict=True
            ):
                for device, other in zip(tile.devices, well.devices, strict=True):
                    moved = ~torch.isclose(device, other, rtol=1e-6, atol=1e-6)
                    # On the scale of the programming, whose single-precision rounding is 1e-7 of g_max.
                    high = torch.isclose(device[moved], torch.tensor(g_max, dtype=torch.float64), rtol=1e-5)
                    low = torch.isclose(device[moved], torch.tensor(g_min, dtype=torch.float64), atol=1e-4)
                    assert (high | low).all() and high.any()
                    stuck.append(torch.isclose(device, torch.tensor(g_max, dtype=torch.float64), rtol=1e-6))
            share = torch.cat([one.reshape(-1) for one in stuck]).double().mean()
            assert float(share) == pytest.approx(0.05, abs=0.01)
            if before is not None:
                assert sum(int((a & ~b).sum()) for a, b in zip(before, stuck, strict=True)) == 0
            before = stuck

    def test_the_weight_of_a_cell_by_hand(self) -> None:
        """Without noise: G+ or G- at 25 uS adds or takes a tile unit, at 0 it takes the weight away."""
        hardware = HardwareConfig(stuck_high=0.1, device_options=QUIET, drift_compensation="none")
        _, state = on_chip(hardware, 0.0, torch.full((60, 70), 0.5))
        values, counts = torch.unique((state.weight * 2).round(decimals=4), return_counts=True)
        # The weight is 0.5 = one tile unit, so that G+ is at g_max anyhow; with G- there too nothing is left.
        assert values.tolist() == [0.0, 1.0]
        assert float(counts[0] / counts.sum()) == pytest.approx(0.1, abs=0.02)
        _, low = on_chip(
            hardware.model_copy(update={"stuck_high": 0.0, "stuck_low": 0.1}), 0.0, torch.full((60, 70), 0.5)
        )
        assert sorted(set(low.weight.flatten().tolist())) == [0.0, 0.5]
        assert float((low.weight == 0).double().mean()) == pytest.approx(0.1, abs=0.02)

    def test_all_devices(self) -> None:
        _, state = on_chip(HardwareConfig(stuck_low=1.0), 0.0)
        assert (state.weight == 0).all()
        with pytest.raises(ValueError, match=r"stuck_low \(0.6\) and stuck_high \(0.5\)"):
            HardwareConfig(stuck_low=0.6, stuck_high=0.5)


class TestColumns:
    def test_dead_columns_give_nothing(self) -> None:
        hardware = HardwareConfig(dead_columns=0.2, tile_rows=30, drift_compensation="per-column", **IDEAL)
        _, state = on_chip(hardware, TEN_YEARS, normal(400, 90, seed=1))
        blocks = torch.stack([state.weight[:, start : start + 30].abs().amax(dim=1) for start in (0, 30, 60)])
        dead = blocks == 0
        assert float(dead.double().mean()) == pytest.approx(0.2, abs=0.05)
        assert (state.compensation[dead] == 1).all() and (state.compensation[~dead] > 1).all()
        assert len({tuple(row.tolist()) for row in dead}) == 3, "each row of tiles has dead columns of its own"

    def test_gain_and_offset_of_each_column(self) -> None:
        hardware = HardwareConfig(adc_gain_mismatch=0.1, adc_offset_mismatch=0.2, tile_rows=45, **IDEAL)
        layer, state = on_chip(hardware, 0.0, normal(600, 90, seed=1))
        plain = hardware.model_copy(update={"adc_gain_mismatch": 0.0, "adc_offset_mismatch": 0.0})
        _, without = on_chip(plain, 0.0, normal(600, 90, seed=1))
        blocks = [slice(0, 45), slice(45, 90)]
        gains = torch.stack([state.weight[:, one].norm(dim=1) / without.weight[:, one].norm(dim=1) for one in blocks])
        for block, gain in zip(blocks, gains, strict=True):
            assert torch.allclose(
                state.weight[:, block], without.weight[:, block] * gain[:, None], rtol=1e-5, atol=1e-6
            )
        assert float(gains.std()) == pytest.approx(0.1, rel=0.1) and float(gains.mean()) == pytest.approx(1, abs=0.02)
        assert state.adc_offset is not None
        assert float(state.adc_offset.std()) == pytest.approx(0.2, rel=0.1)
        x = normal(8, 90, seed=2)
        a = torch.stack([x[:, :45].abs().amax(dim=1), x[:, 45:].abs().amax(dim=1)])
        digital = layer.column_scale * state.compensation
        products = torch.stack([x[:, :45] @ state.weight[:, :45].t(), x[:, 45:] @ state.weight[:, 45:].t()])
        expected = (products * state.compensation[:, None] + a[..., None] * (digital * state.adc_offset)[:, None]).sum(
            0
        )
        with torch.no_grad():
            assert torch.allclose(layer(x), expected, atol=1e-4)

    def test_the_offset_comes_before_the_rounding(self) -> None:
        hardware = HardwareConfig(adc_offset_mismatch=0.3, output_noise=0.0)
        layer, state = on_chip(hardware, 0.0)
        assert state.adc_offset is not None
        x = torch.zeros(1, 90)
        x[0, 0] = 1e-30  # An input scale of almost nothing: what is left is the offset.
        with torch.no_grad():
            codes = layer(x)[0] / 1e-30 / (layer.column_scale[0] * state.compensation[0]) / layer.converters.adc_step
        assert torch.allclose(codes, codes.round(), atol=1e-3)
        weight = state.weight[:, 0] / layer.column_scale[0]
        assert torch.equal(codes.round(), ((weight + state.adc_offset[0]) / layer.converters.adc_step).round())


ALL = {"stuck_low": 0.05, "dead_columns": 0.1, "adc_gain_mismatch": 0.05, "adc_offset_mismatch": 0.1}


def test_faults_depend_on_the_seed_alone_and_on_no_other_fault() -> None:
    hardware = HardwareConfig(**ALL)
    _, state = on_chip(hardware, 0.0)
    _, again = on_chip(hardware, TEN_YEARS)
    _, other = on_chip(hardware, 0.0, seed=2)
    assert state.adc_offset is not None and again.adc_offset is not None and other.adc_offset is not None
    assert torch.equal(state.adc_offset, again.adc_offset) and not torch.equal(state.adc_offset, other.adc_offset)
    _, alone = on_chip(HardwareConfig(adc_offset_mismatch=0.1), 0.0)
    assert alone.adc_offset is not None and torch.equal(alone.adc_offset, state.adc_offset)
    _, dead = on_chip(HardwareConfig(dead_columns=0.1), 0.0)
    assert torch.equal((dead.weight == 0).all(dim=1), (state.weight == 0).all(dim=1))


def test_faults_leave_the_noise_of_the_devices_alone() -> None:
    _, healthy = on_chip(HardwareConfig(), TEN_YEARS)
    _, faulty = on_chip(HardwareConfig(stuck_low=0.05), TEN_YEARS)
    # Loops compute the one and torch the other: up to the last bits.
    same = torch.isclose(faulty.weight, healthy.weight, rtol=1e-5, atol=1e-6)
    assert 0.85 < float(same.double().mean()) < 0.97, "about half of the stuck devices were at g_min"


def test_the_fingerprint_knows_them() -> None:
    prints = set()
    for changes in ({}, *({key: value} for key, value in ALL.items())):
        hardware = HardwareConfig(**changes)
        chip = Chip(1, {"layer": AnalogLinear(normal(50, 90, seed=3), None, hardware, "layer")}, hardware)
        chip.age(0.0)
        prints.add(chip.fingerprint())
    assert len(prints) == 5


def test_the_drift_read_out_sees_the_faults() -> None:
    """A read-out that were blind to them would give the factor of the drift, 2.3, whatever the faults."""
    factors = {}
    for name, changes in {
        "none": {},
        "stuck low": {"stuck_low": 0.5},
        "stuck high": {"stuck_high": 0.5},
        "offset": {"adc_offset_mismatch": 1.0},
        "read noise": {"read_noise_per_product": 1.0},
        "IR drop": {"ir_drop": 1.0, "ir_drop_g_ratio": 100.0},
    }.items():
        hardware = HardwareConfig(output_noise=0.0, **changes)
        _, state = on_chip(hardware, TEN_YEARS, normal(200, 200, seed=1))
        factors[name] = float(state.compensation.mean())
    assert factors["none"] == pytest.approx(2.3, rel=0.02)
    assert factors["stuck low"] == pytest.approx(2.3, rel=0.05), "the share is lost at programming as it is later"
    # What does not drift keeps the read-out up.
    assert factors["stuck high"] < 1.5 and factors["offset"] < 1.5 and factors["read noise"] < 1.3
    # The larger current of the fresh devices loses more.
    assert factors["IR drop"] < 0.95 * factors["none"]


def test_aihwkits_tiles_hold_the_same_faults() -> None:
    faults = {key: value for key, value in ALL.items() if key != "adc_offset_mismatch"}
    hardware = HardwareConfig(adc_bits=0, output_noise=0.0, tile_rows=40, device="reram-cmo", tile_columns=30, **faults)
    x = normal(20, 90, seed=5)
    with torch.no_grad():
        ours, theirs = (on_chip(hardware, 86400.0, kind=kind)[0](x) for kind in (AnalogLinear, AihwkitLinear))
    assert torch.allclose(ours, theirs, atol=1e-4 * float(ours.abs().max()))


def test_under_torch_compile() -> None:
    torch._dynamo.reset()
    hardware = HardwareConfig(output_noise=0.0, ir_drop=1.0, ir_drop_g_ratio=400.0, **ALL)
    layer, _ = on_chip(hardware, 1e6)
    results = []
    for call in (layer, torch.compile(layer, backend="aot_eager", fullgraph=True)):
        x = normal(7, 90, seed=1).requires_grad_(True)
        y: Tensor = nn.Module.__call__(call, x)
        y.square().sum().backward()
        results.append((y.detach(), x.grad))
    assert torch.equal(results[0][0], results[1][0]) and torch.equal(*(grad for _, grad in results))
    torch._dynamo.reset()
