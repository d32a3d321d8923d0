"""Rolling popularity: scores items by how often everyone picked them just before the event."""

from collections.abc import Iterable

import numpy as np

from hiertcn_jax.baselines import Context, FittedHistory
from hiertcn_jax.baselines.events import fitted_events
from hiertcn_jax.settings import at_least


class RollingPopularity:
    """Counts of the last `events` fitted events, over all users, strictly before the event's time.

    The recently popular baseline of the news recommendation literature (Ludmann 2017, CLEF
    NewsREEL; Moreira et al. 2018, CHAMELEON). Causal. Of events at the same second, those of
    histories that were fitted later count as later.

    Args:
      rows: `v`, rows of the item table.
      events: Size of the window.

    Raises:
      ValueError: A setting is out of range.
    """

    causal = True

    def __init__(self, rows: int, *, events: int = 1000) -> None:
        at_least(1, events=events)
        self._rows, self._events = rows, events
        self.fit(())

    def fit(self, histories: Iterable[FittedHistory]) -> None:
        """Keeps all events in order of time."""
        events = fitted_events(histories)
        order_n = np.argsort(events.time_n, kind="stable")
        self._item_n, self._time_n = events.item_n[order_n], events.time_n[order_n]

    def score(self, context: Context) -> np.ndarray:
        """The counts of the window that ends at the event's time."""
        end = int(np.searchsorted(self._time_n, context.time, side="left"))
        window = self._item_n[max(end - self._events, 0) : end]
        return np.bincount(window, minlength=self._rows).astype(np.float64)
