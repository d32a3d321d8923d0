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
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl

from hiertcn_jax.batch import FIRST_ITEM_ID, PADDING_ID
from hiertcn_jax.memory.memory import Memory
from hiertcn_jax.scoring.scores import Keys, Queries
from hiertcn_jax.scoring.top_k import top_k
from hiertcn_jax.serving.event_rows import counted_events
from hiertcn_jax.serving.frames import Names, UserEvents, events_by_user, seconds_of
from hiertcn_jax.serving.stream import USERS, Stream
from hiertcn_jax.serving.user_states import Events, UserStates, from_bytes

_CHUNK = 8192
"""Rows of the item table that are scored at a time."""


@runtime_checkable
class Catalogue(Protocol):
    """Raw ids of the items, and their rows in the item table."""

    @property
    def size(self) -> int:
        """`v`, rows of the item table."""
        ...

    def encode(self, item_ids: Iterable[Any], /) -> np.ndarray:
        """int32 [n]. Their rows; UNKNOWN_ID for an id that is not in it."""
        ...

    def decode(self, rows: np.ndarray, /) -> Sequence[Any]:
        """The raw ids of rows, in the type of the log."""
        ...


@runtime_checkable
class KnownUsers(Protocol):
    """The users of the log that a model was trained on."""

    @property
    def newest(self) -> int:
        """Time of the log's newest event, seconds."""
        ...

    def events_of(self, user_ids: Sequence[Any], /) -> list[Events | None]:
        """All events of each user; None for a user that the log does not have."""
        ...


class Recommender:
    """A trained model, its catalogue, and the users and counts of its log.

    Attributes:
      model_id: Names the weights; states of other models are refused.
      catalogue: The items that it recommends.
      names: Columns of the tables of events that it takes.
    """

    def __init__(
        self,
        stream: Stream,
        keys: Keys,
        catalogue: Catalogue,
        known: KnownUsers,
        model_id: str,
        memory: Memory | None = None,
        names: Names | None = None,
    ) -> None:
        """`hiertcn_jax.load` makes one.

        Args:
          stream: The model over users' states.
          keys: What items are scored with, all rows of the table.
          catalogue: See the class.
          known: The users of the log.
          model_id: See the class.
          memory: What everybody did so far, for a model with terms of it. `observe` adds to it.
          names: See the class.
        """
        self.model_id, self.catalogue = model_id, catalogue
        self._stream, self._keys, self._known = stream, keys, known
        self._memory, self.names = memory, names or Names()
        self._newest = known.newest
        self._later: dict[str, Events] = {}

    def start(self, users: int = 1) -> UserStates:
        """The state of new users, without any event."""
        return self._stream.start(users)

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
        after = self._stream.observe(
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
            self._count(states, after, item_n)
        return after

    def _count(self, before: UserStates, after: UserStates, item_n: np.ndarray) -> None:
        """Adds an event of each user to what everybody did. Counted time does not go back."""
        order_n = np.argsort(after.last_time_n, kind="stable")
        time_n = np.maximum(after.last_time_n[order_n], self._newest)
        self._newest = int(time_n[-1]) if len(time_n) else self._newest
        if self._memory is not None:
            self._memory.observe(
                item_n[order_n], time_n, before.own_nm[order_n], after.position_n[order_n] - 1
            )

    def add(self, events: Any) -> None:
        """Takes in what happened since the log ended: users' events, and counts for everybody.

        Args:
          events: A data frame (columns user_id, item_id, time) with users of the log or new ones.
            A time before the newest event that is known counts as the time of that.

        Raises:
          ValueError: A column is missing, a value is null, or a time is none.
        """
        found = events_by_user(events, self.names)
        past = self._events_of(list(found))
        parts = []
        for (user, one), before in zip(found.items(), past, strict=True):
            new = self._events(before, one)
            start = 0 if before is None else len(before.item_rows)
            self._later[str(user)] = new
            parts.append(counted_events(new, start))
        if not parts:
            return
        arrays = [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]
        order_n = np.argsort(arrays[1], kind="stable")
        item_n, time_n, before_nm, position_n = (array[order_n] for array in arrays)
        time_n = np.maximum(time_n, self._newest)
        self._newest = int(time_n[-1])
        if self._memory is not None:
            self._memory.observe(item_n, time_n, before_nm, position_n)

    @property
    def new_users(self) -> list[str]:
        """Ids, as text, of users of `add` that the log does not have."""
        ids = list(self._later)
        logged = self._known.events_of(ids)
        return [user for user, one in zip(ids, logged, strict=True) if one is None]

    def _events(self, before: Events | None, later: UserEvents) -> Events:
        """Events of a user with later ones after them."""
        item_n, time_n = self.catalogue.encode(later.item_ids), later.times
        if before is None:
            before = Events(item_n[:0], time_n[:0], np.zeros(0, bool))
        last = before.times[-1:] if len(before.times) else time_n[:1]
        time_n = np.maximum(time_n, last)
        starts_n = np.diff(time_n, prepend=last) > self._stream.gap_seconds
        starts_n[:1] |= not len(before.times)
        assert before.starts is not None
        return Events(
            np.concatenate([before.item_rows, item_n]),
            np.concatenate([before.times, time_n]),
            np.concatenate([before.starts, starts_n]),
        )

    def _events_of(self, ids: Sequence[Any]) -> list[Events | None]:
        """All events of users, of the log and later ones; None for a user without any."""
        logged = self._known.events_of(ids)
        return [self._later.get(str(user), one) for user, one in zip(ids, logged, strict=True)]

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
        keys = self._keys_of(exclude, candidates)
        ids, events, states = self._resolve(users)
        number = len(ids)
        at_n = np.full(number, self._newest, np.int64)
        if at is not None:
            at_n = seconds_of(_each(at, number, "at"), "at")
        width = min(k, self.catalogue.size - FIRST_ITEM_ID)
        rows_nk = np.full((number, width), PADDING_ID, np.int32)
        scores_nk = np.full((number, width), -np.inf, np.float32)
        for part in _batches(number, events):
            if states is None:
                chosen = [events[user] for user in part.tolist()]
                part_states = self._stream.observe(self._stream.start(len(part)), chosen)
                seen = [one.item_rows for one in chosen]
            else:
                part_states = states.take(part)
                seen = list(part_states.own_nm)
            queries = self._stream.ask(part_states, at_n[part], self._memory)
            seen_nk = _filled(seen) if exclude_seen else None
            rows_nk[part], scores_nk[part] = _best(queries, keys, width, seen_nk)
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
        known = self._events_of(ids)
        for user, one in zip(ids, known, strict=True):
            if one is None:
                raise ValueError(
                    f"users={user!r}: is not in the log; give a new user's events as a data frame"
                )
        return ids, [one for one in known if one is not None], None

    def _keys_of(self, exclude: Iterable[Any], candidates: Iterable[Any] | None) -> Keys:
        """The keys, with a bias of -inf for items that are not to be recommended."""
        excluded = self._known_rows(exclude, "exclude")
        if candidates is None and not len(excluded):
            return self._keys
        left_v = np.full(self.catalogue.size, candidates is None)
        if candidates is not None:
            left_v[self._known_rows(candidates, "candidates")] = True
        left_v[excluded] = False
        bias = 0.0 if self._keys.bias is None else self._keys.bias
        return self._keys._replace(bias=jnp.where(left_v, bias, -jnp.inf))

    def _known_rows(self, item_ids: Iterable[Any], field: str) -> np.ndarray:
        """int32. Rows of items, each once, in order of their rows.

        Raises:
          ValueError: One is not in the catalogue.
        """
        if isinstance(item_ids, str):
            raise ValueError(f"{field}={item_ids!r}: must be several ids, such as a list")
        listed = list(item_ids)
        rows = self.catalogue.encode(listed)
        unknown = np.flatnonzero(rows < FIRST_ITEM_ID)
        if len(unknown):
            raise ValueError(f"{field}={listed[unknown[0]]!r}: is not in the catalogue")
        return np.unique(rows)

    def embed(self, users: Any, at: Any = None) -> np.ndarray:
        """float32 [n, d]. The model's prediction for the next event of each user.

        Args:
          users: See `recommend`.
          at: Likewise.
        """
        ids, events, states = self._resolve(users)
        at_n = None if at is None else seconds_of(_each(at, len(ids), "at"), "at")
        if states is None:
            states = self._stream.observe(self._stream.start(len(ids)), events)
        time_n = np.full(states.users, self._newest, np.int64) if at_n is None else at_n
        parts = [
            self._stream.predict(states.take(part), time_n[part])
            for part in np.array_split(np.arange(len(ids)), -(-len(ids) // USERS[-1]) or 1)
            if len(part)
        ]
        return np.concatenate(parts)

    def item_embeddings(self) -> tuple[Sequence[Any], np.ndarray]:
        """The raw ids of the catalogue, and float32 [items, d] what the model scores them with."""
        rows = np.arange(FIRST_ITEM_ID, self.catalogue.size)
        return self.catalogue.decode(rows), np.asarray(self._keys.rows[FIRST_ITEM_ID:])

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
        rows = np.concatenate([self._known_rows([item], "items") for item in listed])
        unit_vd = self._unit_rows
        queries = Queries(unit_vd[rows])
        most = self.catalogue.size - FIRST_ITEM_ID - 1
        if not most:
            return pl.DataFrame(schema={"item_id": pl.String, "rank": pl.Int32})
        found_nk, cosine_nk = map(
            np.asarray, _best(queries, Keys(unit_vd), min(k, most), rows[:, None])
        )
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
        rows = self._keys.rows
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
        return from_bytes(data, self._stream.start(), self.model_id)


@functools.partial(jax.jit, static_argnames="k")
def _best(queries: Queries, keys: Keys, k: int, seen_nk: Any) -> Any:
    """`top_k`, compiled once for each k and each length of the lists of excluded items."""
    return top_k(queries, keys, k, _CHUNK, seen_nk)


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
