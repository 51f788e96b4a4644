"""The definitions of lm-eval by their names, and why one cannot be measured."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from analog_lora_cli.errors import UsageError

INSTALL = "pip install 'analog-lora-cli[llm]'"
OUTPUT_TYPES = ("multiple_choice", "loglikelihood", "generate_until")
"""lm-eval's kinds of requests that can be measured."""
NAMES_SHOWN = 8

_TASK = re.compile(r"""^["']?task["']?:[ \t]*["']?([^\s'"\[#]+)["']?[ \t]*(?:#.*)?$""", re.MULTILINE)
_GROUP = re.compile(r"""^["']?group["']?:[ \t]*["']?([^\s'"\[#]+)""", re.MULTILINE)
_TAGS = re.compile(r"""^["']?tag["']?:[ \t]*(\S.*)?\n((?:[ \t]*-.*\n)*)""", re.MULTILINE)
_WORD = re.compile(r"[\w.+-]*\w")


@dataclass(frozen=True)
class Definition:
    """A benchmark as lm-eval defines it."""

    name: str
    folder: Path
    """Folder of its YAML file."""
    content: Mapping[str, Any]
    """Its YAML file with all that it includes; functions are names."""

    @property
    def label(self) -> str:
        """The name in letters, digits and underscores, for metrics and evaluation sets."""
        return re.sub(r"\W+", "_", self.name)

    @property
    def output_type(self) -> str:
        """Kind of its requests, one of OUTPUT_TYPES."""
        return str(self.content["output_type"])

    @property
    def split(self) -> str:
        """Split of its data set that is measured, by lm-eval's rule."""
        return str(self.content.get("test_split") or self.content.get("validation_split"))

    @property
    def shots(self) -> int:
        """Number of solved examples before each question."""
        return int(self.content.get("num_fewshot") or 0)

    @property
    def shots_split(self) -> str:
        """Split that these examples come from."""
        own = self.content.get("fewshot_config") or {}
        splits = (own.get("split"), *(self.content.get(f"{one}_split") for one in ("fewshot", "training")))
        return str(next((split for split in splits if split), self.split))


@dataclass(frozen=True)
class _Names:
    """What lm-eval's definitions are called."""

    files: Mapping[str, Path]
    """The YAML file of each task."""
    members: Mapping[str, list[str]]
    """Tasks of each tag; none for a group, whose own definition says them."""


def find_definition(name: str) -> Definition:
    """The definition of a benchmark.

    Args:
        name: lm-eval's name, such as `arc_easy`.

    Raises:
        UsageError: lm-eval is not installed, does not know the name, or defines what cannot be measured here.
    """
    names = _names()
    if name in names.members:
        members = names.members[name]
        listed = f", such as {', '.join(members[:NAMES_SHOWN])}" if members else ""
        raise UsageError(f"task.benchmarks: {name} stands for several of lm-eval's tasks; name single ones{listed}")
    if name not in names.files:
        near = get_close_matches(name, names.files, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "its tasks are listed by: lm-eval ls tasks"
        raise UsageError(f"task.benchmarks: lm-eval has no task {name!r}; {hint}")
    definition = _read(name, names.files[name])
    reason = unsupported_reason(definition.content)
    if reason:
        raise UsageError(f"task.benchmarks: {name} cannot be measured: {reason}")
    return definition


def unsupported_reason(content: Mapping[str, Any]) -> str:
    """Why a definition cannot be measured; completes "it cannot be measured:". Empty if it can.

    Args:
        content: as in `Definition`.
    """
    output_type, generation = content.get("output_type", "generate_until"), content.get("generation_kwargs") or {}
    reasons = {
        "it is written in Python, so that its requests are not known": "class" in content,
        "it shows images or plays sounds": bool(content.get("doc_to_image") or content.get("doc_to_audio")),
        "it runs programs that the model writes": bool(content.get("unsafe_code")),
        "it takes the likelihood of whole documents in windows of the model's length; task text measures perplexity":
            output_type == "loglikelihood_rolling",
        "it samples answers at random; only greedy ones are measured":
            output_type == "generate_until" and bool(generation.get("do_sample") and generation.get("temperature", 1)),
        "it asks each question several times": (content.get("repeats") or 1) > 1,
    }  # fmt: skip
    found = next((reason for reason, holds in reasons.items() if holds), "")
    return found or ("" if output_type in OUTPUT_TYPES else f"its output_type is {output_type}")


@lru_cache(maxsize=1)
def _names() -> _Names:
    """The names, from the files' texts: lm-eval's own index parses 14,000 of them, which takes it 15 seconds.

    Raises:
        UsageError: lm-eval is not installed.
    """
    package = find_spec("lm_eval")
    if package is None or not package.submodule_search_locations:
        raise UsageError(f"task.benchmarks needs lm-eval, which is not installed: {INSTALL}")
    files: dict[str, Path] = {}
    members: dict[str, list[str]] = {}
    for folder, _, entries in os.walk(Path(package.submodule_search_locations[0]) / "tasks"):
        for entry in sorted(entry for entry in entries if entry.endswith(".yaml")):
            path = Path(folder, entry)
            text = path.read_text(encoding="utf-8", errors="replace")
            group, task, tags = (pattern.search(text) for pattern in (_GROUP, _TASK, _TAGS))
            if group:
                members.setdefault(group[1], [])
            elif task:
                files[task[1]] = path
                for tag in _WORD.findall(f"{tags[1] or ''} {tags[2]}") if tags else ():
                    members.setdefault(tag, []).append(task[1])
    # Some tags are names of tasks too.
    return _Names(files, {name: sorted(tasks) for name, tasks in members.items() if name not in files})


@lru_cache(maxsize=64)
def _read(name: str, file: Path) -> Definition:
    from lm_eval.tasks import TaskManager

    entry = TaskManager(include_defaults=False, include_path=str(file.parent)).task_index.get(name)
    if entry is None or entry.cfg is None:
        raise UsageError(f"task.benchmarks: lm-eval's definition of {name}, {file}, cannot be read")
    return Definition(name, file.parent, {"output_type": "generate_until", **entry.cfg})
