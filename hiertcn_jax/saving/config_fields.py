"""Checks of the fields of a frozen config, each error "field=value: why"; and JSON."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar


def at_least(config: Any, low: float, *names: str) -> None:
    """Raises a ValueError unless each of these fields is `low` or more."""
    for name in names:
        value = getattr(config, name)
        if not value >= low:
            raise ValueError(f"{name}={value}: must be >= {low}")


def above(config: Any, low: float, *names: str) -> None:
    """Raises a ValueError unless each of these fields is more than `low`."""
    for name in names:
        value = getattr(config, name)
        if not value > low:
            raise ValueError(f"{name}={value}: must be > {low}")


def share(config: Any, *names: str) -> None:
    """Raises a ValueError unless each of these fields is in [0, 1)."""
    for name in names:
        value = getattr(config, name)
        if not 0 <= value < 1:
            raise ValueError(f"{name}={value}: must be in [0, 1)")


def one_of(config: Any, name: str, choices: tuple[str, ...]) -> None:
    """Raises a ValueError unless the field is one of `choices`."""
    value = getattr(config, name)
    if value not in choices:
        raise ValueError(f"{name}={value}: must be one of {', '.join(choices)}")


def bounded(config: Any) -> None:
    """Raises a ValueError unless all numbers are such that arrays hold.

    Of a larger seed, JAX would take the lower 32 bits without a word.
    """
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        for number in value if isinstance(value, tuple) else (value,):
            if type(number) is int and not -(2**31) <= number < 2**31:
                raise ValueError(f"{field.name}={value}: must be below 2**31")
            if type(number) is float and math.isinf(number):
                raise ValueError(f"{field.name}={value}: must be finite")


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple) and tuple(map(type, value)) == (str, int)


_KINDS: dict[type, tuple[Callable[[Any], bool], str]] = {
    bool: (lambda value: type(value) is bool, "true or false"),
    int: (lambda value: type(value) is int, "a whole number"),
    float: (lambda value: type(value) in (int, float), "a number"),
    str: (lambda value: isinstance(value, str), "text"),
    tuple: (
        lambda value: isinstance(value, tuple) and all(type(item) is int for item in value),
        "a list of whole numbers",
    ),
}
_PAIRS = (
    lambda value: isinstance(value, tuple) and all(map(_is_pair, value)),
    "a list of sources with their counts",
)

ConfigT = TypeVar("ConfigT", bound="JsonFields")


class JsonFields:
    """To and from plain JSON values."""

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return dataclasses.asdict(self)  # type: ignore[call-overload]

    @classmethod
    def from_dict(cls: type[ConfigT], values: Any) -> ConfigT:
        """The config of these JSON values.

        Raises:
          ValueError: A field is unknown, of another type, or out of range.
        """
        if not isinstance(values, Mapping):
            raise ValueError(f"{cls.__name__}={values}: must be fields with their values")
        known = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
        unknown = sorted(set(values) - known)
        if unknown:
            raise ValueError(f"{unknown[0]}={values[unknown[0]]}: not a field of {cls.__name__}")

        def tupled(value: Any) -> Any:
            return tuple(tupled(v) for v in value) if isinstance(value, list | tuple) else value

        fields = {name: tupled(value) for name, value in values.items()}
        cls.require_types(fields)
        return cls(**fields)

    @classmethod
    def require_types(cls, values: Mapping[str, Any]) -> None:
        """Checks the types of values that come from JSON, by the name of their field.

        Raises:
          ValueError: One is of another type than its field.
        """
        for field in dataclasses.fields(cls):  # type: ignore[arg-type]
            if field.name in values:
                value = values[field.name]
                fits, expected = (
                    _PAIRS if field.name == "negatives" else _KINDS[type(field.default)]
                )
                if not fits(value):
                    raise ValueError(f"{field.name}={value}: must be {expected}")
