"""Reports the bad rows of a source with their locations, and drops them."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from data_pipelines.raw.bad_rows import SKIP_HINT, BadRows

_SHOWN_CHARACTERS = 80

NULL_VALUES = (
    "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "NULL", "Null", "null", "None", "undefined",
    r"\N",
)  # fmt: skip
"""Words that programs write for a missing value."""

_WORD = (
    ", which means a missing value; --on_bad_row=skip leaves such rows out, --null_values sets "
    "the words for it"
)


class RowChecker:
    """A frame that loses its bad rows as they are reported.

    Attributes:
      frame: The remaining rows.
      source: The file, for messages.

    Args:
      frame: The rows, with their numbers: `row` and, for a text file, `line` (Int64).
      source: The file, for messages.
      bad_rows: What to do with an unusable row.
      null_values: Words that mean a missing value, as blanks do.
    """

    def __init__(
        self,
        frame: pl.DataFrame,
        source: str,
        bad_rows: BadRows,
        null_values: Sequence[str] = NULL_VALUES,
    ) -> None:
        self.frame = frame
        self.source = source
        self._bad_rows = bad_rows
        self._null_values = list(null_values)

    def drop_nulls(self, name: str) -> None:
        """Reports and drops the rows whose value in a column is missing, or a null word."""
        values = self.frame[name]
        self.drop(values.is_null().to_numpy(), name, f"null {name}", "a value")
        if values.dtype not in (pl.String, pl.Categorical, pl.Enum):
            return
        words = self.frame[name].cast(pl.String).str.strip_chars()
        self.drop((words == "").to_numpy(), name, f"null {name}", "a value")
        words = words.filter(words != "")
        self.drop(words.is_in(self._null_values).to_numpy(), name, f"null {name}", "a value", _WORD)

    def where(self, index: int, column: str) -> str:
        """The location of a value: file, row, line, column."""
        row = self.frame[index]
        line = f" (line {row['line'].item()})" if "line" in row.columns else ""
        return f"{self.source}: row {row['row'].item()}{line}, column {column!r}"

    def shown(self, index: int, column: str) -> str:
        """The value there, cut if it is long."""
        return _shown(self.frame[column][index : index + 1])

    def drop(
        self, bad: np.ndarray, column: str, reason: str, expected: str, remark: str = ""
    ) -> None:
        """Reports and drops the rows where `bad` [n] is true.

        Args:
          bad: bool [n].
          column: The column with the bad value.
          reason: A few words.
          expected: What was expected.
          remark: About the first bad value, with advice; replaces `SKIP_HINT` at the end of the
            message.
        """

        def describe_first() -> str:
            first = int(np.argmax(bad))
            where, got = self.where(first, column), self.shown(first, column)
            return f"{where}: expected {expected}, got {got}{remark or SKIP_HINT}"

        self._bad_rows.report(reason, int(bad.sum()), describe_first)
        if bad.any():
            self.frame = self.frame.filter(~bad)


def _shown(value: pl.Series) -> str:
    """A value, alone in its series, as text for a message: cut if it is long."""
    if isinstance(value.dtype, pl.List):
        value = value.cast(pl.List(pl.String)).list.join(" ", ignore_nulls=True)
    if value.dtype.is_temporal():
        # As a number, because Python may not have such a date.
        return f"{value.to_physical().item()} as {value.dtype}"
    plain = value.item()
    if plain is None or plain == "":
        return "nothing"
    text = repr(plain)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."
