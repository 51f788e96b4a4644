"""An adapter with the correction of a chip in it, as one plain LoRA adapter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from analog_lora_cli.models.adapter_variants import VARIANTS, Factors
from analog_lora_cli.models.error_fit import Correction
from analog_lora_cli.models.loaded import LoadedModel

if TYPE_CHECKING:
    from peft import LoraConfig

_PREFIX = "base_model.model."
"""Prefix of the names of a plain model's tensors in PEFT's files."""
_ADAPTER = ".lora_"
"""Part of the names of an adapter's own tensors there, for all variants that have factors."""


@dataclass(frozen=True)
class RecalibratedAdapter:
    """Files of an adapter that adds what an old one adds, and the correction of a chip.

    With the old adapter's product B A, scaled, and the correction D U^T, a layer adds

        [B D] [A; U^T] x

    a LoRA product of rank r + k with scale 1. Ranks differ by layer, which PEFT calls `rank_pattern`; layers that the
    old adapter left out have the correction alone.
    """

    config: LoraConfig
    tensors: Mapping[str, Tensor]
    """As PEFT stores them, the head included."""
    lora_parameters: int
    """Numbers in the products, without the head."""

    @classmethod
    def of(cls, loaded: LoadedModel, variant: str, corrections: Mapping[str, Correction]) -> RecalibratedAdapter:
        """Join the adapter of a model with corrections of its layers.

        Args:
            loaded: the model.
            variant: kind of its adapter, one that has factors.
            corrections: by layer.
        """
        from peft import LoraConfig, get_peft_model_state_dict

        factors, module = adapter_factors(loaded, variant), loaded.module
        for name, correction in corrections.items():
            factors[name] = _joined(factors.get(name), correction)
        # PEFT knows no rank of 0, which AdaLoRA leaves where it has cut a layer.
        factors = {name: own for name, own in factors.items() if len(own.before)}
        ranks = {name: len(own.before) for name, own in sorted(factors.items())}
        old, largest = module.peft_config[module.active_adapter], max(ranks.values())
        config = LoraConfig(
            r=largest,
            lora_alpha=largest,
            target_modules=list(ranks),
            rank_pattern=ranks,
            alpha_pattern=ranks,
            modules_to_save=old.modules_to_save,
            task_type=old.task_type,
            base_model_name_or_path=old.base_model_name_or_path,
            revision=old.revision,
            auto_mapping=old.auto_mapping,
            inference_mode=True,
        )
        stored = get_peft_model_state_dict(module, save_embedding_layers=False)
        tensors = {name: tensor for name, tensor in stored.items() if _ADAPTER not in name}
        for name, own in factors.items():
            tensors[f"{_PREFIX}{name}.lora_A.weight"] = own.before
            tensors[f"{_PREFIX}{name}.lora_B.weight"] = own.after
        on_cpu = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
        return cls(config, on_cpu, sum(own.before.numel() + own.after.numel() for own in factors.values()))

    def save(self, folder: Path) -> None:
        """Write adapter_config.json and adapter_model.safetensors.

        Args:
            folder: where; created if it does not exist.
        """
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        self.config.save_pretrained(str(folder))
        save_file(dict(self.tensors), str(folder / "adapter_model.safetensors"), metadata={"format": "pt"})


def adapter_factors(loaded: LoadedModel, variant: str) -> dict[str, Factors]:
    """What the adapter of a model adds, by the layer's name in the plain model.

    Args:
        loaded: the model.
        variant: kind of its adapter, one that has factors.
    """
    from peft.tuners.lora import LoraLayer

    factors = VARIANTS[variant].factors
    assert factors is not None
    layers = [(name, part) for name, part in loaded.plain.named_modules() if isinstance(part, LoraLayer)]
    return {name: factors(part) for name, part in layers}


def _joined(old: Factors | None, correction: Correction) -> Factors:
    if old is None:
        return Factors(correction.before, correction.after)
    dtype = torch.promote_types(old.before.dtype, correction.before.dtype)
    before = torch.cat([old.before.to(dtype), correction.before.to(dtype)], dim=0)
    return Factors(before, torch.cat([old.after.to(dtype), correction.after.to(dtype)], dim=1))
