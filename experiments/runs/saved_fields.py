"""What a checkpoint says of a run besides its arrays: read back field by field, each checked."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

Fields = TypeVar("Fields")

_MOST = 1e300
"""Sums of numbers below it are still numbers."""


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**53


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and -_MOST < value < _MOST


_KINDS: dict[Any, tuple[Callable[[Any], bool], str]] = {
    bool: (lambda value: type(value) is bool, "true or false"),
    int: (_is_count, "a whole number from 0 on"),
    float: (_is_number, "a number"),
    float | None: (lambda value: value is None or _is_number(value), "a number or null"),
}


def read_fields(kind: type[Fields], values: Any, name: str) -> Fields:
    """The dataclass that `dataclasses.asdict` made these JSON values of.

    Args:
      kind: A dataclass whose fields are counts, numbers and booleans.
      values: What was read.
      name: What the values are called, for the message.

    Raises:
      ValueError: A field is missing, unknown, of another type, or out of range.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{name}={shortly(values)}: must be fields with their values")
    fields = {field.name: field.type for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for field in sorted(fields.keys() ^ values.keys()):
        what = "missing" if field in fields else "unknown to this program"
        raise ValueError(f"{name}.{shortly(field)}: {what}")
    for field, type_ in fields.items():
        fits, expected = _KINDS[type_]
        if not fits(values[field]):
            raise ValueError(f"{name}.{field}={shortly(values[field])}: must be {expected}")
    return kind(**values)


def shortly(value: Any) -> str:
    """The value in a few characters of one line."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
