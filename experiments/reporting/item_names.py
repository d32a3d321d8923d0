"""What items are called in the report: their title, or else their id."""

import polars as pl

from data_pipelines.sessions.item_titles import read_items
from experiments.runs.data import Data
from hiertcn_jax.batch import FIRST_ITEM_ID

_LONGEST = 48
"""Letters of a title that are shown."""


class ItemNames:
    """The names of a log's items."""

    def __init__(self, data: Data) -> None:
        """Reads the titles, if there are any.

        Raises:
          DataError: Their file is damaged.
        """
        items = read_items(data.directory, data.vocabulary)
        self._titles: pl.Series | None = None if items is None else items["title"]
        self._ids = data.vocabulary.item_ids

    def __call__(self, row: int) -> str:
        """The name of a row of the item table."""
        if row < FIRST_ITEM_ID:
            return "an item that training never saw"
        place = row - FIRST_ITEM_ID
        title = None if self._titles is None else self._titles[place]
        name = f"item {self._ids[place]}" if title is None else str(title)
        return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"
