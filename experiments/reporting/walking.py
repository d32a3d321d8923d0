"""Follows users event by event: what a model would have shown before each event, and why.

As in a running service: the counts of memory hold what everybody did strictly before the event, at
any time of the log.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from data_pipelines.histories.record import History
from experiments.service.known_users import session_starts
from hiertcn_jax.batch import FIRST_ITEM_ID
from hiertcn_jax.memory.memory import Memory
from hiertcn_jax.serving.scorer import ModelScorer, Request
from hiertcn_jax.serving.user_states import Events, UserStates, joined

AMONG = 100
"""Best items that are found for each event; a target beyond them has no rank here."""

_AT_ONCE = 64


class Moment(NamedTuple):
    """An event of a user.

    Attributes:
      user: Which of the users.
      event: Which of the user's events.
      session: Its session, by index in the user's history.
      position: Its index in the session.
      time: Seconds.
      gap_hours: Since the session before; 0 in a user's first session.
      row: The row of its item.
    """

    user: int
    event: int
    session: int
    position: int
    time: int
    gap_hours: float
    row: int


class Shown(NamedTuple):
    """What a model would have shown before n events.

    Attributes:
      rows_nk: int32. The best items, best first, k at most AMONG.
      rank_n: int64. The rank of the event's item; 0 if it is not among them.
      parts: float32 [n, k] by name: the parts of the scores.
      half_life_hours_nk: float32. Of what everybody picks; None without such counts.
      followed_nk: int32. The item of the user that others follow; likewise.
    """

    rows_nk: np.ndarray
    rank_n: np.ndarray
    parts: dict[str, np.ndarray]
    half_life_hours_nk: np.ndarray | None
    followed_nk: np.ndarray | None

    @property
    def relative(self) -> dict[str, np.ndarray]:
        """The parts less their means over the k items: what tells an item from the others."""
        return {name: part - part.mean(1, keepdims=True) for name, part in self.parts.items()}


def moments_of(histories: Sequence[History]) -> list[Moment]:
    """All events of users, in order."""
    moments = []
    for user, one in enumerate(histories):
        ends = np.cumsum(one.session_lengths)
        begins = ends - one.session_lengths
        for session, (start, end) in enumerate(zip(begins.tolist(), ends.tolist(), strict=True)):
            gap = max(0, int(one.times[start] - one.times[start - 1])) / 3600 if session else 0.0
            for event in range(start, end):
                at, row = int(one.times[event]), int(one.item_ids[event])
                moments.append(Moment(user, event, session, event - start, at, gap, row))
    return moments


def shown_before(
    scorer: ModelScorer,
    memory: Memory | None,
    histories: Sequence[History],
    moments: Sequence[Moment],
) -> Shown:
    """What a model would have shown before events.

    Args:
      scorer: The model.
      memory: What everybody did, for a model with terms of it.
      histories: Of the users.
      moments: Events of theirs, by user, in order; at least one.
    """
    states = _states_before(scorer, histories, moments)
    time_n = np.array([one.time for one in moments], np.int64)
    items = int(scorer.item_vectors().shape[0]) - FIRST_ITEM_ID
    parts = []
    for start in range(0, len(moments), _AT_ONCE):
        some = np.arange(start, min(start + _AT_ONCE, len(moments)))
        of_some, at = states.take(some), time_n[some]
        rows_nk, _ = scorer.best(Request(of_some, at, min(AMONG, items), memory))
        parts.append((rows_nk, scorer.explain(of_some, at, memory, rows_nk)))
    rows_nk = np.concatenate([rows for rows, _ in parts])
    is_it_nk = rows_nk == np.array([one.row for one in moments])[:, None]

    def whole(name: str) -> np.ndarray | None:
        arrays = [getattr(one, name) for _, one in parts]
        return None if arrays[0] is None else np.concatenate(arrays)

    return Shown(
        rows_nk,
        np.where(is_it_nk.any(1), is_it_nk.argmax(1) + 1, 0),
        {
            name: np.concatenate([one.values[name] for _, one in parts])
            for name in parts[0][1].values
        },
        whole("half_life_hours_nk"),
        whole("followed_nk"),
    )


def _states_before(
    scorer: ModelScorer, histories: Sequence[History], moments: Sequence[Moment]
) -> UserStates:
    """The states before events, in the order of the events."""
    wanted: list[list[int]] = [[] for _ in histories]
    for one in moments:
        wanted[one.user].append(one.event)
    users = [user for user, events in enumerate(wanted) if events]
    states, at, found, order = scorer.start(len(users)), dict.fromkeys(users, 0), [], []
    for number in range(max(len(wanted[user]) for user in users)):
        left = [place for place, user in enumerate(users) if number < len(wanted[user])]
        states, users = states.take(np.array(left)), [users[place] for place in left]
        until = {user: wanted[user][number] for user in users}
        states = scorer.observe(
            states, [_events(histories[user], at[user], until[user]) for user in users]
        )
        at |= until
        found.append(states)
        order += [(user, number) for user in users]
    back = sorted(range(len(order)), key=order.__getitem__)
    return joined(found).take(np.array(back))


def _events(history: History, start: int, end: int) -> Events:
    starts = session_starts(history)
    return Events(history.item_ids[start:end], history.times[start:end], starts[start:end])


def by_session(moments: Sequence[Moment]) -> Iterator[tuple[int, list[int]]]:
    """Each session with the places of its events among the moments of one user."""
    for session in dict.fromkeys(one.session for one in moments):
        yield session, [place for place, one in enumerate(moments) if one.session == session]
