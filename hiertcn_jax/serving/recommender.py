"""A trained model that recommends: raw ids in, raw ids out.

    rec = hiertcn_jax.load("runs/shop")
    rec.recommend(["u17"], k=10)                       # where the log left this user

    state = rec.start()                                # or a new user, click by click
    state = rec.observe(state, "i42", time=1_700_000_000)
    rec.recommend(state, k=10, at=1_700_000_060)

A state holds what the model needs of a user's past. `observe` returns the next one, and leaves the
old one as it was. What everybody picks now is not in the states but in the Recommender: each
observed event counts for all recommendations after it.
"""

import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl

from hiertcn_jax.batch import FIRST_ITEM_ID, PADDING_ID
from hiertcn_jax.memory.memory import Memory
from hiertcn_jax.scoring.scores import Keys, Queries
from hiertcn_jax.serving.catalogue import Catalogue, known_rows, left_rows
from hiertcn_jax.serving.frames import Names, events_by_user, seconds_of
from hiertcn_jax.serving.past import KnownUsers, Past
from hiertcn_jax.serving.scorer import Scorer, best_rows
from hiertcn_jax.serving.stream import USERS
from hiertcn_jax.serving.user_states import Events, UserStates, from_bytes


class Recommender:
    """A trained model, its catalogue, and the users and counts of its log.

    Attributes:
      model_id: Names the weights; states of other models are refused.
      catalogue: The items that it recommends.
      names: Columns of the tables of events that it takes.
    """

    def __init__(
        self,
        scorer: Scorer,
        catalogue: Catalogue,
        known: KnownUsers,
        model_id: str,
        memory: Memory | None = None,
        names: Names | None = None,
    ) -> None:
        """`hiertcn_jax.load` makes one.

        Args:
          scorer: The model.
          catalogue: See the class.
          known: The users of the log.
          model_id: See the class.
          memory: What everybody did so far, for a model with terms of it. `observe` adds to it.
          names: See the class.
        """
        self.model_id, self.catalogue = model_id, catalogue
        self._scorer, self.names = scorer, names or Names()
        self._past = Past(known, catalogue, scorer.gap_seconds, memory)

    def start(self, users: int = 1) -> UserStates:
        """The state of new users, without any event."""
        return self._scorer.start(users)

    def observe(
        self,
        states: UserStates,
        items: Any,
        time: Any,
        new_session: bool | Sequence[bool] | None = None,
        count: bool = True,
    ) -> UserStates:
        """The states after one event of each user.

        Args:
          states: Before it.
          items: The raw id of what was picked, or one for each user. An item that the catalogue
            does not have is an event like others, but nothing is known of it.
          time: When: seconds since the epoch or a datetime, or one for each user. A time before the
            user's newest event counts as the time of that.
          new_session: Whether it starts a session. None: if the pause is longer than the gap that
            ended sessions in training.
          count: Whether it counts for what all users pick (models with memory). False for an event
            that the log has already.

        Raises:
          ValueError: There are not as many items or times as users, or a time is none.
        """
        users = states.users
        item_n = self.catalogue.encode(_each(items, users, "items"))
        time_n = seconds_of(_each(time, users, "time"))
        starts_n = None
        if new_session is not None:
            starts_n = np.asarray(_each(new_session, users, "new_session"), bool)
        after = self._scorer.observe(
            states,
            [
                Events(
                    item_n[user : user + 1],
                    time_n[user : user + 1],
                    None if starts_n is None else starts_n[user : user + 1],
                )
                for user in range(users)
            ],
        )
        if count:
            self._past.count(states, after, item_n)
        return after

    def add(self, events: Any) -> None:
        """Takes in what happened since the log ended: users' events, and counts for everybody.

        Args:
          events: A data frame (columns user_id, item_id, time) with users of the log or new ones.
            A time before the newest event that is known counts as the time of that.

        Raises:
          ValueError: A column is missing, a value is null, or a time is none.
        """
        self._past.add(events_by_user(events, self.names))

    @property
    def new_users(self) -> list[str]:
        """Ids, as text, of users of `add` that the log does not have."""
        return self._past.new_users

    def recommend(
        self,
        users: Any,
        k: int = 20,
        at: Any = None,
        exclude_seen: bool = False,
        exclude: Iterable[Any] = (),
        candidates: Iterable[Any] | None = None,
    ) -> pl.DataFrame:
        """The best items for the next event of each user.

        Args:
          users: Raw ids of users of the log, whose states are those after all of their events; or
            a data frame of events (columns user_id, item_id, time) of known or new users, who have
            these events alone; or states.
          k: Items for each user; fewer where fewer are left.
          at: When: seconds or a datetime, or one for each user. None: the time of the newest event
            that is known, of anybody.
          exclude_seen: Leave out the items that the user picked: all of them where events are
            known, the last 64 where only a state is.
          exclude: Raw ids of items to leave out for everybody.
          candidates: Raw ids of the items to choose from; None: the whole catalogue.

        Returns:
          user_id (for states: their index), rank (from 1), item_id, score; users in the order in
          which they were given, best items first. Of equal scores the more frequent item is first.

        Raises:
          ValueError: A user or a candidate is not known, k is below 1, or a column is missing.
        """
        if k < 1:
            raise ValueError(f"k={k}: must be >= 1")
        left_v = left_rows(self.catalogue, exclude, candidates)
        ids, events, states = self._resolve(users)
        number = len(ids)
        at_n = np.full(number, self._past.newest, np.int64)
        if at is not None:
            at_n = seconds_of(_each(at, number, "at"), "at")
        width = min(k, self.catalogue.size - FIRST_ITEM_ID)
        rows_nk = np.full((number, width), PADDING_ID, np.int32)
        scores_nk = np.full((number, width), -np.inf, np.float32)
        for part in _batches(number, events):
            if states is None:
                chosen = [events[user] for user in part.tolist()]
                part_states = self._scorer.observe(self._scorer.start(len(part)), chosen)
                seen = [one.item_rows for one in chosen]
            else:
                part_states = states.take(part)
                seen = list(part_states.own_nm)
            seen_nk = _filled(seen) if exclude_seen else None
            rows_nk[part], scores_nk[part] = self._scorer.best(
                part_states, at_n[part], width, self._past.memory, left_v, seen_nk
            )
        return self._table(ids, rows_nk, scores_nk)

    def _table(self, ids: list[Any], rows_nk: np.ndarray, scores_nk: np.ndarray) -> pl.DataFrame:
        """Recommendations as a table; what was left out has a score of -inf."""
        user_m, place_m = np.nonzero((rows_nk >= FIRST_ITEM_ID) & (scores_nk > -np.inf))
        return pl.DataFrame(
            {
                "user_id": pl.Series(ids, strict=False).gather(user_m),
                "rank": pl.Series(place_m + 1, dtype=pl.Int32),
                "item_id": list(self.catalogue.decode(rows_nk[user_m, place_m])),
                "score": scores_nk[user_m, place_m],
            }
        )

    def _resolve(self, users: Any) -> tuple[list[Any], list[Events], UserStates | None]:
        """Ids, and either the events or the states, of what `recommend` is given."""
        if isinstance(users, UserStates):
            return list(range(users.users)), [], users
        if isinstance(users, str | int):
            users = [users]
        if not isinstance(users, list | tuple | np.ndarray | pl.Series):
            found = events_by_user(users, self.names)
            events = [
                Events(self.catalogue.encode(one.item_ids), one.times) for one in found.values()
            ]
            return list(found), events, None
        ids = list(users)
        known = self._past.events_of(ids)
        for user, one in zip(ids, known, strict=True):
            if one is None:
                raise ValueError(
                    f"users={user!r}: is not in the log; give a new user's events as a data frame"
                )
        return ids, [one for one in known if one is not None], None

    def embed(self, users: Any, at: Any = None) -> np.ndarray:
        """float32 [n, d]. The model's prediction for the next event of each user.

        Args:
          users: See `recommend`.
          at: Likewise.
        """
        ids, events, states = self._resolve(users)
        at_n = None if at is None else seconds_of(_each(at, len(ids), "at"), "at")
        if states is None:
            states = self._scorer.observe(self._scorer.start(len(ids)), events)
        time_n = np.full(states.users, self._past.newest, np.int64) if at_n is None else at_n
        parts = [
            self._scorer.predict(states.take(part), time_n[part])
            for part in np.array_split(np.arange(len(ids)), -(-len(ids) // USERS[-1]) or 1)
            if len(part)
        ]
        return np.concatenate(parts)

    def item_embeddings(self) -> tuple[Sequence[Any], np.ndarray]:
        """The raw ids of the catalogue, and float32 [items, d] what the model scores them with."""
        rows = np.arange(FIRST_ITEM_ID, self.catalogue.size)
        return self.catalogue.decode(rows), np.asarray(self._scorer.item_rows[FIRST_ITEM_ID:])

    def similar(self, items: Any, k: int = 20) -> pl.DataFrame:
        """The items whose embeddings point in the most similar direction (cosine), without itself.

        Args:
          items: One raw id or several.
          k: Items for each.

        Returns:
          item_id, rank, similar_id, cosine.

        Raises:
          ValueError: An item is not in the catalogue, or k is below 1.
        """
        if k < 1:
            raise ValueError(f"k={k}: must be >= 1")
        listed = [items] if isinstance(items, str | int) else list(items)
        rows = np.concatenate([known_rows(self.catalogue, [item], "items") for item in listed])
        unit_vd = self._unit_rows
        queries = Queries(unit_vd[rows])
        most = self.catalogue.size - FIRST_ITEM_ID - 1
        if not most:
            return pl.DataFrame(schema={"item_id": pl.String, "rank": pl.Int32})
        found_nk, cosine_nk = best_rows(queries, Keys(unit_vd), min(k, most), rows[:, None])
        number_m, place_m = np.nonzero(found_nk >= FIRST_ITEM_ID)
        return pl.DataFrame(
            {
                "item_id": [listed[number] for number in number_m.tolist()],
                "rank": place_m + 1,
                "similar_id": list(self.catalogue.decode(found_nk[number_m, place_m])),
                "cosine": cosine_nk[number_m, place_m],
            },
            schema_overrides={"rank": pl.Int32, "cosine": pl.Float32},
        )

    @functools.cached_property
    def _unit_rows(self) -> jax.Array:
        rows = self._scorer.item_rows
        return rows / jnp.maximum(jnp.linalg.norm(rows, axis=1, keepdims=True), 1e-12)

    def to_bytes(self, state: UserStates) -> bytes:
        """The state of one user, to be stored.

        Raises:
          ValueError: There are several users.
        """
        return state.to_bytes(self.model_id)

    def from_bytes(self, data: bytes) -> UserStates:
        """The state that `to_bytes` gave.

        Raises:
          ValueError: It is of another model, or damaged.
        """
        return from_bytes(data, self._scorer.start(), self.model_id)


def _filled(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Lists side by side, filled up to a power of two: few shapes are compiled."""
    most = max((len(one) for one in rows), default=0)
    width = 1 << max(most - 1, 0).bit_length()
    filled = np.full((len(rows), width), PADDING_ID, np.int32)
    for number, one in enumerate(rows):
        filled[number, : len(one)] = one
    return filled


def _each(values: Any, users: int, field: str) -> list[Any]:
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


def _batches(number: int, events: Sequence[Events]) -> Iterator[np.ndarray]:
    """Which users are taken together: those with about as many events, since rows are padded."""
    order_n = np.arange(number)
    if events:
        order_n = np.argsort([len(one.item_rows) for one in events], kind="stable")
    for start in range(0, number, USERS[-1]):
        yield order_n[start : start + USERS[-1]]
