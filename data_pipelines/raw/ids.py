"""Ids of users, items and sessions: text, or whole numbers if all of them are.

Internally they are text. Outputs (vocabulary.parquet, ranks.parquet) have the type of the log. "7",
7 and 7.0 are one id, because programs write whole numbers with a missing value among them as
floats.
"""

import dataclasses
from typing import Literal, get_args

import polars as pl

from data_pipelines.errors import DataError
from data_pipelines.raw.row_checker import RowChecker
from data_pipelines.raw.text_rows import is_utf8

IdType = Literal["string", "int64", "uint64"]
ID_TYPES: tuple[IdType, ...] = get_args(IdType)

_DTYPES = {"string": pl.String, "int64": pl.Int64, "uint64": pl.UInt64}

_WHOLE = "^(0|-?[1-9][0-9]*)$"
WHOLE_FLOAT = r"^(0|-?[1-9][0-9]*)\.0+$"
"""A whole number written as a float; the group is the number."""

_DECIMAL = r"^-?[0-9]*\.[0-9]*[1-9][0-9]*$"

_EXACT: dict[object, int] = {pl.Float64: 2**53, pl.Float32: 2**24, pl.Float16: 2**11}
"""Below this, every whole number has its own float."""


@dataclasses.dataclass(frozen=True)
class IdFacts:
    """Facts about the ids of a column, in some or all of the rows.

    Attributes:
      is_text: They have a text type, such as strings in Parquet; fields of text files do not count.
      has_whole: One is a whole number, such as "7" (but not "007" or "+7").
      has_whole_float: One is such as "7.0".
      has_decimal: One is a number with a fraction, such as "1.5".
      has_other: One is none of these.
      is_negative: One of the whole numbers is below 0.
      is_long: One needs more than 64 bits with a sign.
      is_longer: One needs more than 64 bits.
    """

    is_text: bool = False
    has_whole: bool = False
    has_whole_float: bool = False
    has_decimal: bool = False
    has_other: bool = False
    is_negative: bool = False
    is_long: bool = False
    is_longer: bool = False

    def __or__(self, other: "IdFacts") -> "IdFacts":
        """The facts of both."""
        mine, others = dataclasses.asdict(self), dataclasses.asdict(other)
        return IdFacts(**{name: mine[name] or others[name] for name in mine})

    @property
    def merges_floats(self) -> bool:
        """Whether "7.0" is 7. Not for text types without other whole numbers; those stay as is."""
        return not self.has_decimal and (self.has_whole or not self.is_text)

    @property
    def id_type(self) -> IdType:
        """The type of the ids in outputs."""
        if self.is_text or self.has_other or self.has_decimal or self.is_longer:
            return "string"
        if self.is_long:
            return "string" if self.is_negative else "uint64"
        return "int64"


TEXT = IdFacts(is_text=True)
"""Facts about ids of which nothing else is known."""


def facts_of(ids: pl.Series, is_text: bool) -> IdFacts:
    """The facts of ids.

    Args:
      ids: String, without nulls.
      is_text: See `IdFacts`.
    """
    distinct = ids.unique()
    is_whole, is_float = distinct.str.contains(_WHOLE), distinct.str.contains(WHOLE_FLOAT)
    is_decimal = distinct.filter(~(is_whole | is_float)).str.contains(_DECIMAL)
    numbers = without_fraction(distinct.filter(is_whole | is_float))
    is_long, is_longer = (
        numbers.cast(dtype, strict=False).is_null() for dtype in (pl.Int64, pl.UInt64)
    )
    return IdFacts(
        is_text=is_text and len(ids) > 0,
        has_whole=is_whole.any(),
        has_whole_float=is_float.any(),
        has_decimal=is_decimal.any(),
        has_other=not is_decimal.all(),
        is_negative=numbers.str.starts_with("-").any(),
        is_long=is_long.any(),
        is_longer=(is_long & is_longer).any(),
    )


def without_fraction(ids: pl.Series) -> pl.Series:
    """Ids with "7.0" replaced by "7"."""
    return ids.str.replace(WHOLE_FLOAT, "${1}")


def merged(ids: pl.Series, facts: IdFacts) -> pl.Series:
    """The ids of a column with such facts, with "7.0" replaced by "7" if these are one id."""
    return without_fraction(ids) if facts.has_whole_float and facts.merges_floats else ids


def typed_ids(ids: pl.Series, id_type: IdType) -> pl.Series:
    """Converts ids from text to their type.

    Raises:
      polars.exceptions.InvalidOperationError: One does not have that type.
    """
    return ids.cast(_DTYPES[id_type])


def type_of(dtype: pl.DataType) -> IdType | None:
    """The type of the ids in a column of an output; None if it is another type."""
    return next((name for name in ID_TYPES if dtype == _DTYPES[name]), None)


def is_id(dtype: pl.DataType) -> bool:
    """Whether values of this type can be ids."""
    return dtype.is_integer() or dtype in (pl.String, pl.Categorical, pl.Enum, pl.Null)


def cast_ids(checker: RowChecker, column: str) -> bool:
    """Converts a column of ids to text, and drops rows where that is impossible.

    Args:
      checker: The rows.
      column: The column of ids: text, whole numbers in any type, or UTF-8 bytes.

    Returns:
      Whether the column has a text type.

    Raises:
      DataError: They have another type, or are floats too large to be exact; a row is bad and the
        action is `error`.
    """
    dtype = checker.frame[column].dtype
    if dtype.is_float():
        _drop_inexact(checker, column)
        text = checker.frame[column].cast(pl.Int64).cast(pl.String)
    elif dtype.is_decimal():
        decimals = checker.frame[column].cast(pl.String)
        is_whole = decimals.str.contains(f"{_WHOLE}|{WHOLE_FLOAT}").fill_null(True)
        checker.drop(~is_whole.to_numpy(), column, f"fractional {column}", "a whole number")
        text = without_fraction(checker.frame[column].cast(pl.String))
    elif dtype == pl.Binary:
        _drop_bytes(checker, column)
        text = checker.frame[column].cast(pl.String)
    elif is_id(dtype):
        text = checker.frame[column].cast(pl.String)
    else:
        raise DataError(
            f"{checker.source}: column {column!r}: expected text or whole numbers, got {dtype}"
        )
    checker.frame = checker.frame.with_columns(text.alias(column))
    return not dtype.is_numeric()


def _drop_inexact(checker: RowChecker, column: str) -> None:
    """Drops floats that are no whole numbers; nan becomes null."""
    values = checker.frame[column].fill_nan(None)
    checker.frame = checker.frame.with_columns(values)
    is_whole = (values.is_finite() & (values == values.floor())).fill_null(True)
    checker.drop(~is_whole.to_numpy(), column, f"fractional {column}", "a whole number")
    limit = _EXACT[type(values.dtype)]
    large = (checker.frame[column].abs() > limit).fill_null(False)
    if large.any():
        index = int(large.arg_max() or 0)
        raise DataError(
            f"{checker.where(index, column)}: got {checker.shown(index, column)}, beyond which "
            f"{values.dtype} does not tell whole numbers apart; write the ids as integers or text"
        )


def _drop_bytes(checker: RowChecker, column: str) -> None:
    """Drops bytes that are not UTF-8."""
    distinct = checker.frame[column].unique().drop_nulls()
    broken = [octets for octets in distinct if not is_utf8(octets)]
    if broken:
        is_broken = checker.frame[column].is_in(broken).fill_null(False)
        checker.drop(is_broken.to_numpy(), column, "not UTF-8", "UTF-8")
