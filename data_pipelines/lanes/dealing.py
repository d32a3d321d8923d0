"""Decides which users a lane reads, turn by turn: an endless shuffle, or every user once."""

import functools
import heapq
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from data_pipelines.histories.events import HistorySource, Stream, blocks_of, keep_sessions
from data_pipelines.lanes.forming import count_segments
from data_pipelines.lanes.permutation import permutation_keys, permute
from hiertcn_jax.batch import Bucket


class Deal(Protocol):
    """Assigns users to lanes. A lane's turn 0 is its first user, and so on."""

    @property
    def batches(self) -> int | None:
        """How many batches it takes until every lane is exhausted. None: they never are."""
        ...

    def users(self, lane_n: np.ndarray, turn_n: np.ndarray) -> np.ndarray:
        """The user of each of these turns of these lanes, int64; -1 if the lane is exhausted."""
        ...

    def position(self, lane: int, turn: int) -> tuple[int, int]:
        """Epoch and position of a turn, to save a lane's state. The inverse of `turn`."""
        ...

    def turn(self, lane: int, epoch: int, position: int) -> int:
        """The turn at this epoch and position.

        Raises:
          ValueError: The lane never reaches it.
        """
        ...


class Shuffled:
    """All users in a new order each epoch, without end.

    The permutations of all epochs form one sequence. Lane i of b reads every b-th entry, starting
    at entry i. So each user occurs once per epoch, and all lanes read equally many users, however
    few there are.
    """

    batches = None

    def __init__(self, users: int, lanes: int, seed: int) -> None:
        self._users = users
        self._lanes = lanes
        self._keys = functools.lru_cache(maxsize=64)(lambda epoch: permutation_keys(seed, epoch))

    def users(self, lane_n: np.ndarray, turn_n: np.ndarray) -> np.ndarray:
        """The user of each of these turns of these lanes."""
        epoch_n, position_n = np.divmod(lane_n + turn_n * self._lanes, self._users)
        key_nr = np.stack([self._keys(epoch) for epoch in epoch_n.tolist()])
        return permute(position_n, self._users, key_nr)

    def position(self, lane: int, turn: int) -> tuple[int, int]:
        """Epoch, and index in the permutation of that epoch."""
        return divmod(lane + turn * self._lanes, self._users)

    def turn(self, lane: int, epoch: int, position: int) -> int:
        """The turn at which the lane reads this index of this epoch's permutation."""
        turn, remainder = divmod(epoch * self._users + position - lane, self._lanes)
        if remainder or turn < 0 or not 0 <= position < self._users:
            raise ValueError(
                f"lane {lane} of {self._lanes} never reaches epoch={epoch}, position={position}"
                f" with {self._users} users"
            )
        return turn


class Chosen:
    """Some of the users, as `Shuffled`.

    Args:
      users: Their indices.
      lanes: Number of lanes.
      seed: Seed of the order.
    """

    batches = None

    def __init__(self, users: np.ndarray, lanes: int, seed: int) -> None:
        self._chosen, self._order = users, Shuffled(len(users), lanes, seed)

    def users(self, lane_n: np.ndarray, turn_n: np.ndarray) -> np.ndarray:
        """The user of each of these turns of these lanes."""
        return self._chosen[self._order.users(lane_n, turn_n)]

    def position(self, lane: int, turn: int) -> tuple[int, int]:
        """See `Shuffled.position`."""
        return self._order.position(lane, turn)

    def turn(self, lane: int, epoch: int, position: int) -> int:
        """See `Shuffled.turn`."""
        return self._order.turn(lane, epoch, position)


class Once:
    """A fixed list of users for each lane, read once."""

    def __init__(self, users_by_lane: Sequence[np.ndarray], batches: int) -> None:
        self.batches = batches
        self._counts = np.asarray([len(users) for users in users_by_lane])
        self._starts = np.cumsum(self._counts) - self._counts
        self._users = np.concatenate(users_by_lane)

    def users(self, lane_n: np.ndarray, turn_n: np.ndarray) -> np.ndarray:
        """The user of each of these turns of these lanes, -1 after the end of a list."""
        listed_n = turn_n < self._counts[lane_n]
        return np.where(listed_n, self._users[(self._starts[lane_n] + turn_n) * listed_n], -1)

    def position(self, lane: int, turn: int) -> tuple[int, int]:
        """Epoch 0, and the index in the lane's list."""
        return 0, turn

    def turn(self, lane: int, epoch: int, position: int) -> int:
        """The index in the lane's list."""
        if epoch != 0 or not 0 <= position <= self._counts[lane]:
            raise ValueError(
                f"lane {lane} never reaches epoch={epoch}, position={position} with"
                f" {self._counts[lane]} users"
            )
        return position


def deal_by_length(
    source: HistorySource, stream: Stream, bucket: Bucket, one_user_segments: bool = False
) -> Once:
    """Assigns users with targets to lanes: longest first, each to the shortest lane so far.

    Reads every history once. Meanwhile it keeps 8 bytes for each session.

    Args:
      source: The histories.
      stream: The sessions to read.
      bucket: The shape of a batch over all processes.
      one_user_segments: True: segments end where a user's history ends, and the length of a user is
        a number of segments. False: it is a number of events.

    Raises:
      ValueError: No user has a target.
    """
    users, lengths, sessions = [], [], []
    for start, histories in blocks_of(source):
        kept = keep_sessions(histories, stream)
        counts = np.bincount(kept.owner_m, minlength=len(histories))
        present = np.flatnonzero(counts)
        users.append(present + start)
        sessions.append(counts[present])
        lengths.append(kept.length_m)
    if not any(len(block) for block in users):
        raise ValueError(_nothing(source, stream))
    user_n, length_m = np.concatenate(users), np.concatenate(lengths)
    ends = np.cumsum(np.concatenate(sessions))
    length_by_user = np.split(length_m, ends[:-1])
    if one_user_segments:
        segments_n = np.asarray([_segments(lengths, bucket) for lengths in length_by_user])
        hands = _shortest_first(segments_n, bucket.lanes)
        batches = max(int(segments_n[hand].sum()) for hand in hands if hand)
    else:
        events_n = np.add.reduceat(length_m, np.concatenate([[0], ends[:-1]]))
        hands = _shortest_first(events_n, bucket.lanes)
        batches = max(
            _segments(np.concatenate([length_by_user[index] for index in hand]), bucket)
            for hand in hands
            if hand
        )
    return Once([user_n[np.asarray(hand, np.int64)] for hand in hands], batches)


def require_targets(source: HistorySource, stream: Stream) -> None:
    """Raises a ValueError if no user has a target. Stops reading at the first one that has."""
    for _, histories in blocks_of(source):
        if keep_sessions(histories, stream).target_m.any():
            return
    raise ValueError(_nothing(source, stream))


def _segments(length_m: np.ndarray, bucket: Bucket) -> int:
    return count_segments(length_m, bucket.events, bucket.sessions)


def _shortest_first(length_n: np.ndarray, lanes: int) -> list[list[int]]:
    hands: list[list[int]] = [[] for _ in range(lanes)]
    heap = [(0, lane) for lane in range(lanes)]
    for index in np.argsort(-length_n, kind="stable").tolist():
        total, lane = heap[0]
        hands[lane].append(index)
        heapq.heapreplace(heap, (total + int(length_n[index]), lane))
    return hands


def _nothing(source: HistorySource, stream: Stream) -> str:
    return (
        f"none of the {len(source)} users has a session in the part {stream}; prepare more of the "
        "log, or split it otherwise"
    )
