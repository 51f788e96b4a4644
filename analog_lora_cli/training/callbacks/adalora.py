"""AdaLoRA's rank budget: PEFT leaves its schedule and its averages to the training loop."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file

from analog_lora_cli.training.callbacks.state import StatefulCallback

if TYPE_CHECKING:
    from peft import AdaLoraConfig, PeftModel
    from peft.tuners.adalora import RankAllocator
    from transformers import TrainerControl, TrainerState, TrainingArguments

FILE = "adalora.safetensors"
PATTERN = "rank_pattern"
"""Prefix of the ranks that are left once the budget is final."""
AVERAGES = ("ipt", "exp_avg_ipt", "exp_avg_unc")
TOTAL = "total_step"


class AdaLoraBudget(StatefulCallback):
    """Schedules AdaLoRA's budget over the steps of the training, and moves it after each of them.

    PEFT stores neither the importance averages nor the current ranks; the saved state has them.

    Args:
        model: a PEFT model with an AdaLoRA adapter.
    """

    def __init__(self, model: PeftModel) -> None:
        self.model = model

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        self._schedule(state.max_steps)

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        self.model.base_model.update_and_allocate(state.global_step)

    def save_state(self, folder: Path) -> None:
        """Write averages, ranks and the length of the schedule."""
        tensors = {
            f"{kind}/{name}": tensor.detach().cpu().contiguous()
            for kind in AVERAGES
            for name, tensor in getattr(self._allocator, kind).items()
        }
        pattern = self._config.rank_pattern or {}
        tensors |= {f"{PATTERN}/{name}": torch.tensor(ranks, dtype=torch.bool) for name, ranks in pattern.items()}
        tensors[TOTAL] = torch.tensor(self._config.total_step)
        save_file(tensors, str(folder / FILE))

    def load_state(self, folder: Path) -> None:
        """Take averages, ranks and the length of the schedule from a saved state."""
        tensors = load_file(str(folder / FILE))
        self._schedule(int(tensors.pop(TOTAL)))
        device = next(self.model.parameters()).device
        pattern: dict[str, list[bool]] = {}
        for key, tensor in tensors.items():
            kind, _, name = key.partition("/")
            if kind == PATTERN:
                pattern[name] = tensor.tolist()
            else:
                getattr(self._allocator, kind)[name] = tensor.to(device)
        if pattern:
            self._config.rank_pattern = pattern

    def _schedule(self, total_steps: int) -> None:
        """Keep the full rank for a tenth of the steps, and the final one for the last three tenths."""
        self._allocator.set_total_step(total_steps)
        self._config.tinit = total_steps // 10
        self._config.tfinal = total_steps * 3 // 10

    @property
    def _config(self) -> AdaLoraConfig:
        return self._allocator.peft_config

    @property
    def _allocator(self) -> RankAllocator:
        return self.model.base_model.rankallocator
