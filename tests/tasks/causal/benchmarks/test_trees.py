"""Trees of requests: what several begin with is computed once, and every architecture answers as without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.models.tiling import replace_linear_layers
from analog_lora_cli.tasks.causal.benchmarks import likelihoods
from analog_lora_cli.tasks.causal.benchmarks.benchmarks import Benchmarks
from analog_lora_cli.tasks.causal.benchmarks.trees import TokenTree
from tests.tasks.causal.benchmarks.questions import byte_tokenizer, write_questions
from tests.tasks.causal.benchmarks.test_parity import ours

SIZES = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 64, "max_position_embeddings": 512, "head_dim": 8, "pad_token_id": 0, "bos_token_id": None,
    "initializer_range": 0.2, "word_embed_proj_dim": 32, "ffn_dim": 64, "n_positions": 512,
}  # fmt: skip
WITH_TREES = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "phi", "gpt_neox", "opt", "gpt2", "mixtral")
WITHOUT = ("bloom", "gpt_neo")


def tiny(kind: str, tokenizer: Any, **changes: Any) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(1)
    options = {**SIZES, **changes}
    if kind == "gpt_neo":
        options = {**options, "attention_types": [[["global", "local"], 1]], "num_layers": 2}
    config = AutoConfig.for_model(kind, vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id, **options)
    return AutoModelForCausalLM.from_config(config).eval()


def test_a_tree_holds_each_beginning_once() -> None:
    tree = TokenTree.of([([7, 8], [1, 2, 3]), ([7, 8], [1, 4]), ([7, 9], [5]), ([7, 8], [6])])
    assert tree.tokens == [7, 8, 1, 2, 9] and tree.parents == [-1, 0, 1, 2, 0]
    assert tree.positions == [0, 1, 2, 3, 1] and tree.depth == 4 and tree.branches
    assert [path.scored for path in tree.paths] == [[1, 2, 3], [1, 2], [4], [1]]
    assert tree.order == [1, 2, 3, 4, 0] and tree.scored == 4
    assert tree.sees().astype(int).tolist() == [
        [1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 0, 0, 0, 1],
    ]  # fmt: skip


class TestModels:
    @pytest.fixture(autouse=True)
    def _needs_lm_eval(self) -> None:
        pytest.importorskip("lm_eval")

    @pytest.mark.parametrize("kind", [*WITH_TREES, *WITHOUT])
    def test_trees_answer_as_single_requests(self, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        tokenizer = byte_tokenizer()
        model = tiny(kind, tokenizer)
        calls: list[int] = []
        together = likelihoods._of_trees
        monkeypatch.setattr(likelihoods, "_of_trees", lambda *arguments: calls.append(1) or together(*arguments))
        folder = write_questions(tmp_path)
        for name in ("hellaswag", "winogrande"):
            found = ours(name, folder, None, model, tokenizer, 2)
            with monkeypatch.context() as patch:
                patch.setattr(likelihoods, "takes_any_mask", lambda *_: False)
                expected = ours(name, folder, None, model, tokenizer, 2)
            for column, values in expected.samples.items():
                np.testing.assert_allclose(found.samples[column], values, atol=1e-4, err_msg=column)
        assert len(calls) == (2 if kind in WITH_TREES else 0)

    def test_a_window_shorter_than_a_request(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The mask would lift the window's limit."""
        monkeypatch.setattr(likelihoods, "_of_trees", lambda *_: pytest.fail("a tree"))
        tokenizer = byte_tokenizer()
        model = tiny("mistral", tokenizer, sliding_window=16)
        ours("hellaswag", write_questions(tmp_path), None, model, tokenizer, 2)

    def test_a_beginning_is_computed_once(self, tmp_path: Path) -> None:
        tokenizer = byte_tokenizer()
        (eval_set,) = Benchmarks(["hellaswag"], str(write_questions(tmp_path))).eval_sets(tokenizer)
        assert eval_set.outputs is not None
        model = tiny("llama", tokenizer)
        replace_linear_layers(model, {"lm_head": "head"}, HardwareConfig(tile_rows=16, tile_columns=16), None)
        seen: list[int] = []
        model.model.layers[0].mlp.up_proj.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].shape[1]))
        for number, row in enumerate(eval_set.features):
            inputs = {"input_ids": torch.tensor([row["input_ids"]]), "row": torch.tensor([number])}
            with torch.no_grad():
                eval_set.outputs(model, inputs, [row["length"]])
        tree = eval_set.outputs.trees[0]  # type: ignore[attr-defined]
        assert seen == list(eval_set.features["length"]) and 2 * seen[0] < sum(len(path.nodes) for path in tree.paths)
