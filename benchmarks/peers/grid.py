"""Makes batches on the padded grid: lanes x sessions x events, including empty slots.

As in the released HierTCN code (`data_loader.py`, github JiaxuanYou/HierTCN): a lane is a queue of
sessions, user after user; a batch takes the next sessions of every lane; a session keeps its first
events and loses the rest.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from benchmarks.peers.events import Events


class Grid(NamedTuple):
    """The shape of a batch; the defaults of the released code.

    Attributes:
      lanes: `b`, users side by side.
      sessions: `s`, sessions of each lane.
      events: `t`, events of each session.
    """

    lanes: int = 32
    sessions: int = 10
    events: int = 20


class GridBatch(NamedTuple):
    """One batch.

    Attributes:
      item_ids_bst: int32. Rows of the item table, 0 after a session's end.
      starts_user_bs: bool. True at a user's first session.
      gap_hours_bs: float32. Hours since the user's previous session, 0 at the first.
    """

    item_ids_bst: np.ndarray
    starts_user_bs: np.ndarray
    gap_hours_bs: np.ndarray


class CutSessions(NamedTuple):
    """All sessions, cut to the grid.

    Attributes:
      item_ids_mt: int32. Each session's first items, 0 after its end.
      starts_user_m: bool. True at its user's first.
      gap_hours_m: float32. As in `GridBatch`.
    """

    item_ids_mt: np.ndarray
    starts_user_m: np.ndarray
    gap_hours_m: np.ndarray


def cut_sessions(events: Events, width: int) -> CutSessions:
    """The sessions of the train part, cut after their first `width` events."""
    lengths_m = events.session_lengths
    first_m = np.cumsum(lengths_m) - lengths_m
    position_n = np.arange(len(events.session_n)) - first_m[events.session_n]
    kept_n = position_n < width
    item_ids_mt = np.zeros((len(lengths_m), width), np.int32)
    item_ids_mt[events.session_n[kept_n], position_n[kept_n]] = events.item_id_n[kept_n]
    starts_user_m = np.diff(events.user_n[first_m], prepend=-1) != 0
    return CutSessions(item_ids_mt, starts_user_m, events.gap_hours_n[first_m])


def grid_batches(sessions: CutSessions, grid: Grid, seed: int) -> Iterator[GridBatch]:
    """Endless batches: lane i reads the users at entries i, i + b, ... of endless permutations.

    Args:
      sessions: Cut to the grid.
      grid: The shape.
      seed: Seed of the permutations.
    """
    starts_user_m = sessions.starts_user_m
    first_of_user = np.append(np.flatnonzero(starts_user_m), len(starts_user_m)).tolist()
    lanes = _deal_users(len(first_of_user) - 1, grid.lanes, seed)
    waiting: list[list[int]] = [[] for _ in range(grid.lanes)]
    while True:
        for lane, queue in zip(lanes, waiting, strict=True):
            while len(queue) < grid.sessions:
                user = next(lane)
                queue.extend(range(first_of_user[user], first_of_user[user + 1]))
        session_bs = np.array([queue[: grid.sessions] for queue in waiting])
        for queue in waiting:
            del queue[: grid.sessions]
        yield GridBatch(*(array[session_bs] for array in sessions))


def _deal_users(users: int, lanes: int, seed: int) -> list[Iterator[int]]:
    """For each lane the users that it reads, without end."""
    permutations: list[np.ndarray] = []
    generator = np.random.default_rng(seed)

    def users_of(lane: int) -> Iterator[int]:
        turn = lane
        while True:
            while turn // users >= len(permutations):
                permutations.append(generator.permutation(users))
            yield int(permutations[turn // users][turn % users])
            turn += lanes

    return [users_of(lane) for lane in range(lanes)]
