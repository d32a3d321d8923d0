"""Takes the scores of a model apart; `parts` says what their parts are."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from hiertcn_jax.batch import NextEvent
from hiertcn_jax.memory.config import SIZES
from hiertcn_jax.memory.memory import Memory
from hiertcn_jax.scoring.scores import Keys, Queries, candidate_scores
from hiertcn_jax.serving.parts import Parts, alone, at_items, most_followed, parts_of, sum_of
from hiertcn_jax.serving.stream import Stream
from hiertcn_jax.serving.user_states import UserStates


class _AtRows(NamedTuple):
    """[n, k] <u, e> + b; [n, k, w] what each feature gives; [n, k] the small network or None."""

    scores_nk: np.ndarray
    each_nkw: np.ndarray | None
    network_nk: np.ndarray | None


class Explainer:
    """Takes the scores of a model apart."""

    def __init__(self, stream: Stream, keys: Callable[[], Keys], kinds: tuple[str, ...]) -> None:
        """A model over users' states.

        Args:
          stream: The model.
          keys: Gives what items are scored with now, all rows of the table.
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
        if at_rows.each_nkw is None:
            return Parts({"hierarchy": at_rows.scores_nk})
        followed_nk = None
        if "followers" in self._kinds:
            followed_nk = self._followed(states, time_n, memory, rows_nk)
        return parts_of(
            at_rows.scores_nk, at_rows.each_nkw, at_rows.network_nk, followed_nk, self._kinds
        )

    def _followed(
        self, states: UserStates, time_n: np.ndarray, memory: Memory | None, rows_nk: np.ndarray
    ) -> np.ndarray:
        """Which of the user's last items gives most, if its followers alone counted."""
        given_nk = []
        for source in range(SIZES.sources):
            each_nkw = self._at_rows(alone(states, source), time_n, memory, rows_nk).each_nkw
            assert each_nkw is not None
            given_nk.append(sum_of("followers", each_nkw, self._kinds))
        return most_followed(np.stack(given_nk, -1), states.own_nm)

    def _at_rows(
        self, states: UserStates, time_n: np.ndarray, memory: Memory | None, rows_nk: np.ndarray
    ) -> _AtRows:
        users = states.users
        event, carry, rows = self._stream.filled_up(states, time_n, memory, None, rows_nk)
        params = self._stream.params
        scores, apart = jax.tree.map(
            np.asarray, self._steps(params, self._keys(), event, carry, rows)
        )
        if apart is None:
            return _AtRows(scores[:users], None, None)
        ids_nm = np.asarray(event.memory_ids_bk)[:users]
        network_nk = None
        if apart.network is not None:
            network_nk = at_items(apart.network[:users], ids_nm, rows_nk)
        return _AtRows(scores[:users], at_items(apart.each[:users], ids_nm, rows_nk), network_nk)

    def _ask(
        self, params: dict[str, Any], keys: Keys, event: NextEvent, carry: Any, rows: Any
    ) -> tuple[Any, Any]:
        model, variables = self._stream.model, {"params": params["model"]}
        u_bd = model.apply(variables, event, carry, method="predict")
        additions = model.apply(variables, event, u_bd, apart=True, method="next_additions")
        scores = candidate_scores(Queries(u_bd), keys, rows)
        return scores, None if additions is None else additions.values
