"""What a score is the sum of.

    score = hierarchy + world + followers + own (+ memory_units)

hierarchy is <u, e> + b, what the network and the item's bias give; the others are the sums of
memory's features of each kind times their weights at this moment. The small network on counts that
`memory_units` adds reads all features at once and cannot be divided among them: it is a part of its
own. An item that is not on the event's list has nothing from memory.
"""

from typing import Any, NamedTuple

import jax
import numpy as np

from hiertcn_jax.batch import PADDING_ID, UNKNOWN_ID, NextEvent
from hiertcn_jax.memory.config import SIZES, STARTING, WORLD_HALF_LIVES
from hiertcn_jax.memory.memory import Memory
from hiertcn_jax.memory.terms import COLUMNS, columns_of
from hiertcn_jax.scoring.scores import Keys, Queries, candidate_scores
from hiertcn_jax.serving.stream import Stream
from hiertcn_jax.serving.user_states import UserStates


class Parts(NamedTuple):
    """The parts of the scores of k items for each of n users.

    Attributes:
      values: float32 [n, k] by name, in the order of the sum; those that the model has.
      half_life_hours_nk: float32. The half-life of world's counts that adds or takes most; NaN
        where nothing of world is known. None without world.
      followed_nk: int32. Which of the user's last items adds or takes most by its followers;
        PADDING_ID where none does. None without followers.
    """

    values: dict[str, np.ndarray]
    half_life_hours_nk: np.ndarray | None = None
    followed_nk: np.ndarray | None = None


class _AtRows(NamedTuple):
    """[n, k] <u, e> + b; [n, k, w] what each feature gives; [n, k] the small network or None."""

    scores_nk: np.ndarray
    each_nkw: np.ndarray | None
    network_nk: np.ndarray | None


class Explainer:
    """Takes the scores of a model apart."""

    def __init__(self, stream: Stream, keys: Keys, kinds: tuple[str, ...]) -> None:
        """A model over users' states.

        Args:
          stream: The model.
          keys: What items are scored with, all rows of the table.
          kinds: The memories that it has, of `memory.config.KINDS`.
        """
        self._stream, self._keys, self._kinds = stream, keys, kinds
        self._steps = jax.jit(self._ask)

    def __call__(
        self, states: UserStates, time_n: np.ndarray, memory: Memory | None, rows_nk: np.ndarray
    ) -> Parts:
        """The parts of the scores of items.

        Args:
          states: Of at most `stream.USERS[-1]` users.
          time_n: int64. When the events would happen, seconds.
          memory: What everybody did so far, for a model with terms of it.
          rows_nk: int32. Rows of the items.
        """
        at_rows = self._at_rows(states, time_n, memory, rows_nk)
        values = {"hierarchy": at_rows.scores_nk}
        each_nkw, kinds = at_rows.each_nkw, self._kinds
        if each_nkw is None:
            return Parts(values)
        columns = columns_of(kinds)
        for kind in kinds:
            used = [index for index, column in enumerate(columns) if column in COLUMNS[kind]]
            values[kind] = each_nkw[..., used].sum(-1)
        if at_rows.network_nk is not None:
            values["memory_units"] = at_rows.network_nk
        hours_nk = _half_life_hours(each_nkw) if "world" in kinds else None
        followed_nk = None
        if "followers" in kinds:
            used = [index for index, column in enumerate(columns) if column in COLUMNS["followers"]]
            followed_nk = self._followed(states, time_n, memory, rows_nk, used)
        return Parts(values, hours_nk, followed_nk)

    def _followed(
        self,
        states: UserStates,
        time_n: np.ndarray,
        memory: Memory | None,
        rows_nk: np.ndarray,
        used: list[int],
    ) -> np.ndarray:
        """Which of the user's last items gives most, if its followers alone counted."""
        found_nkm = []
        for source in range(SIZES.sources):
            others = (np.arange(states.own_nm.shape[1]) != source) & (states.own_nm != PADDING_ID)
            alone = states._replace(own_nm=np.where(others, UNKNOWN_ID, states.own_nm))
            each_nkw = self._at_rows(alone, time_n, memory, rows_nk).each_nkw
            assert each_nkw is not None
            found_nkm.append(np.abs(each_nkw[..., used].sum(-1)))
        given_nkm = np.stack(found_nkm, -1)
        best_nk = given_nkm.argmax(-1)
        item_nk = np.take_along_axis(states.own_nm, best_nk, 1)
        return np.where(given_nkm.max(-1) > 0, item_nk, PADDING_ID).astype(np.int32)

    def _at_rows(
        self, states: UserStates, time_n: np.ndarray, memory: Memory | None, rows_nk: np.ndarray
    ) -> _AtRows:
        users = states.users
        event, carry, rows = self._stream.filled_up(states, time_n, memory, None, rows_nk)
        params = self._stream.params
        scores, apart = jax.tree.map(
            np.asarray, self._steps(params, self._keys, event, carry, rows)
        )
        if apart is None:
            return _AtRows(scores[:users], None, None)
        ids_nm = np.asarray(event.memory_ids_bk)[:users]
        is_it_nkm = rows_nk[:, :, None] == ids_nm[:, None]
        place_nk, listed_nk = is_it_nkm.argmax(-1), is_it_nkm.any(-1)

        def at_rows(values_nm: np.ndarray) -> np.ndarray:
            taken = values_nm[:users][np.arange(users)[:, None], place_nk]
            return np.where(listed_nk.reshape(listed_nk.shape + (1,) * (taken.ndim - 2)), taken, 0)

        network = None if apart.network is None else at_rows(apart.network)
        return _AtRows(scores[:users], at_rows(apart.each), network)

    def _ask(
        self, params: dict[str, Any], keys: Keys, event: NextEvent, carry: Any, rows: Any
    ) -> tuple[Any, Any]:
        model, variables = self._stream.model, {"params": params["model"]}
        u_bd = model.apply(variables, event, carry, method="predict")
        additions = model.apply(variables, event, u_bd, apart=True, method="next_additions")
        scores = candidate_scores(Queries(u_bd), keys, rows)
        return scores, None if additions is None else additions.values


def _half_life_hours(each_nkw: np.ndarray) -> np.ndarray:
    """Hours [n, k]. World's features come first; those of sessions' starts go with their like."""
    halves = len(WORLD_HALF_LIVES)
    by_half_nkh = each_nkw[..., :halves].copy()
    by_half_nkh[..., list(STARTING)] += each_nkw[..., halves : halves + len(STARTING)]
    hours_h = np.asarray(WORLD_HALF_LIVES, np.float32) / 3600
    hours_nk = hours_h[np.abs(by_half_nkh).argmax(-1)]
    return np.where(by_half_nkh.any(-1), hours_nk, np.nan).astype(np.float32)
