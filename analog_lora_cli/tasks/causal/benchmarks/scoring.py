"""The answers of a benchmark as lm-eval scores them: its filters, its scores of each question, its aggregation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from analog_lora_cli.tasks.causal.benchmarks.documents import Documents
from analog_lora_cli.tasks.causal.benchmarks.metrics import MARGIN, margin_of, reported_metrics
from analog_lora_cli.tasks.sample_statistics import PERCENT
from analog_lora_cli.tasks.scores import Columns, Scores

Answer = tuple[float, bool] | str
"""`(log-likelihood, whether greedy)` of a continuation, or a text."""


def scores(documents: Documents, answers: Sequence[Answer]) -> Scores:
    """The metrics of a benchmark, and the scores of each question.

    Args:
        documents: the questions.
        answers: the answer to each of their requests.
    """
    by_filter = _scores_of_questions(documents, answers)
    metrics: dict[str, float] = {}
    samples: Columns = {}
    for one in reported_metrics(documents.definition):
        values = by_filter.get((one.name, one.filter))
        if values is None:
            continue
        aggregate = documents.task.aggregation()[one.name]
        metrics[one.metric.name] = (PERCENT if one.metric.unit == "%" else 1.0) * float(aggregate(values))
        if all(isinstance(value, (int, float, np.number, np.bool_)) for value in values):
            samples[one.column] = np.array(values, dtype=np.float64)
    margin = margin_of(documents.definition)
    if margin is not None:
        samples[MARGIN] = _margins(documents, answers)
        metrics[margin.name] = float(samples[MARGIN].mean())
    return Scores(metrics, samples)


def _scores_of_questions(documents: Documents, answers: Sequence[Answer]) -> dict[tuple[str, str], list[Any]]:
    """lm-eval's scores of the questions, by metric and filter."""
    task, instances = documents.task, documents.instances
    for instance, answer in zip(instances, answers, strict=True):
        instance.resps, instance.filtered_resps = [answer], {}
    task._instances = instances  # What its filters look at.
    task.apply_filters()
    found: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for name in instances[0].filtered_resps:
        for entry in documents.entries:
            filtered = [instance.filtered_resps[name] for instance in entry.instances]
            for metric, value in task.process_results(entry.content, filtered).items():
                found[metric, name].append(value)
    return found


def _margins(documents: Documents, answers: Sequence[Answer]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """(questions,): log-likelihood of the right choice minus that of the best wrong one, in nats."""
    margins, start = [], 0
    for entry in documents.entries:
        choices = len(documents.task.doc_to_choice(entry.content))
        likelihoods = [float(answer[0]) for answer in answers[start : start + choices]]
        start += len(entry.instances)
        right = [likelihoods[choice] for choice in entry.gold]
        wrong = [value for choice, value in enumerate(likelihoods) if choice not in entry.gold]
        margins.append(max(right) - max(wrong, default=max(right)))
    return np.array(margins)
