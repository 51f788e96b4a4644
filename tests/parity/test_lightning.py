"""Against aihwkit-lightning, where it is installed: input scaling, DAC, product and weight noise without an ADC."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.parity.pairs import distance, hardware, normal, pair

lightning = pytest.importorskip("aihwkit_lightning")


def lightning_layer(weight: torch.Tensor, bias: torch.Tensor, tile_rows: int, bits: int) -> Any:
    from aihwkit_lightning.nn import AnalogLinear as Layer
    from aihwkit_lightning.simulator.configs import TorchInferenceRPUConfig

    config = TorchInferenceRPUConfig()
    config.mapping.max_input_size = tile_rows
    config.forward.inp_res = 2**bits - 2 if bits else -1
    config.pre_post.input_range.enable = True
    config.pre_post.input_range.dynamic = True
    config.pre_post.input_range.learn_input_range = False
    layer = Layer(weight.shape[1], weight.shape[0], bias=True, rpu_config=config)
    layer.set_weights_and_biases(weight, bias)
    return layer.eval()


@pytest.mark.parametrize("bits", [0, 4, 8])
@pytest.mark.parametrize("tile_rows", [512, 30])
def test_forward(tile_rows: int, bits: int) -> None:
    weight, bias = normal(33, 97, seed=1, dtype=torch.float32), normal(33, seed=2, dtype=torch.float32)
    x = normal(40, 97, seed=3, dtype=torch.float32)
    ours, _ = pair(weight, bias, hardware(dac_bits=bits, adc_bits=0, adc_bound=0.0, tile_rows=tile_rows))
    with torch.no_grad():
        assert distance(ours(x), lightning_layer(weight, bias, tile_rows, bits)(x)) < 1e-5
