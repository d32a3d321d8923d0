"""The users that recommendations are asked for: ids of the log, tables of events, or states."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from hiertcn_jax.batch import PADDING_ID
from hiertcn_jax.serving.catalogue import Catalogue
from hiertcn_jax.serving.frames import Names, events_by_user
from hiertcn_jax.serving.past import Past
from hiertcn_jax.serving.scorer import Scorer
from hiertcn_jax.serving.stream import USERS
from hiertcn_jax.serving.user_states import Events, UserStates

_STATE_BYTES = 32 << 20
"""Of the states that are made at a time."""


class Part(NamedTuple):
    """Some of the users, as many as are taken together.

    Attributes:
      index_n: Which of them.
      states: Theirs.
      seen: Rows of the items that each picked.
    """

    index_n: np.ndarray
    states: UserStates
    seen: list[np.ndarray]

    @property
    def seen_nk(self) -> np.ndarray:
        """int32. `seen` side by side, filled up to a power of two: few shapes are compiled."""
        most = max((len(one) for one in self.seen), default=0)
        width = 1 << max(most - 1, 0).bit_length()
        filled = np.full((len(self.seen), width), PADDING_ID, np.int32)
        for number, one in enumerate(self.seen):
            filled[number, : len(one)] = one
        return filled


class GivenUsers(NamedTuple):
    """Users with either their events or their states.

    Attributes:
      ids: Raw ids; for states their index.
      events: All events of each; empty for states.
      states: The states, or None.
    """

    ids: list[Any]
    events: list[Events]
    states: UserStates | None

    def parts(self, scorer: Scorer) -> Iterator[Part]:
        """The users in parts of about one size, each of at most as many as a batch has."""
        if self.states is not None:
            for index_n in _even_parts(len(self.ids), USERS[-1]):
                states = self.states.take(index_n)
                yield Part(index_n, states, list(states.own_nm))
            return
        for index_n in _even_parts(len(self.ids), _followed_at_once(scorer)):
            chosen = [self.events[user] for user in index_n]
            states = scorer.observe(scorer.start(len(index_n)), chosen)
            for part_n in _even_parts(len(index_n), USERS[-1]):
                seen = [chosen[user].item_rows for user in part_n]
                yield Part(index_n[part_n], states.take(part_n), seen)


def _even_parts(number: int, most: int) -> list[np.ndarray]:
    """The numbers from 0 on, in parts of nearly one size: few shapes are compiled."""
    return np.array_split(np.arange(number), -(-number // most)) if number else []


def _followed_at_once(scorer: Scorer) -> int:
    """Users whose events are read together: many, so that rows are full, if states are small."""
    arrays = scorer.start().arrays
    grows = any(not array.size for array in arrays)
    most = 1 if grows else _STATE_BYTES // sum(array.nbytes for array in arrays)
    return max(most, USERS[-1])


def given_users(users: Any, past: Past, catalogue: Catalogue, names: Names) -> GivenUsers:
    """What `Recommender.recommend` is given.

    Raises:
      ValueError: A user is not known, or a table is none of events.
    """
    if isinstance(users, GivenUsers):
        return users
    if isinstance(users, UserStates):
        return GivenUsers(list(range(users.users)), [], users)
    if isinstance(users, str | int | np.integer):
        users = [users]
    if not isinstance(users, list | tuple | range | np.ndarray | pl.Series):
        found = events_by_user(users, names)
        events = [Events(catalogue.encode(one.item_ids), one.times) for one in found.values()]
        return GivenUsers(list(found), events, None)
    ids = users.tolist() if isinstance(users, np.ndarray) else list(users)
    known = past.events_of(ids)
    for user, one in zip(ids, known, strict=True):
        if one is None:
            raise ValueError(
                f"users={user!r}: is not in the log; give a new user's events as a data frame"
            )
    return GivenUsers(ids, [one for one in known if one is not None], None)


def one_each(values: Any, users: int, field: str) -> list[Any]:
    """A value for each user: one for all, or as many as there are.

    Raises:
      ValueError: There are others.
    """
    if isinstance(values, str) or not isinstance(values, Iterable):
        return [values] * users
    listed = list(values)
    if len(listed) != users:
        raise ValueError(f"{field}: {len(listed)} values for {users} users")
    return listed
