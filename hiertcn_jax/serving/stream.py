"""A model that follows users event by event: states in, states out.

The same functions as in training and evaluation, on batches of fixed shapes: as many users as come
are filled up to the next of a few sizes, and a longer history is read in several rows. Each shape
compiles once.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from hiertcn_jax.batch import Batch, NextEvent
from hiertcn_jax.devices.mesh import DATA, Layout, place_batch, place_lanes
from hiertcn_jax.memory.clock import clock
from hiertcn_jax.memory.memory import Memory
from hiertcn_jax.models import Model
from hiertcn_jax.models.state_steps import make_state_steps
from hiertcn_jax.scoring.scores import Queries
from hiertcn_jax.serving.event_rows import EventRows, event_rows, memory_lists, next_event, padded
from hiertcn_jax.serving.user_states import Events, UserStates, fresh_states, joined

USERS = (1, 8, 64, 256)
"""Users of a batch; more are taken in turns."""
EVENTS = (1, 8, 32, 128)
"""Events of a row; more are taken in turns."""


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
    ) -> None:
        """A model with its weights.

        Args:
          model: See the class.
          params: Likewise.
          gap_seconds: Likewise.
          layout: Where the parameters are, if several devices share the users.
        """
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
        said = {one.starts is not None for one in events}
        if len(said) > 1:
            raise ValueError("events: either all or none say where sessions start")
        parts = [
            self._observe(states.take(part), [events[user] for user in part])
            for part in _parts(states.users, USERS[-1])
        ]
        return joined(parts) if parts else states

    def _observe(self, states: UserStates, events: Sequence[Events]) -> UserStates:
        """`observe` of the users of one batch."""
        users, size = states.users, self._lanes(states.users)
        states = states.map(lambda array: padded(array, size))
        counts_n = np.zeros(size, np.int64)
        counts_n[:users] = [len(one.item_rows) for one in events]
        done = 0
        while done < counts_n.max(initial=0):
            width = _size(int(counts_n.max()) - done, EVENTS)
            now_n = np.clip(counts_n - done, 0, width)

            def filled(name: str, kind: Any, start: int, width: int = width) -> np.ndarray:
                values_nl = np.zeros((size, width), kind)
                for user, one in enumerate(events):
                    part = getattr(one, name)[start : start + width]
                    values_nl[user, : len(part)] = part
                return values_nl

            said = events[0].starts is not None
            rows, after = event_rows(
                states,
                filled("item_rows", np.int32, done),
                filled("times", np.int64, done),
                now_n,
                self.gap_seconds,
                filled("starts", np.bool_, done) if said else None,
            )
            batch = place_batch(_batch(rows), self._layout)
            carry = self._placed(self._tree(states.carry))
            carry = self._steps.observe(self.params, batch, carry)
            states = after._replace(carry=_arrays(carry))
            done += width
        return states.take(np.arange(users))

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
        event, carry = self.filled_up(states, time_n, memory, starts_n)
        queries = self._steps.ask(self.params, event, carry)
        return jax.tree.map(lambda array: array[:users], queries)

    def predict(self, states: UserStates, time_n: np.ndarray) -> np.ndarray:
        """float32 [n, d]. The predictions for the users' next events; see `ask`."""
        event, carry = self.filled_up(states, time_n, None, None)
        return np.asarray(self._steps.predict(self.params, event, carry))[: states.users]

    def filled_up(
        self,
        states: UserStates,
        time_n: np.ndarray,
        memory: Memory | None,
        starts_n: np.ndarray | None,
        *more: np.ndarray,
    ) -> Any:
        """The users' next events, their carry and `more`, filled up to the users of a batch."""
        size = self._lanes(states.users)
        event = self._next_event(states, time_n, memory, starts_n)
        parts = event, self._tree(states.carry), *more
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


def _batch(rows: EventRows) -> Batch:
    """A batch of rows, a lane each; nothing of it is scored."""
    shape = rows.item_ids_nl.shape
    return Batch(*rows, loss_weight_bl=np.zeros(shape, np.float32), scored_bl=np.zeros(shape, bool))


def _arrays(carry: Any) -> tuple[np.ndarray, ...]:
    return tuple(np.asarray(array) for array in jax.tree.leaves(carry))


def _size(wanted: int, sizes: tuple[int, ...]) -> int:
    """The first size that has room, or the largest."""
    return next((size for size in sizes if size >= wanted), sizes[-1])


def _parts(number: int, most: int) -> list[np.ndarray]:
    return [np.arange(start, min(start + most, number)) for start in range(0, number, most)]
