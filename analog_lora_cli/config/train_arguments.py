"""Keys that `train:` may have: the fields of `transformers.TrainingArguments`, read without importing torch."""

from __future__ import annotations

import ast
from difflib import get_close_matches
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

RESERVED = {
    "output_dir": "use --output",
    "resume_from_checkpoint": "use --resume",
    "do_train": "the command decides",
    "do_eval": "the command decides",
    "do_predict": "the command decides",
    "remove_unused_columns": "the task decides",
    "label_names": "the task decides",
    "disable_tqdm": "use --quiet",
    "local_rank": "accelerate launch or torchrun set it",
    "save_strategy": "states are saved every train.save_steps steps, so that --resume works",
    "save_only_model": "--resume needs the optimizer's state",
    "load_best_model_at_end": "the adapter of the last step is the result",
    "eval_strategy": "the model is evaluated at the end, and over drift",
    "ignore_data_skip": "--resume must continue with the same data",
    "length_column_name": "the task decides",
    "remote_code": "code from the hub is never run",
    "auto_find_batch_size": "a batch size that changes by itself would change the result",
}
"""TrainingArguments that this tool sets itself, each with the alternative."""

_HUB = ("hub_", "push_to_hub", "trackio_")


@lru_cache(maxsize=1)
def train_arguments() -> frozenset[str]:
    """Names of the fields of `TrainingArguments` in the installed transformers.

    They are read from its source: the class itself imports torch, seconds before a wrong key could be reported.
    """
    spec = find_spec("transformers")
    if spec is None or spec.origin is None:
        return frozenset()
    tree = ast.parse(Path(spec.origin).with_name("training_args.py").read_text(encoding="utf-8"))
    (fields,) = (node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "TrainingArguments")
    return frozenset(ast.unparse(field.target) for field in fields if isinstance(field, ast.AnnAssign))


def train_argument_problem(key: str) -> str | None:
    """Problem of a key of `train:` in words; None if it is a TrainingArguments field that may be set."""
    if key in RESERVED:
        return f"is set by this tool: {RESERVED[key]}"
    if key.startswith(_HUB):
        return "training does not push to the hub"
    names = train_arguments()
    if key in names:
        return None
    near = get_close_matches(key, names - RESERVED.keys(), n=1, cutoff=0.6)
    hint = f"did you mean train.{near[0]}?" if near else "transformers.TrainingArguments has no such field"
    return f"unknown key; {hint}"
