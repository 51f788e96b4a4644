"""TRL's GRPO trainer, resumable, with one draw of weight noise for a rollout. Imports TRL: import it late."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers.trainer_callback import PrinterCallback
from trl import GRPOTrainer

from analog_lora_cli.hardware.tile.training_noise import NoiseDraw, TrainingNoise
from analog_lora_cli.runtime.ranks import rank
from analog_lora_cli.training.grpo.rollout import Rollout
from analog_lora_cli.training.grpo.rollout_noise import RolloutNoise
from analog_lora_cli.training.resumable import ResumableTrainer
from analog_lora_cli.training.saved_state import loading

if TYPE_CHECKING:
    from torch import Tensor, nn

REFERENCE = "ref"
"""TRL's name for the copy of an adapter as it was at the beginning."""


class GrpoTrainer(ResumableTrainer, GRPOTrainer):
    """Trains on completions that the model writes itself.

    TRL writes the completions of a rollout in the first of the batches that are trained on them. All its forward
    passes, those that write, score and train, see one draw of the weight noise, also where a rollout is trained on in
    several optimizer steps: else the ratio of probabilities would hold the change of the noise too, or, where TRL takes
    it for 1, the gradient would be that of another chip than the one that wrote. The noise before the ADCs is new in
    each forward pass, as on a chip.

    Args:
        args: positional arguments of TRL's trainer.
        rollout_noise: noise of the weights on tiles; None: there is none.
        prompt_ids: tokens of each prompt, as the task made them.
        kwargs: keyword arguments of TRL's trainer.
    """

    def __init__(
        self, *args: Any, rollout_noise: RolloutNoise | None, prompt_ids: Mapping[str, list[int]], **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.rollout_noise = rollout_noise
        self.prompt_ids = prompt_ids
        self._draw: NoiseDraw | None = None
        """The draw that the present rollout was written with."""
        # Progress goes to an observer; the Trainer would print dictionaries to stdout.
        self.remove_callback(PrinterCallback)

    def fit(self, state: Path | None) -> None:
        """See `ResumableTrainer`. The copy of the adapter that TRL compares with (`beta`) is gone afterwards."""
        try:
            super().fit(state)
        finally:
            if self.rollout_noise is not None:
                self.rollout_noise.release()
        adapters = getattr(self.model, "peft_config", {})
        if REFERENCE in adapters:
            self.model.delete_adapter(REFERENCE)

    def training_step(self, model: nn.Module, inputs: Any, num_items_in_batch: Tensor | int | None = None) -> Tensor:
        loss: Tensor
        if self.rollout_noise is None:
            loss = super().training_step(model, inputs, num_items_in_batch)
            return loss
        noise = self.rollout_noise.noise
        if self._rollout_begins or self._draw is None:
            self._draw = noise.draw
        with self.rollout_noise.of(self._draw), self._checkpointing_with(noise):
            loss = super().training_step(model, inputs, num_items_in_batch)
            return loss

    @contextmanager
    def _checkpointing_with(self, noise: TrainingNoise) -> Iterator[None]:
        """Let layers be computed again with the noise of their forward pass, should they be.

        TRL switches checkpointing off while completions are written, and on again with nothing but its arguments.
        """
        given = self.args.gradient_checkpointing_kwargs
        again = {"use_reentrant": False, "context_fn": noise.checkpoint_contexts}
        self.args.gradient_checkpointing_kwargs = {**(given or {}), **again}
        try:
            yield
        finally:
            self.args.gradient_checkpointing_kwargs = given  # The arguments may be written as JSON: no functions there.

    @property
    def _rollout_begins(self) -> bool:
        return self._buffered_inputs is None or self._step % (self.args.steps_per_generation * self.num_iterations) == 0

    def _tokenize_prompts(self, prompts: list[str]) -> tuple[list[list[int]], None, dict[str, Any]]:
        """The tokens that the task made: TRL would add special tokens to a text that has them already."""
        return [self.prompt_ids[prompt] for prompt in prompts], None, {}

    def _save_rng_state(self, output_dir: str) -> None:
        """Save what each process needs for itself: besides the state of its generators its own completions."""
        super()._save_rng_state(output_dir)
        Rollout(self._step, self._draw, self._buffered_inputs or []).save(_rollout_file(output_dir))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        with loading(resume_from_checkpoint):
            rollout = Rollout.load(_rollout_file(resume_from_checkpoint))
        # TRL counts from 0 after a resume, and would then change prompts in the middle of a rollout.
        self._step, self._draw = rollout.batches_before, rollout.draw
        device = self.accelerator.device
        batches = [{name: tensor.to(device) for name, tensor in batch.items()} for batch in rollout.batches]
        self._buffered_inputs = batches or None

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """None: a saved state is not a model to publish."""

    def _send_telemetry(self) -> None:
        """Nothing: this tool reports to nobody."""


def _rollout_file(folder: str) -> Path:
    return Path(folder) / f"rollout-{rank()}.safetensors"
