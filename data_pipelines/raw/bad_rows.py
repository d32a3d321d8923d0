"""Handles unusable rows: stops, or skips and counts them."""

import collections
from collections.abc import Callable
from typing import Literal

from data_pipelines.errors import DataError

OnBadRow = Literal["error", "skip"]


SKIP_HINT = "; --on_bad_row=skip leaves such rows out"
"""Ends the message about a bad row if there is no better advice."""


class BadRows:
    """Stops at the first bad row, or counts bad rows by reason.

    Attributes:
      counts: Rows skipped for each reason.
    """

    def __init__(self, action: OnBadRow) -> None:
        self._action = action
        self.counts: collections.Counter[str] = collections.Counter()

    def report(self, reason: str, rows: int, describe_first: Callable[[], str]) -> None:
        """Reports `rows` rows that are bad for the same reason.

        Args:
          reason: A few words, the same for all of them.
          rows: How many; 0 reports nothing.
          describe_first: Makes the message about the first of them: file, row, column, what was
            expected and what came.

        Raises:
          DataError: There is such a row, and the action is `error`.
        """
        if not rows:
            return
        if self._action == "error":
            raise DataError(describe_first())
        self.counts[reason] += rows
