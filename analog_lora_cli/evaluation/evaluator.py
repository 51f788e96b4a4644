"""Evaluation of a model on the validation data, in batches of similar length."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from analog_lora_cli.tasks.base import Collator, EvalSet, FloatArray, Processor, Task
from analog_lora_cli.tasks.data.features import MODEL_INPUTS
from analog_lora_cli.tasks.metric import Metric
from analog_lora_cli.tasks.scores import Column, Columns, Scores

MOST_TOKENS_ON_CPU = 4096
"""Tokens of one batch on a CPU: with more, each layer's activations leave its caches, and a token takes longer."""


@dataclass(frozen=True)
class _Batch:
    rows: list[int]
    inputs: dict[str, torch.Tensor]
    lengths: list[int]


class Evaluator:
    """The validation data of a task as batches in memory, ready to be run many times.

    Args:
        task: source of the data, which scores the outputs.
        processor: tokenizer of the model, or its image processor.
        batch_size: most features of one batch; on a CPU also no more than MOST_TOKENS_ON_CPU allows.
        device: device of the model.
    """

    def __init__(self, task: Task, processor: Processor, batch_size: int, device: torch.device) -> None:
        self.device = device
        self._task = task
        self._sets: list[tuple[EvalSet, list[_Batch]]] = []
        collate = task.collator(processor)
        limit = MOST_TOKENS_ON_CPU if device.type == "cpu" else None
        for eval_set in task.eval_sets(processor):
            limits = [one for one in (limit, eval_set.most_tokens) if one is not None]
            self._sets.append((eval_set, _batches(eval_set, collate, batch_size, min(limits, default=None))))

    @property
    def features(self) -> int:
        """Number of features of one evaluation."""
        return sum(len(eval_set.features) for eval_set, _ in self._sets)

    def batches(self) -> Iterator[dict[str, torch.Tensor]]:
        """Model inputs, batch by batch, longest first within each evaluation set."""
        for _, batches in self._sets:
            for batch in batches:
                yield {name: tensor for name, tensor in self._inputs(batch).items() if name in MODEL_INPUTS}

    @property
    def truth(self) -> Columns:
        """Columns that all evaluations share, by set and name: `validation.label`."""
        return {key: column for eval_set, _ in self._sets for key, column in _named(eval_set.name, eval_set.truth)}

    def check(self, model: nn.Module) -> None:
        """Check that a model takes the inputs, without running it.

        Raises:
            UsageError: it does not.
        """
        for eval_set, _ in self._sets:
            if eval_set.check is not None:
                eval_set.check(model)

    @torch.inference_mode()
    def run(self, model: nn.Module, after_batch: Callable[[int], None] | None = None) -> Scores:
        """The metrics of a model, and each sample's scores; the model is put into evaluation mode.

        Args:
            model: model that takes the task's features.
            after_batch: callback after each batch with its number of features.

        Raises:
            AnaloraError: outputs that are not finite.
        """
        model.eval()
        metrics: dict[str, float] = {}
        samples: Columns = {}
        for eval_set, batches in self._sets:
            outputs: dict[int, FloatArray] = {}
            for batch in batches:
                for row, output in zip(batch.rows, self._outputs(model, eval_set, batch), strict=True):
                    outputs[row] = output
                if after_batch is not None:
                    after_batch(len(batch.rows))
            scores = eval_set.score([outputs[row] for row in range(len(eval_set.features))])
            metrics |= scores.metrics
            samples |= _named(eval_set.name, scores.samples)
        return Scores(metrics | _averages(self._task.metrics, metrics), samples)

    @torch.no_grad()  # Not inference_mode: a training may follow with what the model keeps between its calls.
    def expected_seconds(self, model: nn.Module) -> float:
        """About how long `run` would take, from its first batch and the number of tokens; the model stays as it is."""
        first = self._sets[0]
        batches = [batch for _, batches in self._sets for batch in batches]
        training = model.training
        model.eval()
        for _ in range(2):  # Only the second is timed: the first also allocates memory.
            begin = time.perf_counter()
            self._outputs(model, first[0], first[1][0])
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            seconds = time.perf_counter() - begin
        model.train(training)
        return seconds * sum(_tokens(batch) for batch in batches) / _tokens(batches[0])

    def _outputs(self, model: nn.Module, eval_set: EvalSet, batch: _Batch) -> list[FloatArray]:
        """Outputs of one batch, one array for each of its rows."""
        inputs = self._inputs(batch)
        if eval_set.outputs is not None:
            return eval_set.outputs(model, inputs, batch.lengths)
        return self._task.outputs(model(**inputs), batch.lengths)

    def _inputs(self, batch: _Batch) -> dict[str, torch.Tensor]:
        return {name: tensor.to(self.device) for name, tensor in batch.inputs.items()}


def _averages(metrics: Sequence[Metric], values: Mapping[str, float]) -> dict[str, float]:
    """The metrics that are means of others."""
    return {
        metric.name: float(np.mean([values[part.name] for part in metric.average_of]))
        for metric in metrics
        if metric.average_of
    }


def _named(name: str, columns: Columns) -> list[tuple[str, Column]]:
    """The columns of a set under the names that tell it from other sets, as float32, as which they are stored."""
    return [(f"{name}.{column}", values.astype(np.float32)) for column, values in columns.items()]


def _tokens(batch: _Batch) -> int:
    """Tokens of a batch with its padding."""
    return len(batch.lengths) * max(batch.lengths)


def _batches(eval_set: EvalSet, collate: Collator, batch_size: int, most_tokens: int | None) -> list[_Batch]:
    lengths = np.asarray(eval_set.features["length"])
    order = np.argsort(-lengths, kind="stable")
    batches: list[_Batch] = []
    start = 0
    while start < len(order):
        longest = max(int(lengths[order[start]]), 1)
        size = batch_size if most_tokens is None else min(batch_size, max(most_tokens // longest, 1))
        rows = [int(row) for row in order[start : start + size]]
        batches.append(_Batch(rows, collate([eval_set.features[row] for row in rows]), [int(lengths[r]) for r in rows]))
        start += size
    return batches
