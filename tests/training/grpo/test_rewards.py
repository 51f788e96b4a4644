"""Rewards: their values, their sum, and one clear error for each thing that a user's function can do wrong."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from analog_lora_cli.config.rewards import REWARDS
from analog_lora_cli.errors import AnaloraError, UsageError
from analog_lora_cli.training.grpo.rewards import FUNCTIONS, check_file, load_reward

PERFECT = "<start_working_out>48 / 2 = 24, 48 + 24 = 72<end_working_out>\n<SOLUTION>72</SOLUTION>\n"
COLUMNS = ["prompt", "answer"]


def value(name: str, completion: str, answer: str = "72") -> float | None:
    return load_reward(name)(prompts=["?"], completions=[completion], completion_ids=[[1]], answer=[answer])[0]


def test_each_reward_is_described_and_the_best_completion_gets_the_papers_maximum() -> None:
    assert set(REWARDS.names()) == FUNCTIONS.keys()
    values = {name: value(name, PERFECT) for name in FUNCTIONS}
    assert values == {name: REWARDS[name].highest for name in FUNCTIONS}
    assert sum(filter(None, values.values())) == 9.5
    assert {name: value(name, "I do not know") for name in FUNCTIONS} == {n: REWARDS[n].lowest for n in FUNCTIONS}


@pytest.mark.parametrize(
    ("name", "completion", "expected"),
    [
        ("format_strict", "<SOLUTION>72</SOLUTION>", 0.0),
        ("format_strict", f"Sure! {PERFECT}", 0.0),
        ("format_strict", "<start_working_out><end_working_out><SOLUTION>72</SOLUTION>", 0.0),
        ("format_strict", PERFECT.replace("72", "<SOLUTION>72", 1), 0.0),
        ("format_soft", "<SOLUTION>72</SOLUTION>", 0.0),
        ("format_soft", PERFECT + "<SOLUTION>", 1.0),
        ("answer_correct", "<SOLUTION> 72 </SOLUTION>", 3.0),
        ("answer_correct", "<SOLUTION>$72.00</SOLUTION>", 1.5),
        ("answer_correct", "<SOLUTION>70", 0.5),
        ("answer_correct", "<SOLUTION>60</SOLUTION>", 0.25),
        ("answer_correct", "<SOLUTION>-72</SOLUTION>", 0.0),
        ("answer_correct", "72", 0.0),
        ("answer_is_number", "<SOLUTION>1,072.5</SOLUTION>", 1.5),
        ("answer_is_number", "<SOLUTION>72 clips</SOLUTION>", 0.0),
    ],
)
def test_values(name: str, completion: str, expected: float) -> None:
    assert value(name, completion) == expected


@pytest.fixture
def rewards(tmp_path: Path) -> Path:
    file = tmp_path / "mine.py"
    file.write_text(
        "def short(completions, **kwargs):\n    return [-len(text) for text in completions]\n"
        "def raises(completions, answer):\n    numbers = [1]\n    return [numbers[5] for _ in completions]\n"
        "def fewer(completions):\n    return [1.0]\n"
        "def infinite(completions):\n    return [float('inf') for _ in completions]\n"
        "def words(completions):\n    return list(completions)\n"
        "def nothing(completions):\n    return None\n"
        "def some(completions):\n    return [None if index else 1 for index, _ in enumerate(completions)]\n"
        "async def later(completions):\n    return [0.0 for _ in completions]\n"
        "def wants(completions, answers):\n    return [0.0 for _ in completions]\n"
        "LIMIT = 3\n"
    )
    return file


def call(name: str) -> list[float | None]:
    values = {"completions": ["ab", "c"], "completion_ids": [[1], [2]], "answer": ["1", "2"], "trainer_state": None}
    return load_reward(name)(prompts=["a", "b"], **values)


def test_a_users_function_gets_what_it_has_parameters_for(rewards: Path) -> None:
    assert call(f"{rewards}:short") == [-2.0, -1.0]
    assert call(f"{rewards}:some") == [1.0, None]
    assert load_reward(f"{rewards}:short").__name__ == "short"


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("raises", r"mine\.py:raises failed in line 5: IndexError: list index out of range"),
        ("fewer", r"mine\.py:fewer gave 1 rewards for 2 completions; it must give one number for each"),
        ("infinite", r"mine\.py:infinite gave inf: a reward must be a finite number"),
        ("words", r"mine\.py:words failed.*could not convert string to float"),
        ("nothing", r"mine\.py:nothing failed.*NoneType"),
    ],
)
def test_what_a_function_does_wrong(function: str, message: str, rewards: Path) -> None:
    with pytest.raises(AnaloraError, match=rf"objective\.rewards: .*{message}"):
        call(f"{rewards}:{function}")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mine.py:shrt", "has no function shrt; did you mean short"),
        ("mine.py:zzz", "has no function zzz; it has short, raises"),
        ("other.py:short", r"cannot read .*other\.py: No such file"),
        ("broken.py:f", r"broken\.py is not Python: .*line 1"),
    ],
)
def test_a_file_is_checked_before_it_is_run(name: str, message: str, rewards: Path) -> None:
    (rewards.parent / "broken.py").write_text("def f(:")
    with pytest.raises(UsageError, match=message):
        check_file(str(rewards.parent / name))


def test_checking_runs_nothing(tmp_path: Path) -> None:
    file = tmp_path / "loud.py"
    loud = f"import pathlib\npathlib.Path({str(tmp_path / 'ran')!r}).touch()\n"
    file.write_text(f"{loud}def f(completions):\n    return [0.0]\n")
    check_file(f"{file}:f")
    assert not (tmp_path / "ran").exists()
    load_reward(f"{file}:f")
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        ("import no_such_module\ndef f(completions):\n    return []\n", "f", "failed when it was run: ModuleNotFound"),
        ("LIMIT = 3\n", "LIMIT", "LIMIT is not a plain function"),
        ("async def f(completions):\n    return []\n", "f", "f is not a plain function"),
    ],
)
def test_a_file_that_cannot_be_used(content: str, name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "f.py").write_text(content)
    with pytest.raises(UsageError, match=message):
        load_reward(f"{tmp_path}/f.py:{name}")


def test_a_parameter_that_the_data_do_not_have(rewards: Path) -> None:
    load_reward(f"{rewards}:short").check(COLUMNS)
    load_reward("answer_correct").check(COLUMNS)
    with pytest.raises(
        UsageError, match=r"mine\.py:wants asks for 'answers', which is none of .*did you mean answer\?"
    ):
        load_reward(f"{rewards}:wants").check(COLUMNS)


def test_values_are_finite_on_any_text() -> None:
    for text in ("", "<SOLUTION>", "</SOLUTION><SOLUTION>", "<SOLUTION>1e5</SOLUTION>", "<SOLUTION>" + "9" * 400):
        for name in FUNCTIONS:
            for answer in ("0", "x", "1,000"):
                reward = value(name, text, answer)
                assert reward is not None and math.isfinite(reward)
