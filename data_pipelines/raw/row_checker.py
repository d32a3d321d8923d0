"""Rows of a source, of which the bad ones are reported with their places and dropped."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from data_pipelines.raw.bad_rows import SKIP_HINT, BadRows

_SHOWN_CHARACTERS = 80

NULL_VALUES = (
    "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "NULL", "Null", "null", "None", "undefined",
    r"\N",
)  # fmt: skip
"""What programs write where there is nothing."""

_WORD = (
    ", which stands for nothing; --on_bad_row=skip leaves such rows out, --null_values says which "
    "words do so"
)


class RowChecker:
    """A frame that loses its bad rows as they are reported.

    Attributes:
      frame: The rows that are left.
      source: The file, for messages.

    Args:
      frame: The rows, with their numbers: `row` and, from a text file, `line` (Int64).
      source: The file, for messages.
      bad_rows: What to do with a row that cannot be used.
      null_values: Text that stands for nothing, as blanks do.
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
        """Reports and drops the rows that have nothing in a column, or a word for nothing."""
        values = self.frame[name]
        self.drop(values.is_null().to_numpy(), name, f"null {name}", "a value")
        if values.dtype not in (pl.String, pl.Categorical, pl.Enum):
            return
        words = self.frame[name].cast(pl.String).str.strip_chars()
        self.drop((words == "").to_numpy(), name, f"null {name}", "a value")
        words = words.filter(words != "")
        self.drop(words.is_in(self._null_values).to_numpy(), name, f"null {name}", "a value", _WORD)

    def place(self, place: int, column: str) -> str:
        """Where a value stands: file, row, line, column."""
        row = self.frame[place]
        line = f" (line {row['line'].item()})" if "line" in row.columns else ""
        return f"{self.source}: row {row['row'].item()}{line}, column {column!r}"

    def shown(self, place: int, column: str) -> str:
        """The value there, cut where it is long."""
        return _shown(self.frame[column][place : place + 1])

    def drop(
        self, bad: np.ndarray, column: str, reason: str, expected: str, remark: str = ""
    ) -> None:
        """Reports and drops the rows where `bad` [n] holds.

        Args:
          bad: bool [n].
          column: The column that is bad there.
          reason: In a few words.
          expected: What should stand there.
          remark: On the value of the first of them, with what to do; ends the message in place
            of `SKIP_HINT`.
        """

        def describe_first() -> str:
            first = int(np.argmax(bad))
            place, got = self.place(first, column), self.shown(first, column)
            return f"{place}: expected {expected}, got {got}{remark or SKIP_HINT}"

        self._bad_rows.report(reason, int(bad.sum()), describe_first)
        if bad.any():
            self.frame = self.frame.filter(~bad)


def _shown(value: pl.Series) -> str:
    """A value, alone in its series, as a message has it: cut where it is long."""
    if isinstance(value.dtype, pl.List):
        value = value.cast(pl.List(pl.String)).list.join(" ", ignore_nulls=True)
    if value.dtype.is_temporal():
        # As a count: it may be no date that Python has.
        return f"{value.to_physical().item()} as {value.dtype}"
    plain = value.item()
    if plain is None or plain == "":
        return "nothing"
    text = repr(plain)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."
