"""IR drop and short-term read noise: the formulas written out once more, a circuit, and statistics.

aihwkit's torch tile has neither ("not supported in torch tile"), so it cannot be asked.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.hardware.tile.analog_linear import AnalogLinear

IDEAL: dict[str, Any] = {"adc_bits": 0, "adc_bound": 0.0, "output_noise": 0.0}
X = torch.randn(6, 40, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
WEIGHT = torch.randn(12, 40, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def layer(weight: Tensor = WEIGHT, **changes: Any) -> AnalogLinear:
    return AnalogLinear(weight, None, HardwareConfig(**{**IDEAL, **changes}), "layer").eval()


def converted(x: Tensor) -> tuple[Tensor, Tensor]:
    """Inputs after an 8-bit DAC, and their scale."""
    scale = x.abs().amax(dim=1, keepdim=True)
    return (x / scale * 127).round() / 127, scale


@pytest.mark.parametrize("adc", [{}, {"adc_bits": 8, "adc_bound": 12.0}])
def test_ir_drop_by_its_formula(adc: dict[str, Any]) -> None:
    """Three rows of tiles: each has inputs, positions and currents of its own."""
    ratio = 400.0
    result = layer(ir_drop=0.8, ir_drop_g_ratio=ratio, tile_rows=15, **adc)(X)
    expected = torch.zeros(6, 12, dtype=torch.float64)
    for start, stop in ((0, 14), (14, 27), (27, 40)):
        scale_O = WEIGHT[:, start:stop].abs().amax(dim=1)
        q, a = converted(X[:, start:stop])
        for token in range(6):
            for column in range(12):
                w = WEIGHT[column, start:stop] / scale_O[column]
                inputs = stop - start
                load = inputs / ratio * sum(abs(float(w[j]) * float(q[token, j])) for j in range(inputs))
                lost = sum((1 - (1 - j / inputs) ** 2) * float(w[j] * q[token, j]) for j in range(inputs))
                y = float(w @ q[token]) - 0.8 * (0.05 * load**3 - 0.2 * load**2 + 0.5 * load) * lost
                if adc:
                    y = round(y / (24 / 254)) * (24 / 254)
                expected[token, column] += a[token, 0] * scale_O[column] * y
    assert torch.allclose(result, expected, atol=1e-9)
    plain = layer(tile_rows=15, **adc)(X)
    assert (result - plain).norm() / plain.norm() > 0.02


@pytest.mark.parametrize("ratio", [1e5, 1e4, 1e3])
def test_ir_drop_is_that_of_a_resistive_bit_line(ratio: float) -> None:
    """The current of a ladder, solved exactly: the formula takes each column's load for evenly spread."""
    inputs = 64
    draw = np.random.default_rng(3)
    g, v = draw.random(inputs), np.ones(inputs)  # Inputs are durations, so that all voltages are the same.
    g[10] = 1.0  # The scale of the column.
    wires = 2 * np.eye(inputs) - np.eye(inputs, k=1) - np.eye(inputs, k=-1)
    wires[-1, -1] = 1.0  # Nothing beyond the last cell; the first one is a wire away from the ADC at 0 V.
    current = ratio * np.linalg.solve(np.diag(g) + ratio * wires, g * v)[0]
    result = layer(torch.tensor(g)[None], dac_bits=0, ir_drop=1.0, ir_drop_g_ratio=ratio)(torch.tensor(v)[None])
    lost, expected = float(g @ v - result[0, 0]), float(g @ v - current)
    assert lost == pytest.approx(expected, rel=0.1)
    assert expected > 0.2 * 64 * 16 / ratio / (1 + 64 * 16 / ratio)


@pytest.mark.parametrize("kind", ["constant", "pcm"])
def test_read_noise_is_that_of_weights_drawn_anew_for_each_product(kind: str) -> None:
    """Deviation of each output over 4,000 products against weights with noise of their own each time."""
    strength, products = 0.05, 4000
    x, noisy = X[:2], layer(read_noise_per_product=strength, read_noise_type=kind)
    torch.manual_seed(0)
    outputs = noisy(x.repeat(products, 1)).view(products, 2, 12)
    q, a = converted(x)
    scale_O = WEIGHT.abs().amax(dim=1)
    units = WEIGHT / scale_O[:, None]
    xi = torch.randn(products, *units.shape, dtype=torch.float64)
    sigma = strength * (units.abs().sqrt() if kind == "pcm" else torch.ones_like(units))
    drawn = torch.einsum("poi,ti->pto", xi * sigma, q) * a * scale_O
    assert torch.allclose(outputs.std(dim=0), drawn.std(dim=0), rtol=0.08)
    error = outputs.mean(dim=0) - layer()(x)
    assert (error.abs() < 4.5 * drawn.std(dim=0) / products**0.5).all()
    correlation = torch.corrcoef(outputs.reshape(products, -1).t()) - torch.eye(24)
    assert correlation.abs().max() < 5 / products**0.5


def test_read_noise_adds_to_the_output_noise() -> None:
    torch.manual_seed(0)
    x = X[:1].repeat(6000, 1)
    q, a = converted(X[:1])
    scale = WEIGHT.abs().amax(dim=1) * float(a)
    outputs = layer(read_noise_per_product=0.02, output_noise=0.1)(x)
    expected = (0.1**2 + 0.02**2 * float(q.square().sum())) ** 0.5
    assert float((outputs.std(dim=0) / scale).mean()) == pytest.approx(expected, rel=0.01)


def test_the_gradient_ignores_both() -> None:
    grads = []
    for changes in ({}, {"ir_drop": 1.0, "ir_drop_g_ratio": 400.0, "read_noise_per_product": 0.1}):
        x = X.clone().requires_grad_(True)
        layer(**changes)(x).sum().backward()
        grads.append(x.grad)
    assert torch.equal(*grads)


def test_compiled_loops_step_aside() -> None:
    """`kernels: numba` has no IR drop: the layer must compute it nevertheless."""
    weight, x = WEIGHT.float(), X.float()
    drop = {"ir_drop": 1.0, "ir_drop_g_ratio": 400.0}
    by_kernels, by_torch = (layer(weight, kernels=kernels, **drop)(x) for kernels in ("numba", "torch"))
    assert torch.equal(by_kernels, by_torch)
    assert (by_kernels - layer(weight, kernels="numba")(x)).norm() / by_torch.norm() > 0.02


def test_only_the_fast_simulator_has_them() -> None:
    for key in ("read_noise_per_product", "ir_drop", "adc_offset_mismatch"):
        with pytest.raises(ValueError, match=f"{key}: aihwkit's torch tile has none; use simulator: fast"):
            HardwareConfig(**{"simulator": "aihwkit", key: 0.1})


def test_a_product_without_them_is_that_of_a_linear_layer() -> None:
    y = layer(dac_bits=0)(X)
    assert torch.allclose(y, functional.linear(X, WEIGHT), atol=1e-12)
