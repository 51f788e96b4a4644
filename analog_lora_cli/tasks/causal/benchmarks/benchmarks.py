"""The benchmarks of a task: their metrics, files and evaluation sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from analog_lora_cli.tasks.base import EvalSet
from analog_lora_cli.tasks.causal.benchmarks.definitions import Definition, find_definition
from analog_lora_cli.tasks.causal.benchmarks.documents import benchmark_files, read_documents
from analog_lora_cli.tasks.causal.benchmarks.generation import generation_set
from analog_lora_cli.tasks.causal.benchmarks.likelihoods import likelihood_set
from analog_lora_cli.tasks.causal.benchmarks.metrics import benchmark_metrics
from analog_lora_cli.tasks.metric import Metric

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_SETS = {
    "multiple_choice": likelihood_set,
    "loglikelihood": likelihood_set,
    "generate_until": generation_set,
}
"""How the requests of each `output_type` become an evaluation set."""


@dataclass(frozen=True)
class Benchmarks:
    """Benchmarks of lm-eval. Nothing is read before it is asked for.

    Args:
        names: lm-eval's names.
        folder: folder of their files, as in the configuration; None: the hub.
        limit: take only the first questions of each; None: all.
    """

    names: Sequence[str]
    folder: str | None = None
    limit: int | None = None

    @property
    def metrics(self) -> list[Metric]:
        """All their metrics.

        Raises:
            UsageError: lm-eval is not installed, or does not know a name.
        """
        return benchmark_metrics(self.definitions)

    def files(self) -> dict[str, Path]:
        """The local files by role, such as `benchmark piqa validation`; none with the hub.

        Raises:
            DataError: a file does not exist.
            UsageError: as `metrics`.
        """
        if self._folder is None:
            return {}
        return {
            f"benchmark {one.name} {split}": path
            for one in self.definitions
            for split, path in benchmark_files(one, self._folder).items()
        }

    def eval_sets(self, tokenizer: PreTrainedTokenizerBase) -> list[EvalSet]:
        """One evaluation set for each benchmark.

        Raises:
            DataError, HubError, UsageError: as `read_documents`, and as what `_SETS` names.
        """
        everything = [read_documents(one, self._folder, self.limit) for one in self.definitions]
        return [_SETS[one.definition.output_type](one, tokenizer) for one in everything]

    @cached_property
    def definitions(self) -> list[Definition]:
        """Their definitions.

        Raises:
            UsageError: as `metrics`.
        """
        return [find_definition(name) for name in self.names]

    @property
    def _folder(self) -> Path | None:
        return None if self.folder is None else Path(self.folder).expanduser()
