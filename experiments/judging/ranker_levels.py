"""Rankers whose counts or neighbours are as up to date as a level says."""

from collections.abc import Iterable, Iterator

import numpy as np

from hiertcn_jax.baselines import Context, FittedHistory, Ranker
from hiertcn_jax.memory.levels import Level, end_of


class RankerAtLevel:
    """A causal ranker that is asked at the time up to which events are known.

    What counts is what it is fitted on: at `live` and `delayed` the histories of all parts. A
    neighbour is a session that ended before that time. What the user did is known at once.

    Args:
      ranker: One that takes nothing of other users from the event's time on.
      level: Not `fitted`, at which rankers are what they are.

    Attributes:
      frozen_at: Seconds. When the clock of `static` stops; None at other levels.
    """

    causal = True

    def __init__(self, ranker: Ranker, level: Level) -> None:
        self._ranker, self._level = ranker, level
        self.frozen_at: int | None = None

    def fit(self, histories: Iterable[FittedHistory]) -> None:
        """Learns from histories; after their last event the clock of `static` stops."""
        last = -1

        def watched() -> Iterator[FittedHistory]:
            nonlocal last
            for history in histories:
                last = max(last, int(history.times_n.max()))
                yield history

        self._ranker.fit(watched())
        if self._level.name == "static":
            self.frozen_at = end_of(last)

    def known_at(self, time: int) -> int:
        """At a time, others' events are known that happened before the result."""
        known = time - self._level.delay
        return known if self.frozen_at is None else min(known, self.frozen_at)

    def score(self, context: Context) -> np.ndarray:
        """The ranker's scores by what is known."""
        return self._ranker.score(context._replace(time=self.known_at(context.time)))
