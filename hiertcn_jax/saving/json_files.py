"""Parses JSON that may come from anyone."""

import json
from typing import Any

_DEEPEST = 32
"""Our own files are nested less than 10 deep."""


def parse_json(text: str) -> Any:
    """The value of a JSON text.

    Raises:
      ValueError: It is no JSON, or is nested so deeply that recursion would overflow the stack.
    """
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if isinstance(value, dict | list):
        _require_shallow(value, _DEEPEST)
    return value


def _require_shallow(value: dict[str, Any] | list[Any], depth: int) -> None:
    if depth == 0:
        raise ValueError("nested too deeply")
    for inner in value.values() if isinstance(value, dict) else value:
        if isinstance(inner, dict | list):
            _require_shallow(inner, depth - 1)
