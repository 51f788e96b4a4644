"""What is wrong with a configuration is said at once, by key, with what was most likely meant."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analog_lora_cli.config.load import dump_config, load_config
from analog_lora_cli.config.train_arguments import RESERVED, train_arguments
from analog_lora_cli.config.yaml_file import MAX_BYTES, parse_yaml, read_yaml_mapping
from analog_lora_cli.errors import ConfigError

File = Callable[..., Path]


def problems(*overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config(overrides=overrides)
    return caught.value.problems


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("rank=3", "rank: unknown key; did you mean adapter.rank?"),
        ("seed=3", "seed: unknown key; did you mean train.seed or drift.seed?"),
        ("bf16=true", "bf16: unknown key; did you mean train.bf16?"),
        ("lerning_rate=1", "lerning_rate: unknown key; did you mean train.learning_rate?"),
        ("adpter.rank=3", "adpter: unknown key; did you mean adapter?"),
        ("hardware.rank=3", "hardware.rank: unknown key; did you mean adapter.rank?"),
        ("hardware.adc_bit=3", "hardware.adc_bit: unknown key; did you mean hardware.adc_bits?"),
        ("train.lerning_rate=1", "train.lerning_rate: unknown key; did you mean train.learning_rate?"),
        ("train.rank=1", "train.rank: unknown key; did you mean adapter.rank?"),
        ("train.zzzz=1", "train.zzzz: unknown key; transformers.TrainingArguments has no such field"),
        ("a.b.c=1", "a: unknown key; known here: description, model, task, method, adapter, objective, hardware"),
        ("adapter.zzz.y=1", "adapter.zzz: unknown key; known here: variant, rank, dropout"),
        ("hardware=3", "hardware: is a section: expected keys below it, such as hardware.layers, got 3"),
        ("train=null", "train: is a section: expected keys below it, such as train.num_train_epochs, got null"),
        ("model=bert", "model: is a section: expected keys below it, such as model.name, got 'bert'"),
        ("task.name=", "--set task.name=: no value after the equals sign; write null to set nothing"),
        ("task.name=null", "task.name: expected one of squad, squad_v2, cola, mnli, mrpc, qnli, qqp, rte, sst2, stsb"),
        ("hardware.device=pcn", "got 'pcn'; did you mean pcm?"),
        ("method=loar", "method: expected one of lora, full, digital, got 'loar'; did you mean lora?"),
        ("adapter.rank.x=3", "adapter.rank: input should be a valid integer, got {'x': 3}"),
        ('hardware.adc_bits="8"', "hardware.adc_bits: input should be a valid integer, got '8'"),
        ("hardware.adc_bits=8.0", "hardware.adc_bits: input should be a valid integer, got 8.0"),
        ("train.seed=true", "train.seed: input should be a valid integer, got true"),
        ("adapter.train_head=1", "adapter.train_head: input should be a valid boolean, got 1"),
        ('train.learning_rate="1e-5"', "train.learning_rate: input should be a valid number, got '1e-5'"),
        ("train.learning_rate=.nan", "train.learning_rate: input should be a finite number, got nan"),
        ("model.revision=12345", "model.revision: input should be a valid string, got 12345; put it in quotes"),
        ("hardware.adc_bits=17", "hardware.adc_bits: input should be less than or equal to 16, got 17"),
        ("hardware.dac_bits=-1", "hardware.dac_bits: input should be greater than or equal to 0, got -1"),
        ("hardware.dac_bits=1", "a converter of 1 bit is not possible: use 0 (ideal) or 2 and more bits"),
        ("hardware.g_min=30", "g_min (30.0 uS) must be below g_max (25.0 uS)"),
        ("hardware.input_range_value=101", "input_range_value: 101 is no percentile: at most 100"),
        ("hardware.input_range=fixed", "hardware.input_range: expected one of dynamic, static, learned, got 'fixed'"),
        ("adapter.targets=3", "adapter.targets: input should be a valid list, got 3"),
        ("adapter.targets=[]", "adapter.targets: list should have at least 1 item"),
        ("drift.times=[1q]", "drift.times.0: '1q' is not a time: expected a number of seconds, or a number"),
        ("drift.times=[1d, 24h]", "24h and 1d are the same time"),
        ("drift.times=[-1]", "drift.times.0: -1 is not a time"),
        ("reference.note=x", "reference.source: is missing (from --set reference.note=x)"),
        ("task.doc_stride=320", "task: doc_stride (320) must be below max_length (320)"),
        ("adapter={variant: dora, dropout: 0.1}", "adapter.dropout: must be 0 with variant dora"),
        ("foo", "--set foo: expected KEY=VALUE, for instance --set hardware.adc_bits=6"),
        ("=3", "--set =3: expected KEY=VALUE"),
        ("a..b=3", "--set a..b=3: expected KEY=VALUE"),
        ("drift.times=[0s", "--set drift.times=[0s, line 1, column 4"),
        ("model.name=*x", "aliases (*name) are not supported here"),
        ("adapter={rank: 1, rank: 2}", "key 'rank' stands twice"),
        ("adapter={1: 2}", "key 1 is not text"),
    ],
)
def test_one_wrong_override(override: str, message: str) -> None:
    found = problems(override)
    assert len(found) == 1 and message in found[0], found
    assert f"--set {override}" in found[0]


def test_all_problems_in_one_report() -> None:
    assert len(problems("rank=3", "method=x", "hardware=3", "train.foo=1", "train.output_dir=x", "drift.chips=0")) == 6
    assert len(problems("foo", "task.name=", "model.name=[")) == 3


@pytest.mark.parametrize("key", sorted(RESERVED))
def test_reserved_training_arguments_say_what_to_use(key: str) -> None:
    assert problems(f"train.{key}=x")[0].startswith(f"train.{key}: is set by this tool: {RESERVED[key]} (from --set")


def test_training_arguments_pass_through() -> None:
    """Their names are read from the source of transformers; the class itself must have the same."""
    from transformers import TrainingArguments

    assert train_arguments() == set(TrainingArguments.__dataclass_fields__)
    config = load_config(overrides=["train.adam_beta2=0.98", "train.bf16=true", "train.optim_args=null"])
    assert config.train.model_extra == {"adam_beta2": 0.98, "bf16": True, "optim_args": None}
    assert problems("train.push_to_hub=true")[0].startswith("train.push_to_hub: training does not push to the hub")


@pytest.mark.parametrize(
    "overrides",
    [
        ("method=full", "adapter.rank=4"),
        ("adapter.variant=vera", "adapter.alpha=4"),
        ("adapter.lora_plus_ratio=4",),
        ("adapter.adalora_init_rank=4",),
        ("task.name=sst2", "task.doc_stride=64"),
        ("task.name=sst2", "task.n_best=3"),
        ("task.name=squad", "task.null_threshold=1.0"),
    ],
)
def test_a_key_without_effect_is_refused(overrides: tuple[str, ...]) -> None:
    key = overrides[-1].partition("=")[0]
    assert problems(*overrides)[0].startswith(f"{key}: ")


def test_a_key_without_effect_is_refused_in_a_file_but_not_in_a_checkpoints(file: File) -> None:
    with pytest.raises(
        ConfigError, match=r"task\.n_best: unknown key for task sst2; tasks squad, squad_v2 have it \(from"
    ):
        load_config(file=file("task: {name: sst2, n_best: 3}\n"))
    for override in ("method=full", "task.name=sst2", "task.name=squad_v2", "adapter.variant=vera"):
        config = load_config(overrides=[override])
        assert load_config(file=file(dump_config(config))) == config


# ------------------------------------------------------------------------------------------------------------- YAML


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5),
        ("2E4", 2e4),
        ("-1e3", -1e3),
        ("1.5e-3", 1.5e-3),
        ("+1e+2", 100.0),
        ("1_0e1", 100.0),
        ("8", 8),
        ("0.1", 0.1),
        ('"8"', "8"),
        ("1e", "1e"),
        ("e5", "e5"),
        ("1e5x", "1e5x"),
        ("3d", "3d"),
        ("null", None),
        ("[0s, 1y]", ["0s", "1y"]),
    ],
)
def test_numbers_are_what_a_person_means(text: str, value: object) -> None:
    parsed = parse_yaml(text, "here")
    assert parsed == value and type(parsed) is type(value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"task: {name: sst2}\ntask: {name: rte}\n", "line 2, column 1: key 'task' stands twice"),
        (b"a: &x {b: 1}\nc: *x\n", "line 2, column 4: aliases"),
        (b"task:\n  <<: {name: sst2}\n  name: rte\n", "line 2, column 3: merging (<<) is not supported"),
        (b"a: !!python/object/apply:os.system [ls]\n", "could not determine a constructor for the tag"),
        (b"task: {name: \xff}\n", "not UTF-8 text (byte 13); save it as UTF-8"),
        ("task: {name: sst2}\n".encode("utf-16"), "not UTF-8 text"),
        (b"[task, hardware]\n", "expected sections such as `task:` and `hardware:`, got list"),
        (b"hello\n", "got str"),
        (b"task:\n\tname: sst2\n", "line 2, column 1: found character '\\t'"),
        (b"task: {name: sst2\n", "line 2, column 1: expected ',' or '}'"),
        (b"a: 1\n---\nb: 2\n", "expected a single document"),
        (b"a: \x00\n", "unacceptable character"),
        (b"[" * 20_000, "nested too deeply"),
        (b"#" * (MAX_BYTES + 1), "larger than 1000000 bytes"),
        (b"model: {name: 2024-13-45}\n", "month must be in 1..12"),
        (b"adapter:\nmodel: {name: a}\n", "adapter: is a section: expected keys below it"),
    ],
)
def test_a_file_that_is_no_configuration(file: File, content: bytes, message: str) -> None:
    path = file(content)
    with pytest.raises(ConfigError) as caught:
        load_config(file=path)
    assert len(caught.value.problems) == 1 and message in caught.value.problems[0], caught.value.problems
    assert str(path) in caught.value.problems[0]


@pytest.mark.parametrize("content", ["", "# nothing\n", "{}\n", "---\n"])
def test_an_empty_file_is_no_configuration(file: File, content: str) -> None:
    """Else a forgotten file would train the default configuration."""
    path = file(content)
    with pytest.raises(ConfigError, match=f"{path}: holds no configuration"):
        load_config("smoke-squad-lora", path)


def test_files_that_cannot_be_read(tmp_path: Path, file: File) -> None:
    for path, message in ((tmp_path / "none.yaml", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(ConfigError) as caught:
            load_config(file=path)
        assert caught.value.problems == [f"{path}: cannot be read: {message}"]
    assert read_yaml_mapping(file(b"")) == read_yaml_mapping(file(b"# nothing\n")) == {}
    assert read_yaml_mapping(file(b"\xef\xbb\xbftask: {name: sst2}\n")) == {"task": {"name": "sst2"}}


@pytest.mark.parametrize("revision", ["1e5", "12345e7", "123", "null", "true", "2024-01-01", "a\x85b", "ä", "1:30"])
def test_text_that_looks_like_something_else_stays_text(revision: str) -> None:
    config = load_config(base={"model": {"name": "a", "revision": revision}})
    assert load_config(base=parse_yaml(dump_config(config), "dumped")) == config


# ------------------------------------------------------------------------------------------------------ round trips

TIMES = st.one_of(
    st.integers(0, 10**10),
    st.floats(0, 1e9),
    st.builds("{}{}".format, st.integers(0, 10**4), st.sampled_from(["", "s", "min", "h", " d", "w", "Y"])),
)
CONFIGS = st.fixed_dictionaries(
    {},
    optional={
        "description": st.text(),
        "model": st.fixed_dictionaries({"name": st.text(min_size=1), "revision": st.none() | st.text()}),
        "adapter": st.fixed_dictionaries(
            {
                "rank": st.integers(1, 10**6),
                "alpha": st.floats(1e-9, 1e9),
                "train_head": st.booleans(),
                "targets": st.none() | st.lists(st.text(), min_size=1),
            }
        ),
        "hardware": st.fixed_dictionaries(
            {
                "adc_bits": st.integers(2, 16),
                "weight_noise": st.floats(0, 1),
                "layers": st.none() | st.lists(st.text()),
                "device_options": st.dictionaries(st.text(), st.floats(-1e9, 1e9) | st.text() | st.booleans()),
            }
        ),
        "train": st.fixed_dictionaries(
            {"learning_rate": st.floats(1e-30, 1), "seed": st.integers(0, 2**64), "bf16": st.none() | st.booleans()}
        ),
        "drift": st.fixed_dictionaries({"times": st.lists(TIMES, min_size=1, max_size=1), "chips": st.integers(1, 99)}),
    },
)


@settings(max_examples=60, deadline=None)
@given(content=CONFIGS)
def test_what_is_dumped_is_read_back(content: dict[str, object]) -> None:
    config = load_config(base=content)
    text = dump_config(config)
    assert load_config(base=parse_yaml(text, "dumped")) == config
    assert dump_config(load_config(base=parse_yaml(text, "dumped"))) == text


@pytest.mark.parametrize("key", ["adapter.init=pissa", "adapter.variant=OLoRA"])
def test_what_rewrites_the_base_is_refused_with_the_reason(key: str) -> None:
    with pytest.raises(ConfigError, match="rewrites the base weights"):
        load_config(preset="quickstart", overrides=[key])


def test_an_error_about_two_keys_names_the_one_that_was_typed() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(
            "squad-lora",
            overrides="task.doc_stride=400",
            options=[("--limit", {"task": {"max_eval_samples": 5}})],
        )
    assert "(from --set task.doc_stride=400)" in str(caught.value) and "--limit" not in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["simulator=aihwkit", "input_range=learned"], "input_range: learned is trained and read by simulator fast"),
        (["input_range_rule=mse", "input_range_value=3"], "mse has no parameter: leave input_range_value null"),
    ],
)
def test_input_ranges_that_do_not_fit_together(overrides: list[str], message: str) -> None:
    assert [message in problem for problem in problems(*(f"hardware.{one}" for one in overrides))] == [True]


@pytest.mark.parametrize("key", ["recalibrate_at=1d", "recalibration_tokens=64", "recalibration_reads=2"])
def test_keys_of_a_recalibration_need_one(key: str) -> None:
    (problem,) = problems(f"drift.{key}")
    assert f"{key.partition('=')[0]} has an effect with recalibrate only" in problem
    load_config(overrides=[f"drift.{key}", "drift.recalibrate=8"])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["task.name=classification", "task.class_weights=balanced"], "own loss, which task.class_weights replaces"),
        (["task.name=multiple_choice"], "own loss, which task multiple_choice replaces"),
        (["task.name=sst2", "train.label_smoothing_factor=0.1"], "which train.label_smoothing_factor replaces"),
    ],
)
def test_adalora_needs_the_models_own_loss(overrides: list[str], message: str) -> None:
    load_config(overrides=[*overrides, "adapter.variant=lora"])
    load_config(overrides=[*overrides, "method=full"])
    (problem,) = problems(*overrides, "adapter.variant=adalora")
    assert problem.startswith("adapter.variant: adalora needs a term") and message in problem


@pytest.mark.parametrize("task", ["squad", "squad_v2", "stsb", "regression"])
def test_only_classes_are_smoothed(task: str) -> None:
    (problem,) = problems(f"task.name={task}", "train.label_smoothing_factor=0.1")
    assert problem.startswith(f"train.label_smoothing_factor: 0.1 does not go with task {task}; leave it out")


def test_whole_devices_have_no_ramp() -> None:
    load_config(overrides=["hardware.weight_noise_type=device-gaussian", "hardware.weight_noise_ramp=0.5"])
    (problem,) = problems("hardware.weight_noise_type=device", "hardware.weight_noise_ramp=0.5")
    assert "weight_noise_ramp: 0.5 does not go with weight_noise_type device" in problem


def test_learned_ranges_need_tiles_in_training() -> None:
    (problem,) = problems("hardware.input_range=learned", "method=digital")
    assert problem.startswith("hardware.input_range: learned is trained on tiles, and method digital has none")
