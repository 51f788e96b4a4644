"""Questions about what configuration keys affect; the answers stand on the fields themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from analog_lora_cli.config.effects import MEANINGS, Affects, Effect, Unit
from analog_lora_cli.config.schema import UNIONS, Config
from analog_lora_cli.config.train_arguments import train_argument_problem

MEASUREMENT: tuple[Effect, ...] = ("mapping", "clipping", "programming", "read", "score")
"""Effects on a measurement of a stored adapter."""


def kinds(section: str) -> list[type[BaseModel]]:
    """The classes that a section of the configuration can be of; empty for a plain key of the top level.

    Raises:
        KeyError: there is no such section.
    """
    if section in UNIONS:
        return list(UNIONS[section].kinds())
    annotation = Config.model_fields[section].annotation
    candidates = [annotation, *getattr(annotation, "__args__", ())]
    return [kind for kind in candidates if isinstance(kind, type) and issubclass(kind, BaseModel)]


def fields() -> Iterator[tuple[str, FieldInfo]]:
    """Every key that any configuration can have, dotted, with its field; a key of several kinds once for each."""
    for name, own in Config.model_fields.items():
        if not kinds(name):
            yield name, own
        for kind in kinds(name):
            for key, field in kind.model_fields.items():
                yield f"{name}.{key}", field


def field(key: str) -> FieldInfo | None:
    """The field of a dotted key, also of one below it such as `hardware.device_options.t_0`; None if there is none."""
    section, _, rest = key.partition(".")
    dotted = f"{section}.{rest.partition('.')[0]}" if rest else section
    return next((info for name, info in fields() if name == dotted), None)


def statement(info: FieldInfo) -> Affects | None:
    """A field's statement of its effects; None if it makes none."""
    return next((item for item in info.metadata if isinstance(item, Affects)), None)


def unit(info: FieldInfo) -> str:
    """The unit of a field's value; empty if it has none."""
    return next((item.name for item in info.metadata if isinstance(item, Unit)), "")


def effects(key: str) -> frozenset[Effect]:
    """Effects of a key; a key of TrainingArguments that `train` does not list affects the training.

    Raises:
        KeyError: no configuration has this key.
    """
    info = field(key)
    if info is None:
        if is_key(key):
            return frozenset({"training"})
        raise KeyError(key)
    own = statement(info)
    return frozenset() if own is None else own.effects


def is_key(key: str) -> bool:
    """Whether a configuration can have this dotted key; a section by itself is none."""
    section, _, name = key.partition(".")
    return field(key) is not None or (section == "train" and train_argument_problem(name) is None)


def affects(key: str, *effect: Effect) -> bool:
    """Whether a key has any of these effects.

    Raises:
        KeyError: no configuration has this key.
    """
    return not effects(key).isdisjoint(effect)


def keys(*effect: Effect) -> list[str]:
    """The dotted keys that have any of these effects."""
    first: dict[str, FieldInfo] = {}
    for key, info in fields():
        first.setdefault(key, info)  # A key of several kinds counts by its first, as in `field`.
    stated = {key: own for key, info in first.items() if (own := statement(info)) is not None}
    return [key for key, own in stated.items() if not own.effects.isdisjoint(effect)]


def sections(*effect: Effect) -> list[str]:
    """The sections, and plain keys of the top level, in which any key has any of these effects."""
    return list(dict.fromkeys(key.partition(".")[0] for key in keys(*effect)))


def cost_sections() -> frozenset[str]:
    """The sections that affect the cost of a deployment alone: no result of a run depends on them."""
    others = sections(*(effect for effect in MEANINGS if effect != "cost"))
    return frozenset(sections("cost")) - frozenset(others)


def reason(key: str) -> str:
    """Why a key cannot change on a programmed chip; completes "it ..."."""
    info = field(key)
    own = None if info is None else statement(info)
    return "" if own is None else own.reason


def project(section: BaseModel, *effect: Effect) -> dict[str, Any]:
    """The keys of a section that have any of these effects, as JSON holds them; sections inside it likewise."""
    projection: dict[str, Any] = {}
    dump = section.model_dump(mode="json")
    for key, info in type(section).model_fields.items():
        value, own = getattr(section, key), statement(info)
        if isinstance(value, BaseModel):
            projection[key] = project(value, *effect)
        elif own is not None and not own.effects.isdisjoint(effect):
            projection[key] = dump[key]
    return projection


def settled(key: str) -> bool:
    """Whether a stored adapter has settled a key: another value would need another training.

    Raises:
        KeyError: no configuration has this key.
    """
    return affects(key, "architecture")


def shown_over_drift(key: str) -> bool:
    """Whether a key changes what `evaluate-drift` shows of a stored adapter.

    Raises:
        KeyError: no configuration has this key.
    """
    return affects(key, *MEASUREMENT, "data", "chips", "numerics", "report")


def inspection_shows(key: str, statistics: bool, errors: bool) -> str | None:
    """Options that `inspect-tiles` needs to show the effect of a key; "" for none, None if it never shows one.

    Args:
        key: a dotted key.
        statistics: weights and conductances are shown.
        errors: the errors of the analog layers are shown.

    Raises:
        KeyError: no configuration has this key.
    """
    if affects(key, "cost"):
        return ""
    if affects(key, "read", "data", "numerics"):
        return "" if errors else "--errors"
    if affects(key, "mapping", "architecture"):
        return ""
    if affects(key, "clipping", "programming"):
        return "" if statistics or errors else "--statistics or --errors"
    return None
