"""The questions of a benchmark, from a file or the hub, as the requests that lm-eval's definition makes of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analog_lora_cli.errors import AnaloraError, DataError, HubError, UsageError
from analog_lora_cli.tasks.causal.benchmarks.definitions import Definition
from analog_lora_cli.tasks.data.files import locate, read_table

if TYPE_CHECKING:
    import datasets
    from lm_eval.api.instance import Instance
    from lm_eval.api.task import ConfigurableTask

FOLDER = "task.benchmark_folder"
SHOTS_SEED = 1234
"""Seed of lm-eval's command for the choice of solved examples."""
OTHER_NAMES: Mapping[str, Mapping[str, str]] = {"boolq": {"label": "answer"}}
"""Columns that another data set of the hub with the same questions has in place of those of lm-eval's data set."""


@dataclass(frozen=True)
class Document:
    """One question with its requests."""

    content: dict[str, Any]
    instances: list[Instance]
    """The requests: one, or one for each choice."""
    gold: list[int]
    """Choices that are right; empty where there are no choices."""


@dataclass(frozen=True)
class Documents:
    """The questions of a benchmark, and lm-eval's task, which scores their answers."""

    definition: Definition
    task: ConfigurableTask
    entries: list[Document]

    @property
    def instances(self) -> list[Instance]:
        """The requests of all questions."""
        return [instance for entry in self.entries for instance in entry.instances]


def benchmark_files(definition: Definition, folder: Path) -> dict[str, Path]:
    """The files of a benchmark in a folder by split: `NAME.jsonl` or `NAME_SPLIT.jsonl`.

    Only those that are needed: the split that is measured, and with solved examples the one that these come from.

    Raises:
        DataError: a file does not exist.
    """
    splits = [definition.split, *([definition.shots_split] if definition.shots else [])]
    files = {split: folder / f"{definition.name}_{split}.jsonl" for split in dict.fromkeys(splits)}
    if not files[definition.split].is_file():
        files[definition.split] = folder / f"{definition.name}.jsonl"
    if not folder.is_dir():
        raise DataError(f"{FOLDER}: there is no folder {folder}")
    return {split: locate(str(path), FOLDER) for split, path in files.items()}


def read_documents(definition: Definition, folder: Path | None, limit: int | None) -> Documents:
    """The questions of a benchmark.

    Args:
        definition: the benchmark.
        folder: folder of its files; None: lm-eval's data set on the hub.
        limit: take only the first questions; None: all.

    Raises:
        DataError: a file does not exist, is malformed, or lacks a column; an answer is none of the choices.
        HubError: the data set cannot be fetched.
        UsageError: lm-eval cannot load its definition.
    """
    splits = None
    source = f"benchmark {definition.name}"
    if folder is not None:
        files = benchmark_files(definition, folder)
        splits = {split: _read_split(definition, path) for split, path in files.items()}
        source = str(files[definition.split])
    with _explained(definition, source, from_hub=folder is None):
        task = _load(definition, splits)
    task.set_fewshot_seed(SHOTS_SEED)
    entries = []
    for number, content in task.doc_iterator(limit=limit):
        with _explained(definition, f"{source}, sample {number + 1}"):
            entries.append(_document(definition, task, number, content))
    if not entries:
        raise DataError(f"{source}: holds no questions")
    return Documents(definition, task, entries)


def _load(definition: Definition, splits: Mapping[str, datasets.Dataset] | None) -> ConfigurableTask:
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_defaults=False, include_path=str(definition.folder))
    overrides: dict[str, Any] = {}
    if splits is not None:
        # lm-eval also asks for splits that nothing is taken from.
        every = _Splits(splits, splits[definition.split])
        overrides["custom_dataset"] = lambda **_: every
    # `load` takes no changes of a definition that it knows.
    task: ConfigurableTask = manager._factory.build(
        manager.task_index[definition.name], overrides=overrides, registry=manager.task_index
    )
    return task


class _Splits(dict[str, "datasets.Dataset"]):
    """Splits of a data set; any other name is the split that is measured."""

    def __init__(self, splits: Mapping[str, datasets.Dataset], other: datasets.Dataset) -> None:
        super().__init__(splits)
        self._other = other

    def __missing__(self, split: str) -> datasets.Dataset:
        return self._other


def _document(definition: Definition, task: ConfigurableTask, number: int, content: dict[str, Any]) -> Document:
    prefix = task.doc_to_prefix(content)
    context = task.fewshot_context(content, num_fewshot=definition.shots, gen_prefix=prefix)
    made = task.construct_requests(doc=content, ctx=context, metadata=(definition.name, number, 1))
    instances = made if isinstance(made, list) else [made]
    return Document(content, instances, _gold(task, content) if definition.output_type == "multiple_choice" else [])


def _gold(task: ConfigurableTask, content: dict[str, Any]) -> list[int]:
    """The choices that are right, by lm-eval's rule."""
    choices = task.doc_to_choice(content)
    target = task.doc_to_text(content) if task.multiple_input else task.doc_to_target(content)
    targets = target if isinstance(target, list) else [target]
    gold = [choices.index(one) if one in choices else -1 for one in targets if isinstance(one, str)]
    gold += [int(one) for one in targets if not isinstance(one, str)]
    if not gold or not all(0 <= one < len(choices) for one in gold):
        raise DataError(f"the answer {target!r} is none of the {len(choices)} choices")
    return gold


def _read_split(definition: Definition, path: Path) -> datasets.Dataset:
    import datasets

    named = _named_columns(definition.content)
    first = next(read_table(path, ()))
    for column, other in OTHER_NAMES.get(definition.name, {}).items():
        if column not in first.values and other in first.values:
            named = [name for name in named if name != column]
    # Those of the first row too, because a function may need any of them.
    rows = [dict(row.values) for row in read_table(path, list(dict.fromkeys([*named, *first.values])))]
    for column, other in OTHER_NAMES.get(definition.name, {}).items():
        if column not in first.values and other in first.values:
            rows = [{**row, column: int(str(row[other]).lower() in ("1", "true"))} for row in rows]
    try:
        return datasets.Dataset.from_list(rows)
    except (ValueError, TypeError) as error:  # pyarrow's errors are of these.
        raise DataError(f"{path}: a column holds values of different types: {error}") from error


def _named_columns(content: Mapping[str, Any]) -> list[str]:
    """The columns that a definition names itself; those that its functions need are not known."""
    from jinja2 import Environment, meta

    if content.get("process_docs"):
        return []  # What its templates name is made by a function.
    columns: list[str] = []
    for key in ("doc_to_text", "doc_to_choice", "doc_to_target"):
        template = content.get(key)
        if isinstance(template, str) and template.isidentifier():
            columns.append(template)
        elif isinstance(template, str) and "{" in template:
            columns += sorted(meta.find_undeclared_variables(Environment().parse(template)))
    return list(dict.fromkeys(columns))


@contextmanager
def _explained(definition: Definition, source: str, from_hub: bool = False) -> Iterator[None]:
    """Say what in the data, or on the way to them, an error of lm-eval's code comes from."""
    from jinja2 import UndefinedError

    try:
        yield
    except DataError as error:
        raise DataError(f"{source}: {error}") from error
    except AnaloraError:
        raise
    except KeyError as error:
        raise DataError(f"{source}: the column {error} is missing, which {definition.name} needs") from error
    except UndefinedError as error:
        raise DataError(f"{source}: {error}, which {definition.name} needs") from error
    except ModuleNotFoundError as error:
        raise UsageError(f"task.benchmarks: {definition.name} needs the package {error.name}: install it") from error
    # lm-eval's functions and the hub's client raise errors of many libraries.
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if from_hub:
            raise HubError(
                f"the data of the benchmark {definition.name} could not be loaded: {reason}\n"
                f"  Without the hub: put {definition.name}.jsonl, with the columns of the hub, into a folder and name "
                f"it with {FOLDER}."
            ) from error
        raise DataError(f"{source}: lm-eval cannot make a question of it: {reason}") from error
