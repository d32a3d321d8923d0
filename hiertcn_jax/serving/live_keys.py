"""What items are scored with while the catalogue grows."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from hiertcn_jax.config import ModelConfig
from hiertcn_jax.scoring.item_table import ItemTable, with_later_items
from hiertcn_jax.scoring.keys import item_keys
from hiertcn_jax.scoring.scores import Keys
from hiertcn_jax.serving.live_catalogue import LiveCatalogue

_EARLIEST, _LATEST = np.iinfo(np.int32).min + 1, np.iinfo(np.int32).max


class _Made(NamedTuple):
    """Keys, and the state of the catalogue that they are of."""

    keys: Keys
    room: int
    changes: int


class LiveKeys:
    """The keys of a table, with rows for items that it does not have; see `with_later_items`.

    The arrays have the catalogue's room: their shapes change when a block of spare rows is full,
    not at each new item.
    """

    def __init__(
        self, items: ItemTable, config: ModelConfig, catalogue: LiveCatalogue, origin: int
    ) -> None:
        """The keys of a model.

        Args:
          items: The rows of the items that the model has embeddings of.
          config: See `item_keys`.
          catalogue: All items.
          origin: Seconds, a time of the log: times are counted from it, 68 years either way.
        """
        self._items, self._config, self._catalogue = items, config, catalogue
        self._origin = origin
        self._made: _Made | None = None

    def now(self) -> Keys:
        """The keys of all items that were seen until now."""
        catalogue, made = self._catalogue, self._made
        if made is None or made.room != catalogue.room:
            keys = item_keys(with_later_items(self._items, catalogue.room), self._config)
        elif made.changes != catalogue.changes:
            keys = made.keys
        else:
            return made.keys
        keys = keys._replace(known_from=jnp.asarray(self.on_clock(catalogue.known_from_v)))
        self._made = _Made(keys, catalogue.room, catalogue.changes)
        return keys

    def on_clock(self, seconds: np.ndarray) -> np.ndarray:
        """int32, same shape: times on the clock of `Keys.known_from`."""
        never = seconds == np.iinfo(np.int64).max
        since = np.where(never, 0, seconds) - self._origin
        return np.where(never, _LATEST, np.clip(since, _EARLIEST, _LATEST)).astype(np.int32)
