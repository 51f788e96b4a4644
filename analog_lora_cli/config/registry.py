"""Open registries: the kinds that a configuration can name, to which other packages may add their own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Generic, TypeVar, get_args

from pydantic import GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError
from pydantic_core.core_schema import no_info_after_validator_function

from analog_lora_cli.config.effects import Affects
from analog_lora_cli.config.section import Section

Entry = TypeVar("Entry")


class Registry(Generic[Entry]):
    """Entries by name.

    Args:
        noun: word for an entry in messages.
    """

    def __init__(self, noun: str) -> None:
        self.noun = noun
        self._entries: dict[str, Entry] = {}

    def register(self, names: Iterable[str], entry: Entry) -> None:
        """Add an entry under its names.

        Raises:
            ValueError: another entry has one of the names.
        """
        for name in names:
            if self._entries.setdefault(name, entry) is not entry:
                raise ValueError(f"{self.noun} {name} is registered already")

    def names(self) -> list[str]:
        """All names in the order of registration."""
        return list(self._entries)

    def get(self, name: object) -> Entry | None:
        """The entry of a name; None if there is none."""
        return self._entries.get(name) if isinstance(name, str) else None

    def __getitem__(self, name: str) -> Entry:
        return self._entries[name]

    def unknown(self, name: object) -> str:
        """Sentence about a name that is not registered."""
        return not_one_of(name, self.names())

    def check(self, name: str) -> str:
        """The name itself.

        Raises:
            ValueError: it is not registered.
        """
        if name not in self._entries:
            raise ValueError(self.unknown(name))
        return name


class OneOf:
    """Metadata of a field whose value names an entry of a registry.

    Args:
        registry: the registry in which validation looks the value up.
    """

    def __init__(self, registry: Registry[Any]) -> None:
        self.registry = registry

    @property
    def allowed(self) -> str:
        """The allowed values in words."""
        return ", ".join(self.registry.names())

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return no_info_after_validator_function(self.registry.check, handler(source))


class SectionRegistry(Registry[type[Section]]):
    """The kinds of one section of the configuration, told apart by the value of one of its keys.

    Args:
        section: name of the section.
        key: the key that says which kind it is.
        noun: word for a kind in messages.
        refused: names that are not registered, each with the reason.
    """

    def __init__(self, section: str, key: str, noun: str, refused: dict[str, str] | None = None) -> None:
        super().__init__(noun)
        self.section = section
        self.key = key
        self._refused = refused or {}

    def register(self, names: Iterable[str], entry: type[Section]) -> None:
        """Add a kind under its names.

        Raises:
            ValueError: another kind has one of the names, or a key does not say what it affects.
        """
        for key, field in entry.model_fields.items():
            # Or measurements with another value of the key would be taken for the same.
            if not any(isinstance(item, Affects) for item in field.metadata):
                raise ValueError(f"{entry.__name__}.{key} does not say what it affects: Annotated[..., Affects(...)]")
        super().register(names, entry)

    def register_kind(self, section: type[Section], kinds: Registry[Entry], kind: Entry) -> Entry:
        """Add a section, and to `kinds` what carries it out, both under the names that the section's key may take.

        Raises:
            ValueError: as for `register`.
        """
        names = get_args(section.model_fields[self.key].annotation)
        self.register(names, section)
        kinds.register(names, kind)
        return kind

    @property
    def default(self) -> str:
        """The kind of a section that does not name one: the first registered."""
        return self.names()[0]

    def chosen(self, content: Mapping[str, object]) -> object:
        """The name that a configuration's section gives, known or not; the default if it gives none."""
        section = content.get(self.section)
        return section.get(self.key, self.default) if isinstance(section, dict) else self.default

    def kinds(self) -> dict[type[Section], list[str]]:
        """Each section class with its names."""
        kinds: dict[type[Section], list[str]] = {}
        for name, section in self._entries.items():
            kinds.setdefault(section, []).append(name)
        return kinds

    def holders(self, key: str) -> list[str]:
        """Names of the kinds that have a key."""
        return [name for name, section in self._entries.items() if key in section.model_fields]

    def common_keys(self) -> list[str]:
        """Keys that all kinds have."""
        first, *others = self.kinds()
        return [key for key in first.model_fields if all(key in other.model_fields for other in others)]

    def unknown(self, name: object) -> str:
        """Sentence about a name that is not registered."""
        return self._refused.get(str(name).lower()) or super().unknown(name)

    def validate(self, value: object) -> object:
        """A mapping as the section of the kind that it names; anything else unchanged.

        Raises:
            ValidationError: the kind is not registered, or a key is wrong for it.
        """
        if not isinstance(value, dict):
            return value
        name = value.get(self.key, self.default)
        section = self.get(name)
        if section is not None:
            return section.model_validate(value)
        message = PydanticCustomError("value_error", "{problem}", {"problem": self.unknown(name)})
        raise ValidationError.from_exception_data(
            self.section, [InitErrorDetails(type=message, loc=(self.key,), input=name)]
        )


def not_one_of(value: object, options: Sequence[str]) -> str:
    """Sentence about a value that is none of the options."""
    near = get_close_matches(str(value), options, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"expected one of {', '.join(options)}, got {shown(value)}{hint}"


def shown(value: object) -> str:
    """A value as it would stand in YAML."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else repr(value)


_REWRITES = (
    "{} rewrites the base weights: the chip would have to hold the rewritten ones, and could not serve other adapters; "
    "use default or gaussian with variant lora"
)
REWRITES_BASE = {name: _REWRITES.format(name) for name in ("pissa", "olora", "corda", "loftq", "lora_ga", "mica")}
"""Initialisations of PEFT that subtract the adapter's start from the base weights, and why each is refused."""

TASKS = SectionRegistry("task", "name", "task")
"""The kinds of task; the first one is the default."""

ADAPTERS = SectionRegistry("adapter", "variant", "variant", REWRITES_BASE)
"""The variants of the digital adapter."""

OBJECTIVES = SectionRegistry("objective", "kind", "objective")
"""The kinds of objective, which a training minimizes."""
