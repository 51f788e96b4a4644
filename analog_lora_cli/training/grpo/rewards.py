"""Rewards of completions: those that come along, and functions of a user's own file.

The paper's formulas are not published. The four here have its names and tags, and together its maximum of 9.5.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import math
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from analog_lora_cli.config.rewards import REWARDS, RewardFile
from analog_lora_cli.errors import AnaloraError, UsageError
from analog_lora_cli.tasks.causal.solutions import TAGS, Completion, first_number, number

Function = Callable[..., Sequence[float | None]]

FROM_TRL = ("prompts", "completions", "completion_ids", "trainer_state", "log_extra", "log_metric")
"""Keywords that TRL passes to each reward, beside the columns of the data."""


def format_strict(completions: Sequence[str]) -> list[float]:
    """3 for reasoning and solution, each between its tags, and nothing else; else 0."""
    return [3.0 if Completion(text).well_formed else 0.0 for text in completions]


def format_soft(completions: Sequence[str]) -> list[float]:
    """0.5 for each tag that stands there once, else -0.5."""
    return [sum(0.5 if text.count(tag) == 1 else -0.5 for tag in TAGS) for text in completions]


def answer_correct(completions: Sequence[str], answer: Sequence[str]) -> list[float]:
    """3 for the answer, 1.5 for its number written otherwise, 0.5 and 0.25 for one within 10 and 20 % of it, else 0."""
    return [_closeness(Completion(text).solution, gold.strip()) for text, gold in zip(completions, answer, strict=True)]


def answer_is_number(completions: Sequence[str]) -> list[float]:
    """1.5 for a solution that is a number and nothing else; else 0."""
    solutions = [Completion(text).solution for text in completions]
    return [1.5 if solution is not None and number(solution) is not None else 0.0 for solution in solutions]


def _closeness(solution: str | None, answer: str) -> float:
    if solution is None:
        return 0.0
    if solution.strip() == answer:
        return 3.0
    given, expected = first_number(solution), number(answer)
    if given is None or expected is None:
        return 0.0
    if given == expected:
        return 1.5
    error = abs(given - expected)
    return 0.5 if error <= 0.1 * abs(expected) else 0.25 if error <= 0.2 * abs(expected) else 0.0


FUNCTIONS: dict[str, Function] = {
    function.__name__: function for function in (format_strict, format_soft, answer_correct, answer_is_number)
}


class RewardFunction:
    """A reward as TRL calls it, with errors that name it.

    Args:
        name: as `objective.rewards` names it.
        function: called with those keywords that it takes.
    """

    def __init__(self, name: str, function: Function) -> None:
        self.name = name
        file = RewardFile.parse(name)
        self.__name__ = name if file is None else file.function  # TRL's name of its metrics.
        self.function = function
        parameters = inspect.signature(function).parameters.values()
        self._takes_all = any(one.kind is one.VAR_KEYWORD for one in parameters)
        self._takes = [one.name for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
        self._needs = [one.name for one in parameters if one.name in self._takes and one.default is one.empty]

    def check(self, columns: Sequence[str]) -> None:
        """Check that the data have all that the function asks for.

        Args:
            columns: columns of the data.

        Raises:
            UsageError: a parameter is neither a column nor one of TRL's keywords.
        """
        known = [*FROM_TRL[:3], *(column for column in columns if column != "prompt")]
        missing = [name for name in self._needs if name not in (*FROM_TRL, *columns)]
        if missing:
            near = get_close_matches(missing[0], known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UsageError(
                f"objective.rewards: {self.name} asks for {missing[0]!r}, which is none of {', '.join(known)}{hint}"
            )

    def __call__(self, **values: Any) -> list[float | None]:
        """Rewards of the completions of a rollout.

        Raises:
            AnaloraError: the function raises, or gives anything but one finite number, or None, for each completion.
        """
        count = len(values["completions"])
        chosen = values if self._takes_all else {name: values[name] for name in self._takes if name in values}
        try:
            rewards = self.function(**chosen)
            numbers = [None if reward is None else float(reward) for reward in rewards]
        except Exception as error:  # Whatever a user's function raises.
            place = _place(error, self.function)
            raise AnaloraError(f"objective.rewards: {self.name} failed{place}: {_said(error)}") from error
        if len(numbers) != count:
            raise AnaloraError(
                f"objective.rewards: {self.name} gave {len(numbers)} rewards for {count} completions; it must give one "
                "number for each, or None where it does not apply"
            )
        broken = [reward for reward in numbers if reward is not None and not math.isfinite(reward)]
        if broken:
            raise AnaloraError(
                f"objective.rewards: {self.name} gave {broken[0]}: a reward must be a finite number, or None where it "
                "does not apply"
            )
        return numbers


def check_file(name: str) -> None:
    """Check that a user's file has the function that a reward names. The file is parsed, and not run.

    Args:
        name: `FILE.py:FUNCTION`; a reward that comes along is left alone.

    Raises:
        UsageError: there is no such file or no such function in it, or it is not Python.
    """
    reward = RewardFile.parse(name)
    if reward is None:
        return
    try:
        tree = ast.parse(Path(reward.file).read_text(encoding="utf-8"), reward.file)
    except OSError as error:
        raise UsageError(f"objective.rewards: {name}: cannot read {reward.file}: {error.strerror}") from None
    except (SyntaxError, ValueError) as error:
        raise UsageError(f"objective.rewards: {name}: {reward.file} is not Python: {error}") from None
    names = _names(tree)
    if reward.function not in names:
        near = get_close_matches(reward.function, names, n=1)
        hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(names) or 'no function'}"
        raise UsageError(f"objective.rewards: {name}: {reward.file} has no function {reward.function}; {hint}")


def load_reward(name: str) -> RewardFunction:
    """The function that a reward names; runs the user's file that it names.

    Raises:
        UsageError: as for `check_file`; the file fails when it is run, or what it names is not a plain function.
    """
    reward = RewardFile.parse(name)
    if reward is None:
        assert REWARDS.get(name) is not None
        return RewardFunction(name, FUNCTIONS[name])
    check_file(name)
    path = Path(reward.file).resolve()
    spec = importlib.util.spec_from_file_location(f"reward_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # Whatever a user's file raises.
        raise UsageError(f"objective.rewards: {name}: {reward.file} failed when it was run: {_said(error)}") from error
    function = getattr(module, reward.function, None)
    if not callable(function) or inspect.iscoroutinefunction(function):
        raise UsageError(f"objective.rewards: {name}: {reward.function} is not a plain function")
    return RewardFunction(name, function)


def _names(tree: ast.Module) -> list[str]:
    """Names that a file defines or imports at its top level."""
    names: list[str] = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.append(node.name)
        elif isinstance(node, ast.ImportFrom):
            names += [alias.asname or alias.name for alias in node.names]
        elif isinstance(node, ast.Assign):
            names += [target.id for target in node.targets if isinstance(target, ast.Name)]
    return names


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".strip().splitlines()[0]


def _place(error: Exception, function: Function) -> str:
    """The last line of the function's own file that an error passed through."""
    file = getattr(getattr(function, "__code__", None), "co_filename", None)
    lines = []
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == file:
            lines.append(trace.tb_lineno)
        trace = trace.tb_next
    return f" in line {lines[-1]}" if lines else ""
