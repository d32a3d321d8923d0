"""Rolling popularity: scores items by how often everyone picked them just before the event."""

from collections.abc import Iterable

import numpy as np

from hiertcn_jax.baselines import Context, FittedHistory
from hiertcn_jax.baselines.events import fitted_events
from hiertcn_jax.settings import above, at_least, one_of

WEIGHTINGS = ("window", "decay")
_BLOCK = 1024
"""Events between two snapshots of the decayed counts, where there are not more rows than that."""
_NEVER = -1100.0
"""Below the logarithm of the least number: an item that was not picked, or too long ago."""


class RollingPopularity:
    """Counts recent fitted events, over all users, strictly before the event's time.

    With `window` the last `events` events count, each once: the recently popular baseline of the
    news recommendation literature (Ludmann 2017, CLEF NewsREEL; Moreira et al. 2018, CHAMELEON).
    With `decay` all count, each with 2^-(age / half_life_hours); scores are then the logarithm to
    base 2 of the sum. Causal. Of events in the same second, those of histories that were fitted
    later are the later ones in a window.

    Args:
      rows: `v`, rows of the item table.
      weighting: "window" or "decay".
      events: Size of the window.
      half_life_hours: Age at which an event counts half.

    Raises:
      ValueError: A setting is out of range.
    """

    causal = True

    def __init__(
        self,
        rows: int,
        *,
        weighting: str = "window",
        events: int = 1000,
        half_life_hours: float = 1.0,
    ) -> None:
        one_of(WEIGHTINGS, weighting=weighting)
        at_least(1, events=events)
        above(0, half_life_hours=half_life_hours)
        self._rows, self._events = rows, events
        self._decays, self._half_life = weighting == "decay", 3600 * half_life_hours
        self.fit(())

    def fit(self, histories: Iterable[FittedHistory]) -> None:
        """Keeps all events in order of time."""
        events = fitted_events(histories)
        order_n = np.argsort(events.time_n, kind="stable")
        self._item_n, self._time_n = events.item_n[order_n], events.time_n[order_n]
        if not self._decays:
            return
        # As many numbers as events, whatever the catalogue.
        self._block = max(_BLOCK, self._rows)
        counts_v, now = np.zeros(self._rows), 0
        self._snapshots = [(counts_v, now)]
        for start in range(0, len(self._item_n) - self._block + 1, self._block):
            end = start + self._block
            counts_v = self._decayed(counts_v, now, int(self._time_n[end - 1]), start, end)
            now = int(self._time_n[end - 1])
            self._snapshots.append((counts_v, now))

    def score(self, context: Context) -> np.ndarray:
        """The counts at the event's time."""
        end = int(np.searchsorted(self._time_n, context.time, side="left"))
        if not self._decays:
            window = self._item_n[max(end - self._events, 0) : end]
            return np.bincount(window, minlength=self._rows).astype(np.float64)
        number = end // self._block
        counts_v, time = self._snapshots[number]
        counts_v = self._decayed(counts_v, time, context.time, number * self._block, end)
        return np.log2(counts_v, out=np.full(self._rows, _NEVER), where=counts_v > 0)

    def _decayed(
        self, counts_v: np.ndarray, time: int, later: int, start: int, end: int
    ) -> np.ndarray:
        """Counts at `later`, from those at `time` and the events start..end - 1."""
        weight_n = np.exp2((self._time_n[start:end] - later) / self._half_life)
        added_v = np.bincount(self._item_n[start:end], weight_n, minlength=self._rows)
        # Nothing was counted yet where the log begins later.
        return counts_v * np.exp2(min(time - later, 0) / self._half_life) + added_v
