"""A trained model that recommends: raw ids in, raw ids out.

    rec = hiertcn_jax.load("runs/shop")
    rec.recommend(["u17"], k=10)                       # where the log left this user

    state = rec.start()                                # or a new user, click by click
    state = rec.observe(state, "i42", time=1_700_000_000)
    rec.recommend(state, k=10, at=1_700_000_060)

A state holds what the model needs of a user's past. `observe` returns the next one, and leaves the
old one as it was. What everybody picks now is not in the states but in the Recommender: each
observed event counts for all recommendations after it. A live catalogue is there too: it grows by
the items that are observed.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
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
from hiertcn_jax.serving.given_users import GivenUsers, given_users, one_each
from hiertcn_jax.serving.live_catalogue import NEVER, LiveCatalogue
from hiertcn_jax.serving.past import KnownUsers, Past
from hiertcn_jax.serving.scorer import Request, Scorer, best_rows
from hiertcn_jax.serving.tables import ItemColumns, total
from hiertcn_jax.serving.user_states import NOTHING, Events, UserStates, from_bytes


class Recommender:
    """A trained model, its catalogue, and the users and counts of its log.

    Attributes:
      model_id: Names the weights; states of other models are refused.
      catalogue: The items that it recommends.
      names: Columns of the tables of events that it takes.
      items: item_id of the catalogue, title where it is known, and what else `prepare --items`
        gave; None without titles.
    """

    def __init__(
        self,
        scorer: Scorer,
        catalogue: Catalogue,
        known: KnownUsers,
        model_id: str,
        memory: Memory | None = None,
        names: Names | None = None,
        items: pl.DataFrame | None = None,
        judge: Callable[[str], dict[str, Any]] | None = None,
    ) -> None:
        """`hiertcn_jax.load` makes one.

        Args:
          scorer: The model.
          catalogue: See the class.
          known: The users of the log.
          model_id: See the class.
          memory: What everybody did so far, for a model with terms of it. `observe` adds to it.
          names: See the class.
          items: See the class; a row for each item, in their order.
          judge: What `evaluate` does.
        """
        self.model_id, self.catalogue, self.items = model_id, catalogue, items
        self._judge, self._columns = judge, ItemColumns(catalogue, items)
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
            does not have is an event like others, but nothing is known of it; a live catalogue has
            it from then on.
          time: When: seconds since the epoch or a datetime, or one for each user. A time before the
            user's newest event counts as the time of that.
          new_session: Whether it starts a session. None: if the pause is longer than the gap that
            ended sessions in training.
          count: Whether it counts for what all users pick (models with memory). False for an event
            that the log has already.

        Raises:
          ValueError: There are not as many items or times as users, a time is none, or the
            catalogue is live and an id has another type than those of the log.
        """
        users = states.users
        listed = one_each(items, users, "items")
        time_n = seconds_of(one_each(time, users, "time"))
        starts_n = None
        if new_session is not None:
            starts_n = np.asarray(one_each(new_session, users, "new_session"), bool)
        item_n = self._past.enter(listed, time_n)
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

    def all_users(self) -> Iterator[GivenUsers]:
        """All users of the log and of `add`, many at a time, for `recommend` and `embed`."""
        for ids, events in self._past.blocks():
            yield GivenUsers(ids, events, None)

    def recommend(
        self,
        users: Any,
        k: int = 20,
        at: Any = None,
        exclude_seen: bool = False,
        exclude: Iterable[Any] = (),
        candidates: Iterable[Any] | None = None,
        explain: bool = False,
    ) -> pl.DataFrame:
        """The best items for the next event of each user.

        Args:
          users: Raw ids of users of the log, whose states are those after all of their events; or
            a data frame of events (columns user_id, item_id, time) of known or new users, who have
            these events alone; or states; or what `all_users` gives.
          k: Items for each user; fewer where fewer are left.
          at: When: seconds or a datetime, or one for each user. None: the time of the newest event
            that is known, of anybody.
          exclude_seen: Leave out the items that the user picked: all of them where events are
            known, the last 128 where only a state is.
          exclude: Raw ids of items to leave out for everybody.
          candidates: Raw ids of the items to choose from; None: the whole catalogue.
          explain: Also give the parts of each score, as `explain` does.

        Returns:
          user_id (for states: their index), rank (from 1), item_id, title if there are titles,
          score; users in the order in which they were given, best items first. Of equal scores the
          more frequent item is first.

        Raises:
          ValueError: A user or a candidate is not known, k is below 1, or a column is missing.
        """
        if k < 1:
            raise ValueError(f"k={k}: must be >= 1")
        left_v = left_rows(self.catalogue, exclude, candidates)
        scorer, memory = self._scorer, self._past.memory
        given = self._given(users)
        at_n, number = self._times(at, len(given.ids)), len(given.ids)
        width = min(k, self.catalogue.size - FIRST_ITEM_ID)
        rows_nk = np.full((number, width), PADDING_ID, np.int32)
        scores_nk = np.full((number, width), -np.inf, np.float32)
        order, parts = [], []
        for one in given.parts(scorer):
            part_n = at_n[one.index_n]
            seen_nk = one.seen_nk if exclude_seen else None
            found = scorer.best(Request(one.states, part_n, width, memory, left_v, seen_nk))
            rows_nk[one.index_n], scores_nk[one.index_n] = found
            if explain:
                order.append(one.index_n)
                parts.append(scorer.explain(one.states, part_n, memory, found[0]))
        user_m, place_m = np.nonzero((rows_nk >= FIRST_ITEM_ID) & (scores_nk > -np.inf))
        table = {
            "user_id": pl.Series(given.ids, strict=False)[user_m],
            "rank": pl.Series(place_m + 1, dtype=pl.Int32),
            **self._columns(rows_nk[user_m, place_m]),
            "score": pl.Series(scores_nk[user_m, place_m]),
        }
        if parts:
            table |= self._columns.of_parts(parts, np.concatenate(order), user_m, place_m)
        return pl.DataFrame(table)

    def explain(self, users: Any, items: Any, at: Any = None) -> pl.DataFrame:
        """What the scores of items for each user are sums of.

        Args:
          users: See `recommend`.
          items: One raw id or several.
          at: See `recommend`.

        Returns:
          user_id, item_id, title if there are titles, score, and its parts: hierarchy (what the
          network and the item's bias give), world, followers and own (what memory gives, if the
          model has it), memory_units (the small network on memory's counts, if the model has it: it
          reads all counts at once, so it is a part of its own). The parts sum to the score. With
          world also world_half_life_hours, the half-life whose counts add or take most; with
          followers also followers_of, the item of the user whose followers do.

        Raises:
          ValueError: There are no users, a user or an item is not known, or the model's score has
            no parts.
        """
        listed = _one_or_several(items)
        given = self._given(users)
        if not given.ids or not listed:
            raise ValueError(f"{'items' if given.ids else 'users'}: are none")
        at_n = self._times(at, len(given.ids))
        rows_k = self._rows_of(listed)
        order, parts = [], []
        for one in given.parts(self._scorer):
            rows_nk = np.broadcast_to(rows_k, (len(one.index_n), len(rows_k)))
            order.append(one.index_n)
            parts.append(
                self._scorer.explain(one.states, at_n[one.index_n], self._past.memory, rows_nk)
            )
        index_n = np.concatenate(order)
        user_m, place_m = np.indices((len(given.ids), len(rows_k))).reshape(2, -1)
        return pl.DataFrame(
            {
                "user_id": pl.Series(given.ids, strict=False)[user_m],
                **self._columns(rows_k[place_m]),
                "score": total(parts, index_n)[user_m, place_m],
                **self._columns.of_parts(parts, index_n, user_m, place_m),
            }
        )

    def evaluate(self, split: str = "test") -> dict[str, Any]:
        """The ranks of all events of a part of the log, as `hiertcn evaluate` computes them.

        Args:
          split: test or valid.

        Returns:
          What the command writes to test.json: metrics by all, first, next, and by user. Counts are
          those of the fitted part before each event; what `observe` and `add` took in has no
          effect.

        Raises:
          ValueError: There is no such part, or this is an export, which has no log.
        """
        if split not in ("test", "valid"):
            raise ValueError(f"split={split!r}: must be test or valid")
        if self._judge is None:
            raise ValueError(
                f"split={split!r}: an export has no log to evaluate on; load the run's workdir"
            )
        return self._judge(split)

    def _rows_of(self, items: Sequence[Any]) -> np.ndarray:
        """int32. Rows of items, in their order."""
        for item in items:
            known_rows(self.catalogue, [item], "items")
        return self.catalogue.encode(items)

    def _given(self, users: Any) -> GivenUsers:
        return given_users(users, self._past, self.catalogue, self.names)

    def _times(self, at: Any, users: int) -> np.ndarray:
        """int64 [n]. When recommendations are for, seconds."""
        if at is None:
            return np.full(users, self._past.newest, np.int64)
        return seconds_of(one_each(at, users, "at"), "at")

    def embed(self, users: Any, at: Any = None) -> np.ndarray:
        """float32 [n, d]. The model's prediction for the next event of each user.

        Args:
          users: See `recommend`.
          at: Likewise.
        """
        given = self._given(users)
        at_n = self._times(at, len(given.ids))
        vectors_nd = np.zeros((len(given.ids), self._scorer.item_vectors().shape[1]), np.float32)
        for one in given.parts(self._scorer):
            vectors_nd[one.index_n] = self._scorer.predict(one.states, at_n[one.index_n])
        return vectors_nd

    def item_embeddings(self) -> tuple[Sequence[Any], np.ndarray]:
        """The raw ids of the catalogue, and float32 [items, d] what the model scores them with.

        Without the items of a live catalogue that the model has no embeddings of.
        """
        vectors_vd = np.asarray(self._scorer.item_vectors())
        rows = np.arange(FIRST_ITEM_ID, len(vectors_vd))
        return self.catalogue.decode(rows), vectors_vd[FIRST_ITEM_ID:]

    def similar(self, items: Any, k: int = 20) -> pl.DataFrame:
        """The items whose embeddings point in the most similar direction (cosine), without itself.

        Args:
          items: One raw id or several.
          k: Items for each.

        Returns:
          item_id, rank, similar_id, similar_title if there are titles, cosine.

        Raises:
          ValueError: An item is not in the catalogue or has no embedding yet, or k is below 1.
        """
        if k < 1:
            raise ValueError(f"k={k}: must be >= 1")
        listed = _one_or_several(items)
        rows, unit_vd = self._rows_of(listed), self._unit_rows
        for item, row in zip(listed, rows.tolist(), strict=True):
            if row >= len(unit_vd):
                raise ValueError(f"items={item!r}: came after training, and has no embedding yet")
        queries = Queries(unit_vd[rows])
        most = len(unit_vd) - FIRST_ITEM_ID - 1
        if not most:
            return pl.DataFrame(schema={"item_id": pl.String, "rank": pl.Int32})
        found_nk, cosine_nk = best_rows(queries, Keys(unit_vd), min(k, most), rows[:, None])
        number_m, place_m = np.nonzero(found_nk >= FIRST_ITEM_ID)
        return pl.DataFrame(
            {
                **self._columns(rows[number_m]),
                "rank": pl.Series(place_m + 1, dtype=pl.Int32),
                **self._columns(found_nk[number_m, place_m], "similar_id"),
                "cosine": cosine_nk[number_m, place_m],
            }
        )

    @functools.cached_property
    def _unit_rows(self) -> jax.Array:
        rows = self._scorer.item_vectors()
        return rows / jnp.maximum(jnp.linalg.norm(rows, axis=1, keepdims=True), 1e-12)

    def to_bytes(self, state: UserStates) -> bytes:
        """The state of one user, to be stored.

        Raises:
          ValueError: There are several users.
        """
        live = self.catalogue if isinstance(self.catalogue, LiveCatalogue) else None
        return state.to_bytes(self.model_id, live.later_ids(state.own_nm) if live else NOTHING)

    def from_bytes(self, data: bytes) -> UserStates:
        """The state that `to_bytes` gave.

        Raises:
          ValueError: It is of another model, or damaged.
        """
        rows_of = None
        if isinstance(self.catalogue, LiveCatalogue):

            def rows_of(ids: list[Any]) -> np.ndarray:
                return self._past.enter(ids, np.full(len(ids), NEVER))

        size = self.catalogue.size
        return from_bytes(data, self._scorer.start(), self.model_id, size, rows_of)


def _one_or_several(items: Any) -> list[Any]:
    return [items] if isinstance(items, str | int | np.integer) else list(items)
