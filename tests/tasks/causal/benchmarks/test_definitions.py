"""lm-eval's definitions by name: what is measured of each, and one clear error for what cannot be."""

from __future__ import annotations

import pytest

from analog_lora_cli.config.sections.causal import TextSection
from analog_lora_cli.errors import UsageError
from analog_lora_cli.tasks.causal.benchmarks import definitions
from analog_lora_cli.tasks.causal.benchmarks.benchmarks import Benchmarks
from analog_lora_cli.tasks.causal.benchmarks.definitions import find_definition
from analog_lora_cli.tasks.causal.benchmarks.metrics import benchmark_metrics
from analog_lora_cli.tasks.registry import make_task


def test_without_lm_eval_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(definitions, "find_spec", lambda _: None)
    definitions._names.cache_clear()
    with pytest.raises(UsageError, match=r"lm-eval.*not installed: pip install 'analog-lora-cli\[llm\]'"):
        find_definition("piqa")


def test_without_benchmarks_lm_eval_is_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(definitions, "find_spec", lambda _: None)
    assert [metric.name for metric in make_task(TextSection(train_file="x.txt"), 0).metrics] == ["perplexity", "loss"]


class TestWithLmEval:
    @pytest.fixture(autouse=True)
    def _needs_lm_eval(self) -> None:
        pytest.importorskip("lm_eval")

    def test_what_is_measured_of_the_usual_ones(self) -> None:
        names = "arc_easy arc_challenge hellaswag boolq piqa winogrande sciq copa openbookqa gsm8k".split()
        splits = {name: find_definition(name).split for name in names}
        tests = {"arc_easy", "arc_challenge", "sciq", "openbookqa", "gsm8k"}
        assert splits == {name: "test" if name in tests else "validation" for name in names}
        gsm8k = find_definition("gsm8k")
        assert (gsm8k.shots, gsm8k.shots_split, find_definition("piqa").shots) == (5, "train", 0)

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("piqua", "no task 'piqua'; did you mean piqa"),
            ("xyzzy!", "no task 'xyzzy!'"),
            ("ai2_arc", "several of lm-eval's tasks; name single ones, such as arc_easy"),
            ("mmlu", "several of lm-eval's tasks; name single ones"),
            ("squadv2", "it is written in Python"),
            ("wikitext", "whole documents"),
            ("humaneval", "it runs programs"),
        ],
    )
    def test_what_cannot_be_measured(self, name: str, message: str) -> None:
        with pytest.raises(UsageError, match=r"task\.benchmarks") as error:
            find_definition(name)
        assert message in str(error.value)

    def test_metrics_and_their_names(self) -> None:
        metrics = {one.name: one for one in benchmark_metrics([*map(find_definition, ("piqa", "boolq", "gsm8k"))])}
        assert list(metrics) == [
            "average", "average_margin", "piqa", "boolq", "gsm8k", "piqa_margin", "boolq_margin", "piqa_acc",
            "gsm8k_exact_match_flexible_extract",
        ]  # fmt: skip
        assert [metrics[name].note for name in ("piqa", "boolq", "gsm8k")] == [
            "acc_norm",
            "acc",
            "exact_match, strict-match",
        ]
        assert [part.name for part in metrics["average"].average_of] == ["piqa", "boolq", "gsm8k"]
        assert metrics["piqa"].label == "piqa (%)" and metrics["piqa_margin"].label == "piqa_margin (nats)"

    def test_perplexity_is_better_when_lower_and_in_no_average(self) -> None:
        metrics = {one.name: one for one in benchmark_metrics([find_definition("lambada_openai")])}
        assert list(metrics) == ["lambada_openai", "lambada_openai_perplexity"]
        perplexity = metrics["lambada_openai_perplexity"]
        assert not perplexity.higher_is_better and perplexity.unit == ""

    def test_every_metric_is_one_of_the_task(self) -> None:
        task = make_task(TextSection(train_file="x.txt", benchmarks=["piqa", "boolq"]), 0)
        assert task.headline.name == "perplexity"
        assert [one.name for one in task.metrics[2:]] == [one.name for one in Benchmarks(["piqa", "boolq"]).metrics]
