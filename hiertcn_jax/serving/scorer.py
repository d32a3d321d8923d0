"""What a Recommender asks: users' states, and the best items for their next events.

A neural model answers with `ModelScorer`; whatever else follows users event by event can answer
too.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from hiertcn_jax.batch import FIRST_ITEM_ID, NextEvent
from hiertcn_jax.memory.memory import Memory
from hiertcn_jax.models.queries import next_queries
from hiertcn_jax.scoring.scores import Keys, Queries
from hiertcn_jax.scoring.top_k import top_k
from hiertcn_jax.serving.explain import Explainer
from hiertcn_jax.serving.item_index import ItemIndex
from hiertcn_jax.serving.live_keys import LiveKeys
from hiertcn_jax.serving.parts import Parts
from hiertcn_jax.serving.stream import Stream
from hiertcn_jax.serving.user_states import Events, UserStates

_SCORES_AT_ONCE = 1 << 22
_CHUNK = 8192
"""Rows of the item table that are scored at a time, at least."""
_MOST_LEFT_OUT = 1024
"""Items left out for all up to which an index is asked; with more, all items are scored."""


class Request(NamedTuple):
    """Which users want the best items for their next events, and which items they may get.

    Attributes:
      states: Of the users.
      time_n: int64. When the events would happen, seconds.
      k: Items for each user.
      memory: What everybody did so far, for a model with terms of it.
      left_v: bool. Rows that may be recommended; None: all.
      seen_nk: int32. Rows not to recommend to each user; PADDING_ID is none.
    """

    states: UserStates
    time_n: np.ndarray
    k: int
    memory: Memory | None = None
    left_v: np.ndarray | None = None
    seen_nk: np.ndarray | None = None


@runtime_checkable
class Scorer(Protocol):
    """Follows users event by event and finds the best items for them."""

    @property
    def gap_seconds(self) -> float:
        """A pause longer than this ends a session."""
        ...

    def start(self, users: int = 1, /) -> UserStates:
        """The states of users without any event."""
        ...

    def observe(self, states: UserStates, events: Sequence[Events], /) -> UserStates:
        """The states after events of each user, any number of them."""
        ...

    def best(self, request: Request, /) -> tuple[np.ndarray, np.ndarray]:
        """The best items for the next events of at most `stream.USERS[-1]` users.

        Returns:
          int32 [n, k] rows, best first, and float32 [n, k] their scores; PADDING_ID and -inf where
          fewer are left.
        """
        ...

    def explain(
        self,
        states: UserStates,
        time_n: np.ndarray,
        memory: Memory | None,
        rows_nk: np.ndarray,
        /,
    ) -> Parts:
        """The parts of the scores of items.

        Raises:
          ValueError: Scores have no parts.
        """
        ...

    def predict(self, states: UserStates, time_n: np.ndarray, /) -> np.ndarray:
        """float32 [n, d]. The vectors that items are scored with, for the users' next events."""
        ...

    def item_vectors(self) -> Any:
        """float32 [v, d]. The vectors of the items; the last rows may have none."""
        ...


class ModelScorer:
    """The scorer of a neural model and its item table.

    Attributes:
      index: Finds candidates in place of scoring all items; None: all are scored.
    """

    def __init__(
        self,
        stream: Stream,
        keys: Keys,
        kinds: tuple[str, ...] = (),
        index: ItemIndex | None = None,
        live: LiveKeys | None = None,
    ) -> None:
        """A model over users' states.

        Args:
          stream: The model.
          keys: What items are scored with, all rows of the table.
          kinds: The memories that it has, of `memory.config.KINDS`.
          index: Finds candidates in place of scoring all items; None: all are scored.
          live: The keys of a catalogue that grows, in place of `keys`; None: it does not.

        Raises:
          ValueError: There is an index, and the catalogue grows.
        """
        if index is not None and live is not None:
            raise ValueError("index=True: holds the fitted items; not with catalogue=live")
        self._live = live
        self._stream, self._keys, self.index = stream, keys, index
        self.gap_seconds = stream.gap_seconds
        self.start, self.observe, self.predict = stream.start, stream.observe, stream.predict
        self.explain = Explainer(stream, self._keys_now, kinds)
        self._ask = jax.jit(self._best, static_argnums=7)

    def best(self, request: Request) -> tuple[np.ndarray, np.ndarray]:
        """See `Scorer`."""
        if self.index is None:
            return self._exact(request)
        states, time_n, k, memory, left_v, seen_nk = request
        out = np.zeros(0, np.int32)
        if left_v is not None:
            out = np.flatnonzero(~left_v[FIRST_ITEM_ID:]).astype(np.int32) + FIRST_ITEM_ID
        if len(out) > _MOST_LEFT_OUT:
            return self._exact(request)
        out_nk = np.broadcast_to(out, (states.users, len(out)))
        out_nk = out_nk if seen_nk is None else np.concatenate([out_nk, seen_nk], 1)
        queries = self._stream.ask(states, time_n, memory)
        rows_nk, scores_nk, has_k_n = self.index.best(queries, k, out_nk)
        if not has_k_n.all():
            exact = self._exact(request)
            rows_nk = np.where(has_k_n[:, None], rows_nk, exact[0])
            scores_nk = np.where(has_k_n[:, None], scores_nk, exact[1])
        return rows_nk, scores_nk

    def item_vectors(self) -> Any:
        """See `Scorer`."""
        return self._keys.rows

    def _keys_now(self) -> Keys:
        return self._keys if self._live is None else self._live.now()

    def _exact(self, request: Request) -> tuple[np.ndarray, np.ndarray]:
        """Scores all items: one program computes the queries, the scores and the top items."""
        states, time_n, k, memory, left_v, seen_nk = request
        more = {} if seen_nk is None else {"seen_nk": seen_nk}
        if self._live is not None:
            now_n = np.maximum(time_n, states.last_time_n)
            more["time_n1"] = self._live.on_clock(now_n)[:, None]
        event, carry, filled = self._stream.filled_up(states, time_n, memory, None, more)
        keys, seen_nk, time_n1 = self._keys_now(), filled.get("seen_nk"), filled.get("time_n1")
        if left_v is not None:
            left_v = np.pad(left_v, (0, len(keys.rows) - len(left_v)))
        rows_nk, scores_nk = self._ask(
            self._stream.params, keys, event, carry, seen_nk, time_n1, left_v, k
        )
        return np.asarray(rows_nk)[: states.users], np.asarray(scores_nk)[: states.users]

    def _best(
        self,
        params: dict[str, Any],
        keys: Keys,
        event: NextEvent,
        carry: Any,
        seen_nk: Any,
        time_n1: Any,
        left_v: Any,
        k: int,
    ) -> Any:
        queries = next_queries(self._stream.model, params["model"], event, carry)
        queries = queries._replace(time=time_n1)
        if left_v is not None:
            bias = 0.0 if keys.bias is None else keys.bias
            keys = keys._replace(bias=jnp.where(left_v, bias, -jnp.inf))
        return _top_k(queries, keys, k, seen_nk)


def best_rows(
    queries: Queries, keys: Keys, k: int, seen_nk: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """`top_k` over the whole table, as numpy; compiled once for each k and each width of lists."""
    rows_nk, scores_nk = _top_k(queries, keys, k, seen_nk)
    return np.asarray(rows_nk), np.asarray(scores_nk)


@functools.partial(jax.jit, static_argnames="k")
def _top_k(queries: Queries, keys: Keys, k: int, seen_nk: Any) -> Any:
    chunk = max(_SCORES_AT_ONCE // len(queries.vectors), _CHUNK)
    return top_k(queries, keys, k, chunk, seen_nk)
