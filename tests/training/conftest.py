"""A model of one layer and trainers on it: a training takes milliseconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import TrainerCallback, TrainingArguments

SAMPLES = 12
BATCH = 2


class Interrupted(Exception):
    """Stands for whatever ends a training."""


class InterruptAfter(TrainerCallback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            raise Interrupted


class OneLayer(nn.Module):
    """Dropout, a trained layer, and one that is not; the samples that it has computed are kept in order."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.frozen = nn.Linear(4, 4).requires_grad_(False)
        self.trained = nn.Linear(4, 1)
        self.order: list[int] = []

    def forward(self, x: torch.Tensor, number: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        self.order += number.tolist()
        output = self.trained(nn.functional.dropout(self.frozen(x), 0.3, self.training))
        return {"loss": nn.functional.mse_loss(output[:, 0], labels), "output": output}


@pytest.fixture
def features() -> list[dict[str, Any]]:
    x = torch.randn(SAMPLES, 4, generator=torch.Generator().manual_seed(1))
    return [{"x": row, "number": number, "labels": float(row.sum())} for number, row in enumerate(x)]


@pytest.fixture
def make_arguments(tmp_path: Path) -> Callable[..., TrainingArguments]:
    def make(folder: str, **options: Any) -> TrainingArguments:
        values: dict[str, Any] = {
            "output_dir": str(tmp_path / folder),
            "per_device_train_batch_size": BATCH,
            "num_train_epochs": 3,
            "learning_rate": 0.01,
            "save_steps": 2,
            "save_total_limit": 2,
            "logging_steps": 1,
            "remove_unused_columns": False,
            "report_to": "none",
            "use_cpu": True,
            "dataloader_pin_memory": False,
            "disable_tqdm": True,
            "label_names": ["labels"],
        }
        return TrainingArguments(**{**values, **options})

    return make
