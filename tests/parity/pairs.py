"""The same layer on this project's tile and on aihwkit's, and measures of how far they are apart."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.hardware.physics.aihwkit_tiles import AihwkitLinear
from analog_lora_cli.hardware.tile.analog_linear import AnalogLinear
from analog_lora_cli.hardware.tile.training_noise import TrainingNoise


def hardware(**changes: Any) -> HardwareConfig:
    """Hardware without noise, but for what is changed."""
    return HardwareConfig(**{"output_noise": 0.0, "weight_noise": 0.0, **changes})


def normal(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Normal numbers that do not depend on the dtype."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def pair(
    weight: Tensor, bias: Tensor | None, chosen: HardwareConfig, noise: TrainingNoise | None = None
) -> tuple[AnalogLinear, AihwkitLinear]:
    """This project's layer and aihwkit's, in evaluation."""
    layers = [
        kind(weight.clone(), None if bias is None else bias.clone(), chosen, "layer", noise)
        for kind in (AnalogLinear, AihwkitLinear)
    ]
    return layers[0].eval(), layers[1].eval()  # type: ignore[return-value]


def by_hand(
    weight: Tensor,
    bias: Tensor | None,
    *,
    levels: tuple[int, int] = (254, 254),
    bound: float = 12.0,
    tile: tuple[int, int] = (512, 512),
    weight_noise: float = 0.0,
    output_noise: float = 0.0,
    range_decay: float | None = None,
) -> Any:
    """aihwkit's own layer, set up without any code of this project; it maps the weights itself.

    Args:
        levels: steps of DAC and ADC.
        tile: rows and columns.
        range_decay: learn the range of the inputs, with this decay; None: each token's largest input.
    """
    from aihwkit.nn import AnalogLinear as Layer
    from aihwkit.simulator.configs import TorchInferenceRPUConfig
    from aihwkit.simulator.parameters.enums import BoundManagementType, NoiseManagementType, WeightModifierType

    config = TorchInferenceRPUConfig()
    config.mapping.weight_scaling_omega = 1.0
    config.mapping.weight_scaling_columnwise = True
    config.mapping.max_input_size, config.mapping.max_output_size = tile
    config.forward.noise_management = NoiseManagementType.ABS_MAX
    config.forward.bound_management = BoundManagementType.NONE
    if range_decay is not None:
        config.forward.noise_management = NoiseManagementType.NONE
        learned = config.pre_post.input_range
        learned.enable, learned.init_from_data, learned.decay = True, 0, range_decay
    config.forward.inp_res, config.forward.out_res = 1 / levels[0], 1 / levels[1]
    config.forward.out_bound = bound
    config.forward.out_noise = output_noise
    config.modifier.type = WeightModifierType.ADD_NORMAL if weight_noise else WeightModifierType.NONE
    config.modifier.std_dev = weight_noise
    config.drift_compensation = None
    layer = Layer(weight.shape[1], weight.shape[0], bias=bias is not None, rpu_config=config)
    layer.set_weights(weight, bias)
    return layer


def outputs(layers: tuple[nn.Module, ...], x: Tensor) -> list[Tensor]:
    """What the layers make of an input, without gradients."""
    with torch.no_grad():
        return [layer(x) for layer in layers]


def distance(actual: Tensor, expected: Tensor) -> float:
    """Largest difference over the largest expected magnitude."""
    return float((actual - expected).abs().max() / expected.abs().max().clamp(min=1e-300))
