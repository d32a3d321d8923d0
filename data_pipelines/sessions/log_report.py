"""Summarizes a prepared log, so that its user can check that it was read as intended."""

import collections
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import polars as pl

from data_pipelines.histories.record import History
from data_pipelines.raw.ids import typed_ids
from data_pipelines.raw.log import Log
from data_pipelines.raw.log_facts import LogFacts
from data_pipelines.raw.times import to_iso
from data_pipelines.sessions.vocabulary import Vocabulary
from hiertcn_jax.batch import FIRST_ITEM_ID

FREQUENT = 0.1
"""The report names every user and item with a larger share of the events."""


def identical_rows(log: Log) -> int:
    """Counts events that repeat an earlier one: same user, item, time, and session if known."""
    columns = {"user": log.users, "item": log.items, "time": log.times_ms}
    if log.sessions is not None:
        columns["session"] = log.sessions
    return len(log) - pl.DataFrame(columns).n_unique()


def id_types(facts: LogFacts, vocabulary: Vocabulary) -> dict[str, str]:
    """The manifest's `ids`."""
    return {"user": facts.ids_of("user_id").id_type, "item": vocabulary.id_type}


class LogReport:
    """Accumulates counts over users. Users can arrive in any number of pieces.

    Args:
      vocabulary: The catalogue that item ids refer to.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._item_counts = np.zeros(vocabulary.size, np.int64)
        self._times: list[int] = []
        self._lengths: collections.Counter[int] = collections.Counter()
        self._sessions: collections.Counter[int] = collections.Counter()
        self._largest: list[tuple[int, str]] = []

    def add(
        self,
        user_ids: Sequence[str] | pl.Series,
        user_sessions: np.ndarray,
        session_lengths: np.ndarray,
        item_ids: np.ndarray,
        times: np.ndarray,
    ) -> None:
        """Counts users, at least one. The arrays are those of `Dataset`."""
        self._item_counts += np.bincount(item_ids, minlength=len(self._item_counts))
        self._times = [min([*self._times, int(times.min())]), max([*self._times, int(times.max())])]
        self._lengths.update(_counted(session_lengths))
        self._sessions.update(_counted(user_sessions))
        first = np.cumsum(user_sessions) - user_sessions
        events = np.add.reduceat(session_lengths.astype(np.int64), first)
        # At most 1 / FREQUENT items can each have a larger share than FREQUENT.
        most = np.argsort(-events, kind="stable")[: int(1 / FREQUENT)].tolist()
        found = [*self._largest, *((int(events[index]), user_ids[index]) for index in most)]
        self._largest = sorted(found, key=lambda user: (-user[0], user[1]))[: int(1 / FREQUENT)]

    def add_histories(self, block: Sequence[History]) -> None:
        """Counts the users of these histories."""
        self.add(
            [history.user_id for history in block],
            np.array([len(history.session_lengths) for history in block], np.int64),
            np.concatenate([history.session_lengths for history in block]),
            np.concatenate([history.item_ids for history in block]),
            np.concatenate([history.times for history in block]),
        )

    def result(self, facts: LogFacts, rows: int, identical: int) -> dict[str, Any]:
        """The manifest's `log`, see `manifest.load_manifest`.

        Args:
          facts: Types and units found while reading the log.
          rows: Number of events read.
          identical: How many of them `identical_rows` counted.
        """
        items = self._item_counts[FIRST_ITEM_ID:]
        most = np.argsort(-items, kind="stable")[: int(1 / FREQUENT)]
        item_ids = self._vocabulary.decode(most + FIRST_ITEM_ID)
        names = pl.Series([user for _, user in self._largest])
        users = typed_ids(names, facts.ids_of("user_id").id_type).to_list()
        return {
            "from": to_iso(self._times[0] * 1000),
            "to": to_iso(self._times[1] * 1000),
            "time_unit": facts.unit.unit,
            "rows": rows,
            "identical_rows": identical,
            "sessions_per_user": _mean_and_median(self._sessions),
            "events_per_session": _mean_and_median(self._lengths),
            "frequent_users": self._frequent(
                zip(users, (events for events, _ in self._largest), strict=True)
            ),
            "frequent_items": self._frequent(zip(item_ids, items[most].tolist(), strict=True)),
        }

    def _frequent(self, counts: Iterable[tuple[str | int, int]]) -> list[dict[str, Any]]:
        least = FREQUENT * self._item_counts.sum()
        return [{"id": name, "events": events} for name, events in counts if events > least]


def _counted(values: np.ndarray) -> dict[int, int]:
    distinct, counts = np.unique(values, return_counts=True)
    return dict(zip(distinct.tolist(), counts.tolist(), strict=True))


def _mean_and_median(counts: collections.Counter[int]) -> dict[str, float]:
    """Mean and median of values, given how often each occurs."""
    values = np.array(sorted(counts))
    ends = np.cumsum([counts[value] for value in values.tolist()])
    total = int(ends[-1])
    middle = values[np.searchsorted(ends, [(total - 1) // 2, total // 2], side="right")]
    mean = sum(value * count for value, count in counts.items()) / total
    return {"mean": round(mean, 2), "median": float(middle.mean())}
