"""The instruction data set: what is committed is what the generator writes, and no answer is given away."""

from __future__ import annotations

import json

from analog_lora_cli.data import generate_instructions
from analog_lora_cli.data.generate_quickstart import CHIPS

FILES = ("train.json", "validation.json")


def rows(name: str) -> list[dict[str, str]]:
    content: list[dict[str, str]] = json.loads((generate_instructions.FOLDER / name).read_text(encoding="utf-8"))
    return content


def test_committed_files_are_what_the_generator_writes() -> None:
    generated = generate_instructions.generate()
    assert sorted(generated) == sorted(FILES)
    for name, text in generated.items():
        assert (generate_instructions.FOLDER / name).read_bytes() == text.encode(), (
            f"{name} is stale: run `python -m analog_lora_cli.data.generate_instructions`"
        )


def test_training_and_validation_share_no_chip() -> None:
    chips = [{line.partition(":")[0] for row in rows(name) for line in row["input"].splitlines()} for name in FILES]
    assert chips[0] | chips[1] <= set(CHIPS) and not chips[0] & chips[1]


def test_the_facts_lie_in_the_input() -> None:
    for row in rows("validation.json"):
        assert row["output"] and row["output"] not in row["input"]
        assert len(row["input"].splitlines()) == 2


def test_a_correction_differs_from_what_it_corrects() -> None:
    corrections = [row for row in rows("train.json") if row["instruction"].startswith("Correct")]
    assert len(corrections) == 120
    assert all(row["output"] != row["instruction"].removeprefix("Correct this: ") for row in corrections)
