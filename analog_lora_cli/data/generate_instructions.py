"""Write the instruction data set: short tasks about the made-up chips of the quickstart, in Alpaca's columns.

Run as `python -m analog_lora_cli.data.generate_instructions [FOLDER]`. Same code, same files, on every machine.

Each sample gives two facts on two chips and asks for one of five things: a description of one chip in sentences, a
comparison, the facts of one chip as JSON, the answer to a question in a full sentence, or a correction. Training and
validation share no chip and no person, laboratory, application, conductance, time or drift coefficient.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from analog_lora_cli.data.generate_quickstart import ATTRIBUTES, SEED, Attribute, Pool, pools, two

FOLDER = Path(__file__).resolve().parent / "instructions"
TRAIN_SAMPLES = 600
VALIDATION_SAMPLES = 60


@dataclass(frozen=True)
class Facts:
    """Two chips that differ in some respects."""

    chips: tuple[str, str]
    attributes: list[Attribute]
    values: list[tuple[str, str]]
    """The first and the second chip's value of each attribute."""

    @property
    def lines(self) -> str:
        """One line for each chip: `Amber: bits 8-bit, year 2015`."""
        return "\n".join(
            f"{chip}: " + ", ".join(f"{a.kind} {v[side]}" for a, v in zip(self.attributes, self.values, strict=True))
            for side, chip in enumerate(self.chips)
        )


Draft = tuple[str, str]
"""An instruction and its answer."""


def _description(random: Random, facts: Facts) -> Draft:
    side = random.randrange(2)
    chip = facts.chips[side]
    sentences = [
        random.choice(a.alone).format(chip=chip, value=v[side])
        for a, v in zip(facts.attributes, facts.values, strict=True)
    ]
    return f"Describe {chip} in full sentences.", " ".join(sentences)


def _comparison(random: Random, facts: Facts) -> Draft:
    a, b = facts.chips
    sentences = [
        random.choice(one.compared).format(a=a, b=b, x=x, y=y)
        for one, (x, y) in zip(facts.attributes, facts.values, strict=True)
    ]
    return f"Compare {a} with {b}.", " ".join(sentences)


def _as_json(random: Random, facts: Facts) -> Draft:
    side = random.randrange(2)
    chip = facts.chips[side]
    content = {"chip": chip, **{a.kind: v[side] for a, v in zip(facts.attributes, facts.values, strict=True)}}
    return f"Write the facts about {chip} as JSON.", json.dumps(content)


def _answer(random: Random, facts: Facts) -> Draft:
    side, respect = random.randrange(2), random.randrange(len(facts.attributes))
    attribute, chip = facts.attributes[respect], facts.chips[side]
    value = facts.values[respect][side]
    question = random.choice(attribute.asked).format(chip=chip)
    return f"Answer in a full sentence: {question}", random.choice(attribute.alone).format(chip=chip, value=value)


def _correction(random: Random, facts: Facts) -> Draft:
    side, respect = random.randrange(2), random.randrange(len(facts.attributes))
    attribute, chip = facts.attributes[respect], facts.chips[side]
    right, wrong = facts.values[respect][side], facts.values[respect][1 - side]
    sentence = random.choice(attribute.alone)
    return f"Correct this: {sentence.format(chip=chip, value=wrong)}", sentence.format(chip=chip, value=right)


KINDS: tuple[Callable[[Random, Facts], Draft], ...] = (_description, _comparison, _as_json, _answer, _correction)


def samples(random: Random, pool: Pool, count: int) -> list[dict[str, str]]:
    """Samples of one file, the kinds in turn."""
    rows = []
    for number in range(count):
        attributes = list(ATTRIBUTES)
        random.shuffle(attributes)
        values = [two(random, pool.values[attribute.kind]) for attribute in attributes[:2]]
        facts = Facts(two(random, pool.chips), attributes[:2], values)
        instruction, output = KINDS[number % len(KINDS)](random, facts)
        rows.append({"instruction": instruction, "input": facts.lines, "output": output})
    return rows


def generate() -> dict[str, str]:
    """The content of both files, by file name."""
    random = Random(SEED)
    train, validation = pools(random)
    sets = {
        "train.json": samples(random, train, TRAIN_SAMPLES),
        "validation.json": samples(random, validation, VALIDATION_SAMPLES),
    }
    return {name: json.dumps(rows, indent=1) + "\n" for name, rows in sets.items()}


def main() -> None:
    """Write the files into the folder given as the only argument, or into the package."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in generate().items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
