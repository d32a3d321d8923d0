"""Conditions on rows, such as `interaction_type=4`: parsed, never evaluated as code."""

import dataclasses
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
_CONDITION = re.compile(r"\s*(?P<column>[^=!<>]+?)\s*(?P<sign>!=|<=|>=|=|<|>)\s*(?P<value>.*?)\s*")


@dataclasses.dataclass(frozen=True)
class Condition:
    """A comparison of a column with a constant.

    Attributes:
      column: Its name.
      sign: One of = != < <= > >=.
      value: As text. Where it is a number, columns are compared as numbers; else as text.
    """

    column: str
    sign: str
    value: str

    def __str__(self) -> str:
        return f"{self.column}{self.sign}{self.value}"

    def holds(self) -> pl.Expr:
        """Rows where the condition holds.

        It never does where the column is null. Text that is no number is != any number.
        """
        compare = _COMPARISONS[self.sign]
        column = pl.col(self.column)
        number = _number(self.value)
        if number is None:
            return compare(column.cast(pl.String), self.value).fill_null(False)
        held = compare(column.cast(pl.Float64, strict=False), number)
        return held.fill_null(column.is_not_null() if self.sign == "!=" else False)


def parse_conditions(text: str) -> tuple[Condition, ...]:
    """Parses conditions separated by commas; a row is meant where any of them holds.

    Args:
      text: Such as "interaction_type=4,price<0". Empty for no condition.

    Raises:
      ValueError: One of them is no comparison of a column with a constant, or orders by text.
    """
    return tuple(_parse(part) for part in text.split(",")) if text.strip() else ()


def _parse(text: str) -> Condition:
    match = _CONDITION.fullmatch(text)
    if match is None or not match["value"] or re.match("[=!<>]", match["value"]):
        raise ValueError(f"expected 'column sign value' with sign in = != < <= > >=, got {text!r}")
    condition = Condition(match["column"], match["sign"], match["value"])
    if condition.sign in "<=>=" and condition.sign != "=" and _number(condition.value) is None:
        raise ValueError(f"{condition.sign} needs a number, got {condition.value!r}")
    return condition


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
