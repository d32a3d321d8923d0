"""A model that follows users event by event: states in, states out.

The same functions as in training and evaluation, on batches of fixed shapes: as many users as come
are filled up to the next of a few sizes, and a longer history is read in several rows, which touch
at most half as many sessions as they have places for events. Each shape compiles once.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from hiertcn_jax.batch import Batch, NextEvent
from hiertcn_jax.devices.mesh import DATA, Layout, place_batch, place_lanes
from hiertcn_jax.item_ids import UNKNOWN_ID
from hiertcn_jax.memory.clock import clock
from hiertcn_jax.memory.memory import Memory
from hiertcn_jax.models import Model
from hiertcn_jax.models.state_steps import make_state_steps
from hiertcn_jax.scoring.scores import Queries
from hiertcn_jax.serving.event_rows import (
    EventFacts,
    EventRows,
    end_to_end,
    event_rows,
    follow,
    memory_lists,
    next_event,
    padded,
)
from hiertcn_jax.serving.user_states import Events, UserStates, fresh_states

USERS = (1, 8, 64, 256)
"""Users of a batch; more are taken in turns."""
EVENTS = (8, 32, 128)
"""Events of a row, unless all users have one; more are taken in turns."""
_SLOTS_MOST = 8192
"""Slots for events in the segments of a batch."""
_ROW_COST = 100
"""What a batch costs besides, in places for events."""


class Stream:
    """The states of users, as a model makes them.

    Attributes:
      gap_seconds: A pause longer than this ends a session.
      model: The model.
      params: Its parameters; `items` holds the rows of the whole table, given ones too.
    """

    def __init__(
        self,
        model: Model,
        params: dict[str, Any],
        gap_seconds: float,
        layout: Layout | None = None,
        model_rows: int | None = None,
    ) -> None:
        """A model with its weights.

        Args:
          model: See the class.
          params: Likewise.
          gap_seconds: Likewise.
          layout: Where the parameters are, if several devices share the users.
          model_rows: The model reads rows from this one on as the unknown item: items that were
            seen after it was trained. None: there are none.
        """
        self._model_rows = model_rows
        self.gap_seconds, self.model, self.params = gap_seconds, model, params
        self._layout = layout
        self._steps = make_state_steps(model, layout)
        self._carry = jax.tree.structure(jax.eval_shape(lambda: model.init_carry(1)))

    @functools.cached_property
    def _fresh(self) -> UserStates:
        return fresh_states(_arrays(self.model.init_carry(1)), 1)

    def start(self, users: int = 1) -> UserStates:
        """The states of users without any event."""
        return self._fresh.take(np.zeros(users, np.int64))

    def observe(self, states: UserStates, events: Sequence[Events]) -> UserStates:
        """The states after events of each user, any number of them.

        Raises:
          ValueError: There are not as many users as states, or some say where sessions start and
            others do not.
        """
        if len(events) != states.users:
            raise ValueError(f"events: of {len(events)} users, but there are {states.users} states")
        if not events:
            return states
        item_m, time_m, count_n, starts_m = end_to_end(events)
        facts, after = follow(states, item_m, time_m, count_n, self.gap_seconds, starts_m)
        if self._model_rows is not None:
            read_m = np.where(facts.item_m < self._model_rows, facts.item_m, UNKNOWN_ID)
            facts = facts._replace(item_m=read_m)
        return after._replace(carry=self._carry_after(states.carry, facts, count_n))

    def _carry_after(
        self, carry: tuple[np.ndarray, ...], facts: EventFacts, count_n: np.ndarray
    ) -> tuple[np.ndarray, ...]:
        """The users' carry after their events: row after row of those with most events left."""
        arrays = tuple(array.copy() for array in carry)
        end_n = np.cumsum(count_n)
        begin_n = end_n - count_n
        shapes = self._shapes(count_n)
        while (left_n := end_n - begin_n).any():
            user_k, (lanes, events) = _next_rows(left_n, shapes)
            lane_b = np.resize(user_k, lanes)
            end_b = np.where(np.arange(lanes) < len(user_k), end_n[lane_b], begin_n[lane_b])
            sessions = max(1, events // 2)
            rows, taken_b = event_rows(facts, begin_n[lane_b], end_b, events, sessions)
            before = self._placed(self._tree(tuple(array[lane_b] for array in arrays)))
            batch = place_batch(_batch(rows), self._layout)
            after = jax.tree.leaves(self._steps.observe(self.params, batch, before))
            for array, new in zip(arrays, after, strict=True):
                array[user_k] = np.asarray(new)[: len(user_k)]
            begin_n[user_k] += taken_b[: len(user_k)]
        return arrays

    def _shapes(self, count_n: np.ndarray) -> list[tuple[int, int]]:
        """Lanes and events of the batches that may be chosen; few, for each compiles."""
        lanes = self._lanes(len(count_n))
        if count_n.max(initial=0) <= 1:
            return [(lanes, 1)]
        shapes = [(lanes, events) for events in EVENTS if lanes * events <= _SLOTS_MOST]
        # In the end a few users with long histories are left.
        narrow = self._lanes(lanes // 4)
        return [*shapes, (narrow, EVENTS[1])] if lanes == USERS[-1] else shapes

    def ask(
        self,
        states: UserStates,
        time_n: np.ndarray,
        memory: Memory | None = None,
        starts_n: np.ndarray | None = None,
    ) -> Queries:
        """The queries for the users' next events.

        Args:
          states: Of n users, as many as a batch has at most.
          time_n: int64. When the events would happen, seconds.
          memory: What everybody did so far, for a model with terms of it.
          starts_n: bool. Whether each starts a session, if the caller knows.

        Raises:
          ValueError: There are too many users, or the model needs a memory and has none.
        """
        users = states.users
        if not 0 < users <= USERS[-1]:
            raise ValueError(f"states: {users} users, must be 1 to {USERS[-1]} at a time")
        event, carry, _ = self.filled_up(states, time_n, memory, starts_n)
        queries = self._steps.ask(self.params, event, carry)
        return jax.tree.map(lambda array: array[:users], queries)

    def predict(self, states: UserStates, time_n: np.ndarray) -> np.ndarray:
        """float32 [n, d]. The predictions for the users' next events; see `ask`."""
        event, carry, _ = self.filled_up(states, time_n, None, None)
        return np.asarray(self._steps.predict(self.params, event, carry))[: states.users]

    def filled_up(
        self,
        states: UserStates,
        time_n: np.ndarray,
        memory: Memory | None,
        starts_n: np.ndarray | None,
        more: Any = None,
    ) -> Any:
        """The users' next events, their carry and the arrays of `more`, filled up to a batch."""
        size = self._lanes(states.users)
        event = self._next_event(states, time_n, memory, starts_n)
        parts = event, self._tree(states.carry), more
        return self._placed(jax.tree.map(lambda array: padded(array, size), parts))

    def _lanes(self, users: int) -> int:
        """Users of the batch that so many are filled up to: the devices share them evenly."""
        size = _size(users, USERS)
        devices = 1 if self._layout is None else self._layout.mesh.shape[DATA]
        return -(-size // devices) * devices

    def _placed(self, tree: Any) -> Any:
        return place_lanes(tree, self._layout)

    def _tree(self, carry: tuple[np.ndarray, ...]) -> Any:
        """The carry as the model has it."""
        return jax.tree.unflatten(self._carry, carry)

    def _next_event(
        self,
        states: UserStates,
        time_n: np.ndarray,
        memory: Memory | None,
        starts_n: np.ndarray | None,
    ) -> NextEvent:
        moments = next_event(states, time_n, self.gap_seconds, starts_n)
        if memory is None:
            return NextEvent(*moments)
        time_n = np.maximum(time_n, states.last_time_n)
        lists = memory_lists(states, time_n, moments.position_n, memory)
        return NextEvent(*moments, lists.item_ids_nk, lists.features_nkf, clock(time_n))


def _next_rows(
    left_n: np.ndarray, shapes: Sequence[tuple[int, int]]
) -> tuple[np.ndarray, tuple[int, int]]:
    """Which users have events in the next batch, and which of the shapes it has.

    Those with most events left come first, so that all end at about the same time.
    """
    user_k = np.flatnonzero(left_n)
    if len(user_k) > shapes[-1][0]:
        user_k = user_k[np.argsort(-left_n[user_k], kind="stable")]
    left_k = left_n[user_k]

    def useful(shape: tuple[int, int]) -> float:
        lanes, events = shape
        return np.minimum(left_k[:lanes], events).sum() / (lanes * events + _ROW_COST)

    shape = max(shapes, key=useful)
    return user_k[: shape[0]], shape


def _batch(rows: EventRows) -> Batch:
    """A batch of rows, a lane each; nothing of it is scored."""
    shape = rows.item_ids_nl.shape
    return Batch(*rows, loss_weight_bl=np.zeros(shape, np.float32), scored_bl=np.zeros(shape, bool))


def _arrays(carry: Any) -> tuple[np.ndarray, ...]:
    return tuple(np.asarray(array) for array in jax.tree.leaves(carry))


def _size(wanted: int, sizes: tuple[int, ...]) -> int:
    """The first size that has room, or the largest."""
    return next((size for size in sizes if size >= wanted), sizes[-1])
