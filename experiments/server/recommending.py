"""The best items for users and visitors, one batch of questions at a time."""

import itertools
from collections.abc import Sequence

import numpy as np

from experiments.server.batches import by_candidates, filled, session_starts, taken, with_states
from experiments.server.counts import Counts
from experiments.server.explaining import Explaining
from experiments.server.requests import Answer, Ask
from experiments.server.users import Found, Users
from hiertcn_jax.exported.onnx_stream import OnnxStream
from hiertcn_jax.exported.reading import Export
from hiertcn_jax.item_ids import FIRST_ITEM_ID
from hiertcn_jax.serving.user_states import UserStates, joined


class Recommending:
    """Finds the best items of an export's model."""

    def __init__(
        self, export: Export, stream: OnnxStream, users: Users, explain: Explaining
    ) -> None:
        """See the class.

        Args:
          export: The model's.
          stream: The model.
          users: Knows what users picked.
          explain: Says what scores are the sum of.
        """
        self._export, self._stream, self._users = export, stream, users
        self._explain = explain

    def __call__(
        self, asks: Sequence[Ask], ids: Sequence[str], found: Found, counts: Counts, now: int
    ) -> list[Answer]:
        """The best items for each. A time before `counts.known_from` stands for that one.

        Args:
          asks: One for each user or visitor who wants recommendations.
          ids: The users among them, each once.
          found: Their states.
          counts: What everybody did so far.
          now: Seconds.

        Raises:
          StoreError: The store cannot be read.
        """
        user_index_of = {user: user_index for user_index, user in enumerate(ids)}
        states = self._all_states(asks, found.states, user_index_of, now)
        latest = max(now, counts.newest + 1)
        at_n = np.array([latest if one.at is None else one.at for one in asks], np.int64)
        at_n = np.maximum(at_n, counts.known_from)
        excluded = None
        if any(one.exclude or one.exclude_seen for one in asks):
            excluded = [self._excluded(one) for one in asks]
        starts_n = None
        if any(one.session is not None for one in asks):
            stored_of = dict(zip(ids, found.stored, strict=True))
            running = [stored_of.get(one.user) if one.user else None for one in asks]
            starts_n = session_starts(
                states,
                at_n,
                [one.session for one in asks],
                [None if one is None else one.session for one in running],
                self._stream.gap_seconds,
            )
        answers: list[Answer | None] = [None] * len(asks)
        item_ids = self._export.items.ids
        for number_m in by_candidates(asks):
            best = self._stream.recommend(
                taken(states, number_m),
                at_n[number_m],
                max(asks[number].n for number in number_m),
                counts.memory,
                None if excluded is None else filled([excluded[number] for number in number_m]),
                self._allowed(asks[number_m[0]].candidates),
                None if starts_n is None else starts_n[number_m],
            )
            rows = [[row for row in one if row >= FIRST_ITEM_ID] for one in best.rows_nk.tolist()]
            scores = best.scores_nk.tolist()
            for index, number in enumerate(number_m.tolist()):
                one, chosen = asks[number], rows[index][: asks[number].n]
                items = [
                    (item_ids[row - FIRST_ITEM_ID], score)
                    for row, score in zip(chosen, scores[index], strict=False)
                ]
                known = (
                    bool(one.picks) if one.user is None else found.known[user_index_of[one.user]]
                )
                user = None if one.user is None else self._users.raw_id(one.user)
                parts = None
                if one.explain:
                    state = states.take(np.array([number]))
                    rows_k = np.array(chosen, np.int32)
                    at, memory = at_n[number], counts.memory
                    parts = self._explain(state, at, memory, rows_k, best.vectors_nd[index])
                answers[number] = Answer(self._export, user, known, items, parts)
        return [one for one in answers if one is not None]

    def _all_states(
        self, asks: Sequence[Ask], states: UserStates, user_index_of: dict[str, int], now: int
    ) -> UserStates:
        """The state of each: of a user as found, of a visitor after the events given."""
        visitors = [one for one in asks if one.user is None]
        if visitors:
            states = joined([states, self._follow(visitors, now)])
        next_visitor = itertools.count(len(user_index_of))
        index = [
            next(next_visitor) if one.user is None else user_index_of[one.user] for one in asks
        ]
        return taken(states, np.array(index, np.int64))

    def _follow(self, visitors: list[Ask], now: int) -> UserStates:
        states = self._stream.start(len(visitors))
        for turn in range(max((len(one.picks) for one in visitors), default=0)):
            part_m = np.array([n for n, one in enumerate(visitors) if len(one.picks) > turn])
            picks = [visitors[number].picks[turn] for number in part_m]
            after = self._stream.observe(
                states.take(part_m),
                self._export.items.encode(item for item, _ in picks),
                [now if when is None else when for _, when in picks],
            )
            states = with_states(states, part_m, after)
        return states

    def _excluded(self, ask: Ask) -> np.ndarray:
        """Rows that an ask leaves out."""
        parts = [self._export.items.encode(ask.exclude)]
        if ask.exclude_seen:
            parts.append(self._export.items.encode(item for item, _ in ask.picks))
            if ask.user is not None:
                kept = self._users.kept(ask.user)
                parts.append(self._export.items.encode(one.item for one in kept))
                logged = self._users.in_log(ask.user)
                if logged is not None:
                    parts.append(logged.item_rows)
        return np.unique(np.concatenate(parts))

    def _allowed(self, candidates: frozenset[str] | None) -> np.ndarray | None:
        if candidates is None:
            return None
        allowed_v = np.zeros(self._export.items.size, bool)
        allowed_v[self._export.items.encode(candidates)] = True
        return allowed_v
