"""A ranker without a network as a scorer: a user's state is all that the user did.

What a ranker knows of others it learned when it was fitted; `observe` moves only the user's state.
"""

from collections.abc import Sequence
from typing import NoReturn

import numpy as np

from hiertcn_jax.baselines import Context, Ranker
from hiertcn_jax.batch import FIRST_ITEM_ID, PADDING_ID
from hiertcn_jax.scoring.top_items import top_items
from hiertcn_jax.serving.event_rows import end_to_end, follow, next_event
from hiertcn_jax.serving.scorer import Request
from hiertcn_jax.serving.user_states import Events, UserStates, fresh_states

_ROW, _TIME, _STARTS = range(3)
"""What a state's carry, int64 [n, m, 3], holds of each event."""


class RankerScorer:
    """The scorer of a fitted ranker.

    Attributes:
      gap_seconds: See `Scorer`.
    """

    def __init__(
        self,
        name: str,
        ranker: Ranker,
        gap_seconds: float,
        known_from_v: np.ndarray | None = None,
    ) -> None:
        """A fitted ranker.

        Args:
          name: Its name, for errors.
          ranker: The ranker.
          gap_seconds: See the class.
          known_from_v: int64 [v]. Seconds: an item is recommended after this time; None: always.
        """
        self.gap_seconds = gap_seconds
        self._name, self._ranker, self._known_from_v = name, ranker, known_from_v

    def start(self, users: int = 1) -> UserStates:
        """See `Scorer`."""
        return fresh_states([np.zeros((users, 0, 3), np.int64)], users)

    def observe(self, states: UserStates, events: Sequence[Events]) -> UserStates:
        """See `Scorer`."""
        if not events:
            return states
        item_m, time_m, count_n, starts_m = end_to_end(events)
        facts, after = follow(states, item_m, time_m, count_n, self.gap_seconds, starts_m)
        now_m = after.first_time_n.repeat(count_n) + facts.seconds_m
        new_m3 = np.stack([facts.item_m, now_m, facts.position_m == 0], -1)
        joined = np.zeros((len(events), int(after.events_n.max(initial=0)), 3), np.int64)
        parts = np.split(new_m3, np.cumsum(count_n)[:-1])
        for user, (before, new) in enumerate(zip(states.events_n.tolist(), parts, strict=True)):
            joined[user, :before] = states.carry[0][user, :before]
            joined[user, before : before + len(new)] = new
        return after._replace(carry=(joined,))

    def best(self, request: Request) -> tuple[np.ndarray, np.ndarray]:
        """See `Scorer`."""
        states, time_n, k, _, left_v, seen_nk = request
        rows_nk = np.full((states.users, k), PADDING_ID, np.int32)
        scores_nk = np.full((states.users, k), -np.inf, np.float32)
        out_k = np.zeros(0, np.int64) if left_v is None else np.flatnonzero(~left_v)
        starts_n = next_event(states, time_n, self.gap_seconds).position_n == 0
        for user in range(states.users):
            context = _context(states, user, int(time_n[user]), bool(starts_n[user]))
            scores_v = self._ranker.score(context)
            if np.isnan(scores_v[FIRST_ITEM_ID:]).any():
                raise ValueError(f"{self._name}: a score is NaN")
            seen_k = out_k if seen_nk is None else np.concatenate([out_k, seen_nk[user]])
            if self._known_from_v is not None:
                unknown_k = np.flatnonzero(self._known_from_v >= context.time)
                seen_k = np.concatenate([seen_k, unknown_k])
            found = top_items(scores_v, k, seen_k)
            rows_nk[user, : len(found)] = found
            scores_nk[user, : len(found)] = scores_v[found]
        return rows_nk, scores_nk

    def explain(self, *_: object) -> NoReturn:
        """Raises a ValueError: its scores have no parts."""
        raise ValueError(f"explain: scores of {self._name} are no sums of parts")

    def predict(self, *_: object) -> NoReturn:
        """Raises a ValueError: it has no vectors."""
        raise ValueError(f"{self._name}: a ranker has no embeddings of users and items")

    def item_vectors(self) -> NoReturn:
        """Raises a ValueError: it has no vectors."""
        raise ValueError(f"{self._name}: a ranker has no embeddings of users and items")


def _context(states: UserStates, user: int, time: int, starts: bool) -> Context:
    """What is known of a user before the next event."""
    told = states.carry[0][user, : states.events_n[user]]
    start_m = np.flatnonzero(told[:, _STARTS])
    if starts:
        start_m = np.append(start_m, len(told))
    sessions = len(start_m)
    return Context(
        told[:, _ROW].astype(np.int32),
        told[:, _TIME],
        previous_start=int(start_m[max(sessions - 2, 0)]),
        session_start=int(start_m[-1]),
        time=max(time, int(states.last_time_n[user])),
    )
