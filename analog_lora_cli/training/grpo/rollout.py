"""A rollout on disk: completions that a resumed training must go on with, for it cannot write the same ones again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from analog_lora_cli.hardware.tile.training_noise import NoiseDraw


@dataclass(frozen=True)
class Rollout:
    """The completions that a process is trained on at a moment of a training."""

    batches_before: int
    """Batches that the process was trained on before that moment."""
    draw: NoiseDraw | None
    """Draw of the weight noise that wrote the completions; None without noise."""
    batches: Sequence[Mapping[str, Tensor]]
    """Tokens, masks, advantages and log-probabilities, in the order in which they are trained on."""

    def save(self, file: Path) -> None:
        """Write it as safetensors."""
        tensors = {
            f"{number}.{name}": tensor.detach().cpu().clone()
            for number, batch in enumerate(self.batches)
            for name, tensor in batch.items()
        }
        draw = None if self.draw is None else asdict(self.draw)
        content = {"batches_before": self.batches_before, "draw": draw}
        save_file(tensors, str(file), metadata={"rollout": json.dumps(content)})

    @classmethod
    def load(cls, file: Path) -> Rollout:
        """Read what `save` wrote; tensors are on the CPU."""
        batches: dict[int, dict[str, Tensor]] = {}
        with safe_open(str(file), framework="pt") as stored:
            content = json.loads(stored.metadata()["rollout"])
            for key in stored.keys():  # noqa: SIM118  (not a mapping)
                number, _, name = key.partition(".")
                batches.setdefault(int(number), {})[name] = stored.get_tensor(key)
        draw = None if content["draw"] is None else NoiseDraw(**content["draw"])
        return cls(content["batches_before"], draw, [batches[number] for number in sorted(batches)])
