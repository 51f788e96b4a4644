"""Write the quickstart data set: short passages about made-up chips, with questions, in SQuAD v1.1 JSON.

Run as `python -m analog_lora_cli.data.generate_quickstart [FOLDER]`. Same code, same files, on every machine.

Every passage compares two chips in the same respects, or two parts or stages of one chip, so that each answer has a
rival of the same kind in the same passage: only the question says which one is meant. Training and validation share no
chip, laboratory, designer, application, conductance, integration time or drift coefficient.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, TypeVar

T = TypeVar("T")
Draft = tuple[list[str], list[tuple[str, str]]]
"""Sentences of a passage, and its questions with their answers."""

FOLDER = Path(__file__).resolve().parent / "quickstart"
SEED = 2411
TRAIN_PASSAGES = 420
VALIDATION_PASSAGES = 50
QUESTIONS_PER_TRAIN_PASSAGE = 5
QUESTIONS_PER_VALIDATION_PASSAGE = 4
TITLE = "Chips that do not exist ({split}): fictional text, made for a quick start"

CHIPS = (
    "Acorn Amber Anchor Apollo Arrow Aspen Atlas Aurora Badger Bamboo Basil Beacon Birch Bison Blossom Boulder Bramble "
    "Breeze Bronze Canyon Cedar Cherry Clover Cobalt Comet Compass Copper Coral Cougar Coyote Crane Crater Cricket "
    "Crystal Cypress Daisy Delta Dolphin Dragon Eagle Echo Elm Ember Falcon Feather Fern Finch Flint Fox Galaxy "
    "Garnet Glacier Granite Hammer Harbor Harp Hawk Hazel Heron Horizon Hornet Iris Iron Island Ivory Ivy Jade Jaguar "
    "Jasmine Jasper Juniper Lagoon Lantern Laurel Lemon Leopard Lily Linden Lion Lotus Lynx Magnet Maple Marble Meadow "
    "Mercury Meteor Mint Mirror Moose Nectar Needle Nova Oak Oasis Ocean Olive Onyx Opal Orbit Orchid Otter Owl Oyster "
    "Palm Panther Parrot Peach Pearl Pebble Pepper Phoenix Pigeon Pine Planet Plum Poplar Prairie Prism Pyramid Quartz "
    "Rabbit Raven Reed Ridge River Robin Rocket Rose Ruby Saffron Sage Salmon Sapphire Saturn Shark Shell Silver "
    "Sparrow Spider Spruce Squirrel Star Storm Summit Swan Temple Thistle Thunder Tiger Topaz Trout Tulip Turtle "
    "Valley Velvet Violet Walnut Whale Willow Wolf Wren"
).split()
LABS = (
    "Alder Ashby Barlow Benton Burley Calder Carlow Clifton Colby Corbin Dalton Denby Drayton Eaton Elgin Elton "
    "Farley Felton Galway Gordon Grafton Hadley Halton Harlow Holden Hutton Kelso Kendal Langley Lawton Ludlow Marlow "
    "Melton Milton Morley Nelson Newton Norton Oakley Orton Preston Radley Redmond Rowley Selby Shelby Stanton "
    "Sutton Talbot Thornton Upton Walden Walton Wesley Weston Wilton"
).split()
PEOPLE = (
    "Abbott Adler Baker Bauer Becker Bennett Berger Bishop Blake Bower Brandt Burns Carver Casey Conrad Cooper Crosby "
    "Curtis Dixon Doyle Drake Duncan Ellis Fischer Fisher Foster Fowler Franks Gibson Graves Gupta Hansen Harper "
    "Hoffman Hughes Jensen Kaplan Keller Khan Kramer Larsen Lopez Mason Meyer Miller Moreno Morris Murray Nash Novak "
    "Olsen Parker Patel Porter Quinn Ramos Reyes Rivera Santos Schmidt Silva Singh Sloan Stein Tanaka Turner Vargas "
    "Vega Wagner Weaver Weber Winters"
).split()
APPLICATIONS = (
    "speech recognition",
    "face detection",
    "weather forecasting",
    "machine translation",
    "heart monitoring",
    "gesture recognition",
    "music tagging",
    "traffic counting",
    "spam filtering",
    "fire detection",
    "image search",
    "bird counting",
    "noise removal",
    "engine diagnosis",
    "text summaries",
    "drone navigation",
    "sleep tracking",
    "leak detection",
    "crop inspection",
    "fraud detection",
    "robot control",
    "voice control",
    "flood warning",
    "video compression",
    "parking guidance",
    "sign reading",
    "battery testing",
    "seismic sensing",
    "fall detection",
    "letter sorting",
)
MATERIALS = (
    "hafnium oxide",
    "titanium oxide",
    "tungsten oxide",
    "nickel oxide",
    "copper sulfide",
    "silver sulfide",
    "zinc oxide",
    "iron oxide",
    "cobalt oxide",
    "lead sulfide",
)
TILE_ROWS = (48, 64, 80, 96, 128, 160, 192, 256, 320, 384, 512, 640, 768)
CONVERTER_BITS = (3, 4, 5, 6, 7, 8, 9, 10, 11, 12)
YEARS = tuple(range(2012, 2030))


@dataclass(frozen=True)
class Attribute:
    """One respect in which two chips, or two parts or stages of one chip, differ.

    In a wording, `{chip}` and `{value}` are one chip and its value, `{a}` and `{b}` two chips, `{x}` and `{y}` two
    values.
    """

    kind: str
    """What sort of value this is: a key of `Pool.values`."""
    alone: Sequence[str]
    """Sentences about one of two chips."""
    compared: Sequence[str]
    """Sentences about two chips."""
    asked: Sequence[str]
    """Questions for the value of one of two chips."""
    within: Sequence[str]
    """Sentences about one chip with two values of this kind."""
    asked_first: Sequence[str]
    """Questions for the first value within one chip."""
    asked_second: Sequence[str]
    """Questions for the second value within one chip."""


ATTRIBUTES = (
    Attribute(
        "bits",
        ("{chip} has {value} converters.", "The converters of {chip} are {value}."),
        ("{a} has {x} converters, while {b} has {y} converters.", "{a} uses {x} converters and {b} uses {y} ones."),
        ("What converters does {chip} have?", "How many bits do the converters of {chip} have?"),
        (
            "{chip} has {x} input converters and {y} output converters.",
            "The input converters of {chip} are {x}, the output converters {y}.",
        ),
        ("What input converters does {chip} have?", "How many bits do the input converters have?"),
        ("What output converters does {chip} have?", "How many bits do the output converters have?"),
    ),
    Attribute(
        "size",
        ("{chip} has tiles of {value} rows.", "A tile of {chip} holds {value} rows."),
        (
            "{a} has tiles of {x} rows, while {b} has tiles of {y} rows.",
            "A tile of {a} holds {x} rows, and a tile of {b} holds {y} rows.",
        ),
        ("How many rows does a tile of {chip} have?", "How many rows do the tiles of {chip} hold?"),
        ("A tile of {chip} has {x} rows and {y} columns.", "{chip} has tiles with {x} rows and {y} columns."),
        ("How many rows does a tile of {chip} have?", "How many rows are there in a tile?"),
        ("How many columns does a tile of {chip} have?", "How many columns are there in a tile?"),
    ),
    Attribute(
        "material",
        ("{chip} is made of {value}.", "The cells of {chip} are made of {value}."),
        ("{a} is made of {x}, but {b} is made of {y}.", "The cells of {a} are {x}, and those of {b} are {y}."),
        ("What is {chip} made of?", "Which material is used in the cells of {chip}?"),
        (
            "The cells of {chip} are made of {x} and its wires of {y}.",
            "{chip} has cells of {x} and wires of {y}.",
        ),
        ("What are the cells of {chip} made of?", "Which material are the cells?"),
        ("What are the wires of {chip} made of?", "Which material are the wires?"),
    ),
    Attribute(
        "conductance",
        ("{chip} reaches a conductance of {value}.", "The largest conductance of {chip} is {value}."),
        (
            "{a} reaches a conductance of {x}, and {b} reaches {y}.",
            "The largest conductance of {a} is {x}, that of {b} is {y}.",
        ),
        ("What conductance does {chip} reach?", "What is the largest conductance of {chip}?"),
        (
            "Conductances of {chip} are {x} when fresh and {y} when aged.",
            "A fresh cell of {chip} conducts {x}, an aged cell {y}.",
        ),
        ("What is the conductance of a fresh cell of {chip}?", "How much does a fresh cell conduct?"),
        ("What is the conductance of an aged cell of {chip}?", "How much does an aged cell conduct?"),
    ),
    Attribute(
        "time",
        ("{chip} integrates for {value}.", "A read of {chip} takes {value}."),
        ("{a} integrates for {x}, but {b} integrates for {y}.", "A read of {a} takes {x}, a read of {b} takes {y}."),
        ("How long does {chip} integrate?", "How long does a read of {chip} take?"),
        ("{chip} needs {x} to read and {y} to write.", "Reading {chip} takes {x}, writing it takes {y}."),
        ("How long does reading {chip} take?", "How long does a read take?"),
        ("How long does writing {chip} take?", "How long does a write take?"),
    ),
    Attribute(
        "lab",
        ("{chip} was built by the {value}.", "{chip} comes from the {value}."),
        ("{a} was built by the {x}, {b} by the {y}.", "{a} comes from the {x}, whereas {b} comes from the {y}."),
        ("Who built {chip}?", "Which group does {chip} come from?"),
        (
            "{chip} was built by the {x} and tested by the {y}.",
            "{chip} was built at the {x}, then tested at the {y}.",
        ),
        ("Who built {chip}?", "Where was {chip} built?"),
        ("Who tested {chip}?", "Where was {chip} tested?"),
    ),
    Attribute(
        "person",
        ("{chip} was designed by {value}.", "The designer of {chip} is {value}."),
        ("{a} was designed by {x}, {b} by {y}.", "The designer of {a} is {x}, and that of {b} is {y}."),
        ("Who designed {chip}?", "Who is the designer of {chip}?"),
        (
            "{chip} was invented by {x} and improved by {y}.",
            "Invented by {x}, {chip} was later improved by {y}.",
        ),
        ("Who invented {chip}?", "Who was the inventor?"),
        ("Who improved {chip}?", "Who made improvements?"),
    ),
    Attribute(
        "year",
        ("{chip} was taped out in {value}.", "The tape-out of {chip} was in {value}."),
        ("{a} was taped out in {x}, and {b} in {y}.", "The tape-out of {a} was in {x}, that of {b} in {y}."),
        ("When was {chip} taped out?", "In which year was {chip} taped out?"),
        (
            "{chip} was announced in {x} and sold from {y} on.",
            "First announced in {x}, {chip} was sold in {y}.",
        ),
        ("When was {chip} announced?", "In which year was it announced?"),
        ("When was {chip} sold?", "In which year was it sold?"),
    ),
    Attribute(
        "application",
        ("{chip} is used for {value}.", "Engineers use {chip} for {value}."),
        ("{a} is used for {x}, and {b} for {y}.", "Engineers use {a} for {x} but {b} for {y}."),
        ("What is {chip} used for?", "What do engineers use {chip} for?"),
        (
            "{chip} is good at {x} but bad at {y}.",
            "Engineers call {chip} good for {x} and bad for {y}.",
        ),
        ("What is {chip} good at?", "For what is {chip} good?"),
        ("What is {chip} bad at?", "For what is {chip} bad?"),
    ),
    Attribute(
        "drift",
        ("{chip} has a drift coefficient of {value}.", "The drift coefficient of {chip} is {value}."),
        (
            "{a} has a drift coefficient of {x}, and {b} has one of {y}.",
            "The drift coefficient of {a} is {x}, that of {b} is {y}.",
        ),
        ("What is the drift coefficient of {chip}?", "Which drift coefficient does {chip} have?"),
        (
            "The drift coefficient of {chip} is {x} when cold and {y} when hot.",
            "{chip} drifts with {x} in cold air, with {y} in hot air.",
        ),
        ("What is the drift coefficient of {chip} when cold?", "Which drift coefficient holds for cold air?"),
        ("What is the drift coefficient of {chip} when hot?", "Which drift coefficient holds for hot air?"),
    ),
)
"""The respects, in a fixed order: the generator draws from it."""


@dataclass(frozen=True)
class Pool:
    """What one of the two files may draw on."""

    chips: Sequence[str]
    values: dict[str, Sequence[str]]


def pools(random: Random) -> tuple[Pool, Pool]:
    """Split names and values between training and validation, where a split is natural."""

    def split(items: Sequence[T], share: float = 0.75) -> tuple[list[T], list[T]]:
        shuffled = list(items)
        random.shuffle(shuffled)
        cut = int(len(shuffled) * share)
        return shuffled[:cut], shuffled[cut:]

    def both(items: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
        return items, items

    chips = split(CHIPS)
    values = {
        "bits": both([f"{bits}-bit" for bits in CONVERTER_BITS]),
        "size": both([str(rows) for rows in TILE_ROWS]),
        "material": both(MATERIALS),
        "conductance": split([f"{conductance} uS" for conductance in range(10, 60)]),
        "time": split([f"{time} ns" for time in range(60, 400, 5)]),
        "lab": split([f"{name} Institute" for name in LABS]),
        "person": split(PEOPLE),
        "year": both([str(year) for year in YEARS]),
        "application": split(APPLICATIONS),
        "drift": split([f"0.{coefficient:03d}" for coefficient in range(20, 100)]),
    }
    return (
        Pool(chips[0], {name: halves[0] for name, halves in values.items()}),
        Pool(chips[1], {name: halves[1] for name, halves in values.items()}),
    )


def two(random: Random, items: Sequence[T]) -> tuple[T, T]:
    """Draw two different items."""
    first = random.randrange(len(items))
    second = random.randrange(len(items) - 1)
    return items[first], items[second + (second >= first)]


def position(context: str, words: str) -> int:
    """Where whole words first begin in the passage."""
    match = re.search(rf"(?<![\w.]){re.escape(words)}(?!\w)", context)
    assert match is not None
    return match.start()


def passage(random: Random, pool: Pool, prefix: str, questions: int) -> dict[str, Any]:
    """One passage with its questions, as a SQuAD paragraph."""
    attributes = list(ATTRIBUTES)
    random.shuffle(attributes)
    layout = random.choice(LAYOUTS)
    sentences, asked = layout(random, two(random, pool.chips), attributes, pool)
    context = " ".join(sentences)
    random.shuffle(asked)
    return {
        "context": context,
        "qas": [
            {
                "id": f"{prefix}-{number}",
                "question": question,
                "answers": [{"text": answer, "answer_start": position(context, answer)}],
            }
            for number, (question, answer) in enumerate(asked[:questions], start=1)
        ],
    }


def _side_by_side(random: Random, chips: tuple[str, str], attributes: list[Attribute], pool: Pool) -> Draft:
    """Both chips in each sentence."""
    sentences, asked = [], []
    for attribute in attributes[:2]:
        a, b = random.choice((chips, chips[::-1]))
        x, y = two(random, pool.values[attribute.kind])
        sentences.append(random.choice(attribute.compared).format(a=a, b=b, x=x, y=y))
        asked += [(random.choice(attribute.asked).format(chip=chip), value) for chip, value in ((a, x), (b, y))]
    return sentences, asked


def _one_after_the_other(random: Random, chips: tuple[str, str], attributes: list[Attribute], pool: Pool) -> Draft:
    """All about one chip, then all about the other."""
    sentences, asked = [], []
    values = [two(random, pool.values[attribute.kind]) for attribute in attributes[:2]]
    for side, chip in enumerate(chips):
        facts = list(zip(attributes[:2], values, strict=True))
        random.shuffle(facts)
        for attribute, pair in facts:
            sentences.append(random.choice(attribute.alone).format(chip=chip, value=pair[side]))
            asked.append((random.choice(attribute.asked).format(chip=chip), pair[side]))
    return sentences, asked


def _within_one(random: Random, chips: tuple[str, str], attributes: list[Attribute], pool: Pool) -> Draft:
    """Parts or stages of one chip."""
    sentences, asked = [], []
    for attribute in attributes[: random.choice((2, 3))]:
        x, y = two(random, pool.values[attribute.kind])
        sentences.append(random.choice(attribute.within).format(chip=chips[0], x=x, y=y))
        asked.append((random.choice(attribute.asked_first).format(chip=chips[0]), x))
        asked.append((random.choice(attribute.asked_second).format(chip=chips[0]), y))
    return sentences, asked


LAYOUTS = (_side_by_side, _one_after_the_other, _within_one)
"""Ways to build a passage, all equally likely."""


def data_set(random: Random, pool: Pool, split: str, passages: int, questions: int) -> dict[str, Any]:
    """One of the two files, in SQuAD's structure."""
    paragraphs: list[dict[str, Any]] = []
    seen: set[str] = set()
    while len(paragraphs) < passages:
        paragraph = passage(random, pool, f"{split}-{len(paragraphs):03d}", questions)
        if paragraph["context"] not in seen:
            seen.add(paragraph["context"])
            paragraphs.append(paragraph)
    return {"version": "1.1", "data": [{"title": TITLE.format(split=split), "paragraphs": paragraphs}]}


def generate() -> dict[str, str]:
    """The content of both files, by file name."""
    random = Random(SEED)
    train, validation = pools(random)
    sets = {
        "train.json": data_set(random, train, "train", TRAIN_PASSAGES, QUESTIONS_PER_TRAIN_PASSAGE),
        "validation.json": data_set(
            random, validation, "validation", VALIDATION_PASSAGES, QUESTIONS_PER_VALIDATION_PASSAGE
        ),
    }
    return {name: json.dumps(content, indent=1) + "\n" for name, content in sets.items()}


def main() -> None:
    """Write the files into the folder given as the only argument, or into the package."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in generate().items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
