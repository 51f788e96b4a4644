from __future__ import annotations

from typing import Any

import pytest

from analog_lora_cli.config.sections.task import SquadSection
from analog_lora_cli.errors import HubError
from analog_lora_cli.tasks import make_task
from analog_lora_cli.tasks.data.hub import load_hub_split
from tests.tasks.section import task_section


def test_squad(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    asked = []

    def load(name: str, subset: str | None, split: str) -> Any:
        asked.append((name, subset, split))
        answers = {"text": ["cat"], "answer_start": [4]}
        return datasets.Dataset.from_list(
            [{"id": "q1", "title": "T", "question": "who?", "context": "the cat", "answers": answers}]
        )

    monkeypatch.setattr(datasets, "load_dataset", load)
    chosen = make_task(task_section(name="squad_v2"), seed=0)
    assert chosen.train_features(tokenizer)["start_positions"][:] == [5]
    assert len(chosen.eval_sets(tokenizer)) == 1 and chosen.baseline_score()["has_answer_f1"] == 100.0
    assert asked == [("rajpurkar/squad_v2", None, "train"), ("rajpurkar/squad_v2", None, "validation")]


def test_an_unreachable_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def fail(*args: Any, **options: Any) -> Any:
        raise ConnectionError("Couldn't reach it\nand more")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(HubError, match=r"nyu-mll/glue \(cola\) could not be loaded: Couldn't reach it\n") as caught:
        load_hub_split("nyu-mll/glue", "cola", "train")
    for way in ("task.train_file", "task.validation_file", "HF_DATASETS_OFFLINE=1", "HF_HOME", "HF_ENDPOINT"):
        assert way in str(caught.value)
    with pytest.raises(HubError, match="rajpurkar/squad could not"):
        make_task(SquadSection(), seed=0).baseline_score()
