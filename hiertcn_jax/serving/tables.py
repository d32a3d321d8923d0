"""Columns of the tables that a Recommender gives: items as they are known, parts of scores."""

from collections.abc import Sequence

import jax
import numpy as np
import polars as pl

from hiertcn_jax.batch import FIRST_ITEM_ID
from hiertcn_jax.serving.catalogue import Catalogue
from hiertcn_jax.serving.parts import Parts


class ItemColumns:
    """Shows rows of the item table as raw ids, with titles where there are some.

    Attributes:
      items: A row for each item of the catalogue, in their order; None without titles.
    """

    def __init__(self, catalogue: Catalogue, items: pl.DataFrame | None) -> None:
        """The items, and what is known of them."""
        self.items, self._catalogue = items, catalogue

    def __call__(self, rows_m: np.ndarray, name: str = "item_id") -> dict[str, pl.Series]:
        """Columns of items; null for rows that are no items.

        Args:
          rows_m: int32. Rows of the item table.
          name: What the column of ids is called. Titles are in a column of the same name with
            `title` in place of `item_id`, or with `_title` after it.
        """
        is_item_m = rows_m >= FIRST_ITEM_ID
        # One item more, so that the type is known where there is none.
        rows = np.append(rows_m[is_item_m], FIRST_ITEM_ID)
        known = {name: pl.Series(self._catalogue.decode(rows))}
        if self.items is not None:
            title = "title" if name == "item_id" else f"{name.removesuffix('_id')}_title"
            place = pl.Series(rows - FIRST_ITEM_ID, dtype=pl.Int64)
            # Items of a live catalogue that came later have no title.
            place = place.set(place >= len(self.items), None)
            known[title] = self.items["title"].gather(place)
        if is_item_m.all():
            return {name: values.head(len(rows_m)) for name, values in known.items()}
        index_m = pl.Series(np.cumsum(is_item_m) - 1, dtype=pl.Int64)
        index_m = index_m.set(pl.Series(~is_item_m), None)
        return {name: values.gather(index_m) for name, values in known.items()}

    def of_parts(
        self, parts: Sequence[Parts], index_n: np.ndarray, user_m: np.ndarray, place_m: np.ndarray
    ) -> dict[str, pl.Series]:
        """Columns of the parts of scores.

        Args:
          parts: Of some users each.
          index_n: Which user each row of the parts is.
          user_m: The user of each row of the table.
          place_m: Which of the user's items it is.
        """
        back_n = np.argsort(index_n)
        joined = jax.tree.map(
            lambda *arrays: np.concatenate(arrays)[back_n][user_m, place_m], *parts
        )
        columns = {}
        # Not in the order of the joined dict, which JAX sorts by name.
        for name in parts[0].values:
            columns[name] = pl.Series(joined.values[name])
            if name == "world":
                columns["world_half_life_hours"] = pl.Series(joined.half_life_hours_nk).fill_nan(
                    None
                )
            if name == "followers":
                columns |= self(joined.followed_nk, "followers_of")
        return columns


def total(parts: Sequence[Parts], index_n: np.ndarray) -> np.ndarray:
    """float32 [n, k]. The sums of the parts, in the order of the users."""
    sums = [sum(part.values.values(), np.float32(0)) for part in parts]
    return np.concatenate(sums)[np.argsort(index_n)]
