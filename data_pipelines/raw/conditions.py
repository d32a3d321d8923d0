"""Conditions on rows, such as `interaction_type=4`: parsed, never evaluated as code."""

import dataclasses
import math
import operator
import re

import polars as pl

_COMPARISONS = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_WHOLE = re.compile(r"[+-]?[0-9]+")
_LONGEST_WHOLE = 38
_DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


@dataclasses.dataclass(frozen=True)
class Condition:
    """A comparison of a column with a constant.

    Attributes:
      column: Its name.
      sign: One of = != < <= > >=.
      value: The constant as text. If it is a number, values are compared as numbers; else as text.
    """

    column: str
    sign: str
    value: str

    def __str__(self) -> str:
        return f"{self.column}{self.sign}{self.value}"

    def holds(self) -> pl.Expr:
        """Rows where the condition holds.

        It never holds for null or empty values. Text that is no number is != any number.
        """
        compare = _COMPARISONS[self.sign]
        text = pl.col(self.column).cast(pl.String)
        number = _number(self.value)
        if number is None:
            held = compare(text, pl.lit(self.value))
        else:
            held = compare(
                text.cast(pl.Float64, strict=False).fill_nan(None), pl.lit(float(number))
            )
            if isinstance(number, int):
                # As floats, neighbours beyond 2**53 would be equal.
                whole = text.cast(pl.Int128, strict=False)
                exact = compare(whole, pl.lit(number, pl.Int128))
                held = pl.when(whole.is_null()).then(held).otherwise(exact)
        return pl.when(text == "").then(False).otherwise(held.fill_null(self.sign == "!=")) & (
            text.is_not_null()
        )


def parse_conditions(text: str) -> tuple[Condition, ...]:
    """Parses conditions separated by commas; a row is selected if any of them holds.

    Args:
      text: Such as "interaction_type=4,price<0". Empty for no condition.

    Raises:
      ValueError: One of them is no comparison of a column with a constant, or orders by text.
    """
    return tuple(_parse(part) for part in text.split(",")) if text.strip() else ()


def _parse(text: str) -> Condition:
    start = next((start for start, character in enumerate(text) if character in "=!<>"), 0)
    sign = text[start : start + 2] if text[start : start + 2] in _COMPARISONS else text[start:][:1]
    column, value = text[:start].strip(), text[start + len(sign) :].strip()
    if not column or sign not in _COMPARISONS or not value or value[0] in "=!<>":
        raise ValueError(f"expected 'column sign value' with sign in = != < <= > >=, got {text!r}")
    if sign not in ("=", "!=") and _number(value) is None:
        raise ValueError(f"{sign} needs a number, got {value!r}")
    return Condition(column, sign, value)


def _number(text: str) -> int | float | None:
    """The number in a text, in ASCII digits; None if it is none, or too large."""
    if _WHOLE.fullmatch(text) and len(text) <= _LONGEST_WHOLE:
        return int(text)
    number = float(text) if _DECIMAL.fullmatch(text) else math.inf
    return number if math.isfinite(number) else None
