"""Sums of metrics that can be merged over batches, processes and parts of the users.

There are three groups of events. `first`, at position 0 of a session, are predicted from the
history alone; `next` are the others; `all` is both. Micro averages are over events; macro averages,
`per_user`, over the users with events of the group.

Means are sums by user, with one division at the end. Unions are sets of items; they have no macro
average. All sums are float64.
"""

import hashlib
from collections.abc import Callable, Iterable

import numpy as np

from hiertcn_jax.batch import FIRST_ITEM_ID
from hiertcn_jax.scoring.metrics import METRICS, MeanMetric, RankedEvents, UnionMetric

GROUPS = {"all": (0, 1), "first": (0,), "next": (1,)}
"""The kinds of events in each group: position 0, or above."""

_MAX_PENDING = 65_536
"""Events that are collected before they are summed: few enough to hold, enough to be efficient."""


def user_key(user_id: str) -> int:
    """A 64-bit key of a user: blake2b of the id's text, little-endian."""
    return int.from_bytes(hashlib.blake2b(user_id.encode(), digest_size=8).digest(), "little")


def user_keys(user_ids: Iterable[str]) -> np.ndarray:
    """`user_key` of each id; uint64. Call it once for the users of a data set."""
    return np.fromiter(map(user_key, user_ids), np.uint64)


class MetricSums:
    """Sums of the metrics of ranked events, by user.

    Events may come in any order and any number of parts, and a user's in several. Results agree up
    to rounding, and the hash of the events agrees exactly. Memory grows with the number of users.

    Attributes:
      catalogue: Number of items that a rank is among, if an event has no list of its own.

    Example:
      >>> sums = MetricSums(catalogue=100)
      >>> keys = user_keys(["ann", "ann", "bob"])
      >>> sums.add(np.array([1.0, 4.0, 2.0]), keys, np.array([0, 0, 0]), np.array([0, 1, 0]))
      >>> result = sums.result()
      >>> round(result["all"]["mrr"], 4), result["first"]["mrr"]  # (1 + 1/4 + 1/2) / 3
      (0.5833, 0.75)
    """

    def __init__(self, catalogue: int, counts_v: np.ndarray | None = None) -> None:
        """Starts without events.

        Args:
          catalogue: See the attribute.
          counts_v: Training events of each row of the item table; None: events come without their
            top items, and there are no metrics of these.

        Raises:
          ValueError: The catalogue is empty.
        """
        if catalogue < 1:
            raise ValueError(f"catalogue={catalogue}: must be >= 1")
        self.catalogue, self._counts_v = catalogue, counts_v
        metrics = [m for m in METRICS.values() if counts_v is not None or not m.needs_lists]
        self._means = [metric for metric in metrics if isinstance(metric, MeanMetric)]
        self._unions = [metric for metric in metrics if isinstance(metric, UnionMetric)]
        self._names = [metric.name for metric in metrics]
        self._keys_u = np.zeros(0, np.uint64)
        # By user, kind of event and mean; after the last mean comes the number of events.
        self._sums_u = np.zeros((0, 2, len(self._means) + 1))
        # By union, kind of event and row of the item table: whether an event has it.
        rows = 0 if counts_v is None else len(counts_v)
        self._has = np.zeros((len(self._unions), 2, rows), bool)
        self._hash = 0
        self._pending: list[tuple[np.ndarray, np.ndarray]] = []
        self._pending_events = 0

    def add(
        self,
        rank_n: np.ndarray,
        user_key_n: np.ndarray,
        session_n: np.ndarray,
        position_n: np.ndarray,
        size_n: np.ndarray | None = None,
        listed_nk: np.ndarray | None = None,
    ) -> None:
        """Adds ranked events.

        Args:
          rank_n: Rank of each event's target, 1 to `catalogue`.
          user_key_n: The user of each event (`user_keys`); uint64.
          session_n: Index of its session in the user's history.
          position_n: Index of the event in its session.
          size_n: Number of items that each rank is among; None: the catalogue.
          listed_nk: The top items of each event (`RankedEvents`), if there are counts.

        Raises:
          ValueError: The lengths differ, keys are not uint64, a rank is out of its range or NaN,
            an index is negative. Nothing is added in that case.
        """
        rank_n, session_n, position_n = map(np.asarray, (rank_n, session_n, position_n))
        if size_n is not None and len(size_n) != len(rank_n):
            raise ValueError(f"size_n: {len(size_n)} sizes for {len(rank_n)} ranks")
        lists = None if listed_nk is None else len(listed_nk)
        if lists != (None if self._counts_v is None else len(rank_n)):
            raise ValueError(f"listed_nk: {lists} lists for {len(rank_n)} ranks")
        size_n = np.full(len(rank_n), self.catalogue) if size_n is None else np.asarray(size_n)
        self._check(rank_n, size_n, user_key_n, session_n, position_n)
        self._hash = (self._hash + _hash_sum(user_key_n, session_n, position_n)) % 2**64
        events = RankedEvents(rank_n.astype(np.float64), size_n, listed_nk, self._counts_v)
        kind_n = (position_n > 0).astype(int)
        values = [metric.of_events(events) for metric in self._means]
        sums_n = np.zeros((len(rank_n), *self._sums_u.shape[1:]))
        sums_n[np.arange(len(rank_n)), kind_n] = np.stack([*values, np.ones(len(rank_n))], -1)
        self._append(np.asarray(user_key_n), sums_n)
        for has, metric in zip(self._has, self._unions, strict=True):
            has[kind_n[:, None], metric.items(events)] = True

    def merge(self, other: "MetricSums") -> None:
        """Adds the events of `other`, which does not change.

        Raises:
          ValueError: `other` ranks among another number of items, or one alone has lists.
        """
        if other.catalogue != self.catalogue:
            raise ValueError(f"catalogue={other.catalogue}: cannot be merged into {self.catalogue}")
        if other._has.shape != self._has.shape:
            raise ValueError("lists: of the events of one alone")
        self._hash = (self._hash + other._hash) % 2**64
        other._sum_pending()
        self._append(other._keys_u, other._sums_u)
        self._has |= other._has

    def gathered(self, gather: Callable[[np.ndarray], np.ndarray]) -> "MetricSums":
        """The sums of all processes; each has to ask for them.

        Args:
          gather: From an array of this process to the rows of those of all, [r, ..] -> [sum r, ..].
        """
        self._sum_pending()
        merged = MetricSums(self.catalogue, self._counts_v)
        merged._hash = sum(gather(np.array([self._hash], np.uint64)).tolist()) % 2**64
        merged._append(gather(self._keys_u), gather(self._sums_u))
        if self._has.size:
            bits_b = np.bitwise_or.reduce(gather(np.packbits(self._has)[None]))
            has = np.unpackbits(bits_b, count=self._has.size).view(bool)
            merged._has = has.reshape(self._has.shape)
        return merged

    @property
    def events_hash(self) -> str:
        """A hash of the set of (user id, session, position); 16 hexadecimal digits.

        It is equal if and (but for chance) only if two evaluations scored the same events.
        """
        return f"{self._hash:016x}"

    def result(self) -> dict:
        """The metrics, ready for JSON.

        Returns:
          {"events", "events_hash", "all": M, "first": M, "next": M, "per_user": {"all": M, ...}},
          where M holds "events" and each of METRICS that there is, and in "per_user" also "users",
          but no unions. A metric of no events is None.
        """
        self._sum_pending()
        groups = {group: self._sums_u[:, list(kinds)].sum(1) for group, kinds in GROUPS.items()}
        return {
            "events": int(groups["all"][:, -1].sum()),
            "events_hash": self.events_hash,
            **{group: self._micro(group, sums_um) for group, sums_um in groups.items()},
            "per_user": {group: self._macro(sums_um) for group, sums_um in groups.items()},
        }

    def _micro(self, group: str, sums_um: np.ndarray) -> dict:
        """Averages over events, and unions of them."""
        total_m = sums_um.sum(0)
        count = int(total_m[-1])
        has_mv = self._has[:, list(GROUPS[group]), FIRST_ITEM_ID:].any(1)
        shares = [float(share) if count else None for share in has_mv.sum(1) / self.catalogue]
        unions = dict(zip((metric.name for metric in self._unions), shares, strict=True))
        values = {**self._divide(total_m[:-1], count), **unions}
        return {"events": count, **{name: values[name] for name in self._names}}

    def _macro(self, sums_um: np.ndarray) -> dict:
        """Averages over users of the averages over each one's events."""
        sums_um = sums_um[sums_um[:, -1] > 0]
        total_m = (sums_um[:, :-1] / sums_um[:, -1:]).sum(0)
        events = int(sums_um[:, -1].sum())
        return {"events": events, "users": len(sums_um), **self._divide(total_m, len(sums_um))}

    def _divide(self, total_m: np.ndarray, count: int) -> dict:
        """Means by name; None where there is nothing to average."""
        values = (total_m / count).tolist() if count else [None] * len(total_m)
        return dict(zip((metric.name for metric in self._means), values, strict=True))

    def _check(
        self, rank_n: np.ndarray, size_n: np.ndarray, user_key_n: np.ndarray, *index_n: np.ndarray
    ) -> None:
        lengths = [len(x) for x in (rank_n, user_key_n, *index_n)]
        if len(set(lengths)) != 1:
            raise ValueError(f"ranks, users, sessions, positions: of different lengths {lengths}")
        if user_key_n.dtype != np.uint64:
            raise ValueError(f"user_key_n: expected uint64, got {user_key_n.dtype}")
        bad_n = ~((rank_n >= 1) & (rank_n <= np.minimum(size_n, self.catalogue)))
        if bad_n.any():
            where = int(np.argmax(bad_n))
            most = min(size_n[where], self.catalogue)
            raise ValueError(f"rank {rank_n[where]} of event {where}: must be from 1 to {most}")
        if any((x < 0).any() for x in index_n):
            raise ValueError("session or position below 0")

    def _append(self, keys: np.ndarray, sums: np.ndarray) -> None:
        self._pending.append((keys, sums))
        self._pending_events += len(keys)
        # At least the number of known users, because summing visits all of them: so each event
        # moves only a few times, however small the parts are.
        if self._pending_events > max(_MAX_PENDING, len(self._keys_u)):
            self._sum_pending()

    def _sum_pending(self) -> None:
        if not self._pending:
            return
        parts = [(self._keys_u, self._sums_u), *self._pending]
        keys, sums = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        order = np.argsort(keys, kind="stable")
        self._keys_u, starts = np.unique(keys[order], return_index=True)
        self._sums_u = np.add.reduceat(sums[order], starts, axis=0) if len(keys) else self._sums_u
        self._pending, self._pending_events = [], 0


def _hash_sum(user_key_n: np.ndarray, session_n: np.ndarray, position_n: np.ndarray) -> int:
    """Sum mod 2^64 of a hash of each (user, session, position); a sum ignores the order."""
    mixed_n = _mix(user_key_n)
    for index_n in (session_n, position_n):
        mixed_n = _mix(mixed_n ^ index_n.astype(np.uint64))
    return int(mixed_n.sum(dtype=np.uint64))


def _mix(x: np.ndarray) -> np.ndarray:
    """One step of splitmix64 (Steele, Lea, Flood, OOPSLA 2014) on each 64-bit word."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
