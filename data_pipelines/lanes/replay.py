"""Which events a run learns that continues another: the new ones, and a sample of older ones.

Lanes read the whole histories of users with new events, so that states come from all that happened.
Of what they pass, new events are targets, and of the older ones a share is.
"""

from typing import NamedTuple

import numpy as np

from data_pipelines.hashing import scrambled_rows
from data_pipelines.histories.events import HistorySource, Stream, blocks_of, keep_sessions
from hiertcn_jax.batch import FIRST_ITEM_ID, LaneBatch

_NEIGHBOURS = 8
"""Events of a session within which items are neighbours, as in memory's followers."""


class Replay(NamedTuple):
    """What to learn of a log that goes on.

    Attributes:
      users: int64. Users with new events, by the index of their history.
      since: Seconds. Events from then on are new.
      kept: Of the older events of these users, the share to learn again.
      seed: Seed of that sample.
      events: Events that an epoch reads.
      new_events: The new ones among them.
    """

    users: np.ndarray
    since: int
    kept: float
    seed: int
    events: int
    new_events: int

    def weigh(self, element: LaneBatch) -> LaneBatch:
        """A batch in which of the older events only the sample is learned."""
        batch, info = element
        user_bl = np.take_along_axis(info.user_bs, batch.session_bl, axis=1)
        columns = (user_bl, batch.user_position_bl)
        drawn_n = scrambled_rows(
            *(column.ravel() for column in columns),
            np.full(user_bl.size, self.since),
            np.full(user_bl.size, self.seed),
        )
        share_bl = (drawn_n >> np.uint64(11)).astype(np.float64).reshape(user_bl.shape) / 2**53
        learned_bl = (info.time_bl >= self.since) | (share_bl < self.kept)
        weight_bl = np.where(learned_bl, batch.loss_weight_bl, 0).astype(np.float32)
        return LaneBatch(batch.replace(loss_weight_bl=weight_bl), info)


def find_replay(
    source: HistorySource, stream: Stream, since: int, share: float, seed: int
) -> Replay:
    """Finds the users with new events, and how many older events to learn beside them.

    Args:
      source: All histories.
      stream: The sessions to train on.
      since: Seconds. Events from then on are new.
      share: Share of older events among all events to learn, in [0, 1).
      seed: Seed of the sample of older events.
    """
    users, events, new_events = [], 0, 0
    for start, histories in blocks_of(source):
        kept = keep_sessions(histories, stream)
        owner_n = kept.owner_m.repeat(kept.length_m)
        time_n, item_n = (
            np.concatenate([getattr(one, name) for one in histories])[kept.kept_n]
            for name in ("times", "item_ids")
        )
        new_n = (time_n >= since) & (item_n >= FIRST_ITEM_ID)
        new_u = np.bincount(owner_n[new_n], minlength=len(histories))
        users.append(start + np.flatnonzero(new_u))
        events += int((new_u > 0)[owner_n].sum())
        new_events += int(new_u.sum())
    older = events - new_events
    wanted = share / (1 - share) * new_events
    sampled = min(wanted / older, 1.0) if older else 0.0
    return Replay(np.concatenate(users), since, sampled, seed, events, new_events)


class Neighbours(NamedTuple):
    """Pairs of a new item and an item with a learned row, near each other in sessions.

    Attributes:
      new_n: int64. Row of the new item.
      old_n: int64. Row of the other one.
      weight_n: float64. Sum over the events of 1 / their distance.
    """

    new_n: np.ndarray
    old_n: np.ndarray
    weight_n: np.ndarray


def find_neighbours(
    source: HistorySource, users: np.ndarray, stream: Stream, learned_rows: int
) -> Neighbours:
    """Finds the neighbours in sessions of items that have no learned row yet.

    Args:
      source: All histories.
      users: Those to read; every event of a new item is one of theirs.
      stream: The sessions to read.
      learned_rows: Rows from there on are new.
    """
    new, old, weight = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0)]
    for first in range(0, len(users), 1024):
        histories = source.__getitems__(users[first : first + 1024].tolist())
        kept = keep_sessions(histories, stream)
        session_n = np.arange(len(kept.length_m)).repeat(kept.length_m)
        item_n = np.concatenate([one.item_ids for one in histories])[kept.kept_n].astype(np.int64)
        for distance in range(1, _NEIGHBOURS + 1):
            together_n = session_n[distance:] == session_n[:-distance]
            one_n, other_n = item_n[:-distance][together_n], item_n[distance:][together_n]
            for fresh_n, known_n in ((one_n, other_n), (other_n, one_n)):
                pair_n = (fresh_n >= learned_rows) & (known_n >= FIRST_ITEM_ID)
                pair_n &= known_n < learned_rows
                new.append(fresh_n[pair_n])
                old.append(known_n[pair_n])
                weight.append(np.full(int(pair_n.sum()), 1 / distance))
    key_n = np.concatenate(new) << 32 | np.concatenate(old)
    key_p, inverse_n = np.unique(key_n, return_inverse=True)
    weight_p = np.bincount(inverse_n, np.concatenate(weight), minlength=len(key_p))
    return Neighbours(key_p >> 32, key_p & (2**32 - 1), weight_p)
