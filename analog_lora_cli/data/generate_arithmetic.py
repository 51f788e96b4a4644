"""Write the sums and differences that the presets of task `reasoning` run on, in JSONL.

Run as `python -m analog_lora_cli.data.generate_arithmetic [FOLDER]`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from random import Random

FOLDER = Path(__file__).resolve().parent
SEED = 19
LARGEST = 99
TRAIN, VALIDATION = 1000, 200


def questions() -> list[dict[str, str]]:
    """Distinct questions about numbers up to LARGEST, half of them sums and half differences, with their answers."""
    draw = Random(SEED)
    pairs = [(a, b) for a in range(LARGEST + 1) for b in range(LARGEST + 1)]
    rows = []
    for number, (a, b) in enumerate(draw.sample(pairs, TRAIN + VALIDATION)):
        sign, answer = ("+", a + b) if number % 2 else ("-", a - b)
        rows.append({"question": f"Calculate {a} {sign} {b} =", "answer": str(answer)})
    return rows


def generate() -> dict[str, bytes]:
    """The content of all files, by path below the data folder."""
    rows = questions()
    splits = {"train": rows[:TRAIN], "validation": rows[TRAIN:]}
    return {
        f"arithmetic/{name}.jsonl": "".join(json.dumps(row) + "\n" for row in part).encode()
        for name, part in splits.items()
    }


def main() -> None:
    """Write the files into the folder given as the only argument, or into the package."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    for name, content in generate().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


if __name__ == "__main__":
    main()
