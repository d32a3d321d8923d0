"""Settings: frozen dataclasses whose fields state their type, bounds and meaning once.

    @dataclasses.dataclass(frozen=True)
    class GRUConfig(Settings):
        gru_dim: int = setting(128, "Width of one GRU layer.", at_least=1)

Everything else comes from that: the check when a config is built (`gru_dim=0: must be >= 1`), its
JSON, and its flags (`data_pipelines.commands.settings_flags`). Docstrings are not used, so all of
it works under `python -OO` too.

A field is a bool, int, float, str, one of a few words (`Literal`), a tuple of ints, of texts, or of
(source, count) pairs; or one of these or None; or an int or one of a few words (`int |
Literal["auto"]`).
"""

import dataclasses
import functools
import inspect
import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, NamedTuple, TypeVar

T = TypeVar("T")

_SETTING = "setting"

INT_LIMIT = 2**31
"""Limit of whole numbers, unless a field sets another: arrays of indices hold smaller ones, and JAX
would silently take the lower 32 bits of a larger seed."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """What `setting` records about a field, besides its type and default.

    Attributes:
      help: One or two sentences for its flag's help.
      at_least, above: Its lower bound, inclusive or exclusive; for a list, that of each item.
      at_most, below: Its upper bound, inclusive or exclusive.
      filled: Whether a list must have an item.
      flag: Name of its flag; "" takes the field's.
      adds_up: Whether repeating a list flag adds items. Otherwise the last one counts, as with
        other flags.
    """

    help: str = ""
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    filled: bool = False
    flag: str = ""
    adds_up: bool = False

    def admits(self, number: float) -> bool:
        """Whether a number is within the bounds. NaN never is."""
        return (
            (self.at_least is None or number >= self.at_least)
            and (self.above is None or number > self.above)
            and (self.at_most is None or number <= self.at_most)
            and (self.below is None or number < self.below)
        )

    @property
    def bounds(self) -> str:
        """The bounds in words: `>= 1`, or `in [0, 1)`."""
        low = self.at_least if self.above is None else self.above
        high = self.at_most if self.below is None else self.below
        if high is None:
            return f"{'>=' if self.above is None else '>'} {low}"
        if low is None:
            return f"{'<=' if self.below is None else '<'} {high}"
        opened, closed = "[" if self.above is None else "(", "]" if self.below is None else ")"
        return f"in {opened}{low}, {high}{closed}"


def setting(default: T, text: str, **said: Any) -> T:
    """Declares a field of a class of settings.

    Args:
      default: Its default.
      text: Its help.
      **said: Attributes of `Setting`.
    """
    metadata = {_SETTING: Setting(text, **said)}
    return dataclasses.field(default=default, metadata=metadata)


class Kind(NamedTuple):
    """A type of values.

    Attributes:
      type: The Python type.
      name: Name of such a value in messages.
      fits: Tells whether a value has this type.
      item: Type of the items of a tuple; None: it is no tuple.
    """

    type: Any
    name: str
    fits: Callable[[Any], bool]
    item: Any = None


def _tuple_of(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, tuple) and all(map(fits, value))


def _is_int(value: Any) -> bool:
    return type(value) is int


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple) and tuple(map(type, value)) == (str, int)


_PAIR = tuple[str, int]

_KINDS: dict[Any, Kind] = {
    kind.type: kind
    for kind in (
        Kind(bool, "true or false", lambda value: type(value) is bool),
        Kind(int, "a whole number", _is_int),
        Kind(float, "a number", lambda value: type(value) in (int, float)),
        Kind(str, "text", _is_text),
        Kind(tuple[int, ...], "a list of whole numbers", _tuple_of(_is_int), int),
        Kind(tuple[str, ...], "a list of texts", _tuple_of(_is_text), str),
        Kind(tuple[_PAIR, ...], "a list of sources with their counts", _tuple_of(_is_pair), _PAIR),
    )
}


@dataclasses.dataclass(frozen=True)
class Field:
    """A field of a `Settings` class.

    Attributes:
      name: Its name.
      kind: Its type, without None.
      choices: The allowed words; empty: any.
      words: Words that are allowed besides values of its type.
      optional: Whether it may be None.
      default: Its default; None if it has none.
      setting: Its bounds, help and flag.
      owner: The class that declares it first.
    """

    name: str
    kind: Kind
    choices: tuple[str, ...]
    words: tuple[str, ...]
    optional: bool
    default: Any
    setting: Setting
    owner: type

    @property
    def flag(self) -> str:
        """Name of its flag."""
        return self.setting.flag or self.name

    @property
    def expected(self) -> str:
        """A description of its values."""
        return " or ".join([self.kind.name, *self.words])

    def check(self, value: Any) -> None:
        """Raises a ValueError if a value has another type, or is out of range."""
        if (value is None and self.optional) or value in self.words:
            return
        shown = f"{self.name}={shortly(value)}"
        if not self.kind.fits(value):
            or_none = " or null" if self.optional else ""
            raise ValueError(f"{shown}: must be {self.expected}{or_none}")
        if self.choices:
            one_of(self.choices, **{self.name: value})
        numbers = value if isinstance(value, tuple) else (value,)
        numbers = tuple(number for number in numbers if type(number) in (int, float))
        setting = self.setting
        for number in numbers:
            limit = setting.below if setting.at_most is None else setting.at_most
            if type(number) is int and limit is None and not -INT_LIMIT <= number < INT_LIMIT:
                raise ValueError(f"{shown}: must be below 2**31")
            if type(number) is float and math.isinf(number):
                raise ValueError(f"{shown}: must be finite")
        lacking = setting.filled and not value
        if lacking or not all(map(setting.admits, numbers)):
            listed = "one or more numbers " if setting.filled else ""
            raise ValueError(f"{shown}: must be {listed}{setting.bounds}")
        if any(map(math.isnan, numbers)):
            raise ValueError(f"{shown}: must be a number")

    def from_json(self, value: Any) -> Any:
        """Converts a JSON value to the field's type, without checks: lists become tuples."""
        if isinstance(value, list | tuple):
            return tuple(self.from_json(item) for item in value)
        if self.kind.type is float and type(value) is int:
            return float(value) if abs(value) < 1 << 1000 else math.inf
        return value

    def from_typed(self, value: Any) -> Any:
        """Converts a JSON value, or a list as typed in a flag (`8,16`), to the field's type.

        Raises:
          ValueError: An item of a list cannot be read.
        """
        if self.kind.item is None or not isinstance(value, str | list | tuple):
            return self.from_json(value)
        items = list(map(str, value)) if not isinstance(value, str) else value.split(",")
        items = [] if items == [""] else items
        if self.kind.item is str:
            return tuple(items)
        if self.kind.item is int:
            try:
                return tuple(map(int, items))
            except ValueError as error:
                shown = shortly(",".join(items))
                raise ValueError(f"{self.name}={shown}: must be whole numbers") from error
        return tuple(map(self._pair, items))

    def _pair(self, text: str) -> tuple[str, int]:
        source, _, count = text.partition(":")
        if not count.isdecimal():
            raise ValueError(
                f"{self.name}={shortly(text)}: expected source:count, such as popularity:2048"
            )
        return source, int(count)

    @staticmethod
    def item_text(item: Any) -> str:
        """An item of a list as typed in a flag."""
        return f"{item[0]}:{item[1]}" if isinstance(item, tuple) else str(item)


def fields_of(kind: type) -> tuple[Field, ...]:
    """The fields of a class of settings, or of another dataclass with fields of such types."""
    return _fields_of(kind)


@functools.cache
def _fields_of(kind: type) -> tuple[Field, ...]:
    fields = []
    for field in dataclasses.fields(kind):
        bases = [base for base in kind.__mro__ if field.name in inspect.get_annotations(base)]
        hint = inspect.get_annotations(bases[0], eval_str=True)[field.name]
        default = None if field.default is dataclasses.MISSING else field.default
        said = _said(bases, field.name)
        fields.append(Field(field.name, *_typed(hint), default, said, bases[-1]))
    return tuple(fields)


def _said(bases: list[type], name: str) -> Setting:
    """The `Setting` of a field. A subclass that only changes its default or words inherits it."""
    for base in bases:
        said = base.__dataclass_fields__[name].metadata.get(_SETTING)  # type: ignore[attr-defined]
        if said is not None:
            return said
    return Setting()


def _typed(hint: Any) -> tuple[Kind, tuple[str, ...], tuple[str, ...], bool]:
    """Splits a type hint: kind, choices, words besides the kind, whether None is allowed."""
    parts = [hint]
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        parts = list(typing.get_args(hint))
    optional = type(None) in parts
    kinds = [part for part in parts if part is not type(None) and not _is_literal(part)]
    words = tuple(word for part in parts if _is_literal(part) for word in typing.get_args(part))
    if not kinds:
        return _KINDS[str], words, (), optional
    (kind,) = kinds
    return _KINDS[kind], (), words, optional


def _is_literal(hint: Any) -> bool:
    return typing.get_origin(hint) is Literal


SettingsT = TypeVar("SettingsT", bound="Settings")


class Settings:
    """Base of config classes: checked when built; converts to and from JSON values."""

    # `__post_init__` checks types, with one line that names the field; checkers must skip this.
    __no_type_check__ = True

    def __post_init__(self) -> None:
        for field in fields_of(type(self)):
            field.check(getattr(self, field.name))

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return dataclasses.asdict(self)  # type: ignore[call-overload]

    @classmethod
    def from_dict(cls: type[SettingsT], values: Any, name: str = "") -> SettingsT:
        """Builds the config from JSON values; a missing field takes its default.

        Args:
          values: By the names of the fields.
          name: Name of the values in messages.

        Raises:
          ValueError: A field is unknown, has another type, or is out of range.
        """
        if not isinstance(values, Mapping):
            what = name or cls.__name__
            raise ValueError(f"{what}={shortly(values)}: must be fields with their values")
        prefix = f"{name}." if name else ""
        known = {field.name: field for field in fields_of(cls)}
        for unknown in sorted(set(values) - set(known)):
            shown = f"{prefix}{shortly(unknown)}={shortly(values[unknown])}"
            raise ValueError(f"{shown}: unknown to this version")
        try:
            return cls(**{field: known[field].from_json(value) for field, value in values.items()})
        except ValueError as error:
            raise ValueError(f"{prefix}{error}") from error


def shortly(value: Any) -> str:
    """The value in a few characters on one line."""
    text = " ".join(str(value).split())
    return text if len(text) <= 200 else f"{text[:100]} ... {text[-90:]}"


def at_least(low: float, **values: float) -> None:
    """Raises a ValueError for a value below `low`, by its name."""
    _require(Setting(at_least=low), values)


def above(low: float, **values: float) -> None:
    """Raises a ValueError for a value that is not above `low`."""
    _require(Setting(above=low), values)


def between(low: float, high: float, **values: float) -> None:
    """Raises a ValueError for a value outside [low, high]."""
    _require(Setting(at_least=low, at_most=high), values)


def one_of(choices: Iterable[str], **values: str) -> None:
    """Raises a ValueError for a value that is none of `choices`."""
    words = tuple(choices)
    for name, value in values.items():
        if value not in words:
            raise ValueError(f"{name}={shortly(value)}: must be one of {', '.join(words)}")


def _require(setting: Setting, values: Mapping[str, float]) -> None:
    for name, value in values.items():
        if not setting.admits(value):
            raise ValueError(f"{name}={value}: must be {setting.bounds}")
