"""A prepared log in memory: columns of events, sessions and users, ready to be written."""

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import polars as pl

from data_pipelines.histories.fitted_items import as_fitted
from data_pipelines.histories.record import NO_ITEMS, History, Split
from data_pipelines.raw.log import Log
from data_pipelines.sessions.sessionize import Events
from data_pipelines.sessions.splits import SplitOptions, assign_splits, sessions_of
from data_pipelines.sessions.vocabulary import (
    NEVER,
    ItemCounts,
    Listed,
    Vocabulary,
    build_vocabulary,
    extend_vocabulary,
)
from hiertcn_jax.batch import FIRST_ITEM_ID, UNKNOWN_ID


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """The histories of all users as columns, in the order of the users' codes in the log: by id as
    text; where events were appended, the users of the earlier log first, in its order.

    Attributes:
      user_ids: String [users]. Users with events.
      vocabulary: All items of the log, also those beyond the fitted catalogue.
      item_ids: int32 [n]. Row of each event's item.
      times: int64 [n]. Seconds since the epoch.
      session_lengths: int32 [m]. Events of each session.
      session_splits: uint8 [m]. `Split` of each session.
      user_sessions: int64 [users]. Sessions of each user.
      users_too_short: Number of users with too few sessions to split; all of theirs are train.
      shown_items: int32 [p]. As in `History`, user after user.
      shown_counts: int32 [n], or [0] without impressions.
    """

    user_ids: pl.Series
    vocabulary: Vocabulary
    item_ids: np.ndarray
    times: np.ndarray
    session_lengths: np.ndarray
    session_splits: np.ndarray
    user_sessions: np.ndarray
    users_too_short: int
    shown_items: np.ndarray = dataclasses.field(default_factory=lambda: NO_ITEMS)
    shown_counts: np.ndarray = dataclasses.field(default_factory=lambda: NO_ITEMS)

    def histories(self, users: np.ndarray | None = None) -> Iterator[History]:
        """Yields the history of each user.

        Args:
          users: The indices of those to yield, in this order; None: all.
        """
        users = np.arange(len(self.user_ids)) if users is None else users
        session_ends = np.cumsum(self.user_sessions)
        event_ends = np.cumsum(self.session_lengths, dtype=np.int64)[session_ends - 1]
        counts = self.shown_counts if len(self.shown_counts) else np.zeros_like(self.item_ids)
        shown_ends = np.cumsum(counts, dtype=np.int64)[event_ends - 1]
        # Numbers of Python make slices much faster than those of numpy.
        bounds = [
            bound[users].tolist()
            for ends in (session_ends, event_ends, shown_ends)
            for bound in (np.concatenate([[0], ends[:-1]]), ends)
        ]
        for user_id, session, session_end, event, event_end, shown, shown_end in zip(
            self.user_ids.gather(users), *bounds, strict=True
        ):
            yield History(
                user_id=user_id,
                item_ids=self.item_ids[event:event_end],
                times=self.times[event:event_end],
                session_lengths=self.session_lengths[session:session_end],
                session_splits=self.session_splits[session:session_end],
                shown_items=self.shown_items[shown:shown_end],
                shown_counts=self.shown_counts[event:event_end],
            )

    def counts(self) -> dict[str, Any]:
        """The manifest's `counts`.

        For each part: users, sessions, and events as {"all", "first", "next"}. `first` counts the
        events at position 0 of a session. `unknown_items` counts events outside the fitted
        catalogue, `unseen` events of items that nobody picked before.
        """
        items = len(self.vocabulary.item_ids)
        fitted = self.vocabulary.fitted_size - FIRST_ITEM_ID
        return {
            "users": len(self.user_ids),
            "items": fitted,
            "later_items": items - fitted,
            "sessions": len(self.session_lengths),
            "events": len(self.item_ids),
            "users_too_short": self.users_too_short,
            "splits": {part.name.lower(): self._part_counts(part) for part in Split},
        }

    def _part_counts(self, part: Split) -> dict[str, Any]:
        is_part = self.session_splits == part
        is_part_n = np.repeat(is_part, self.session_lengths)
        first_places = np.cumsum(self.session_lengths) - self.session_lengths

        def counted(marked_n: np.ndarray) -> dict[str, int]:
            every, first = np.sum(marked_n & is_part_n), np.sum(marked_n[first_places[is_part]])
            return {"all": int(every), "first": int(first), "next": int(every - first)}

        is_unseen_n = self.times <= self.vocabulary.known_from_v[self.item_ids]
        users = np.repeat(np.arange(len(self.user_ids)), self.user_sessions)[is_part]
        sessions, events = int(is_part.sum()), int(self.session_lengths[is_part].sum())
        return {
            "users": len(np.unique(users)),
            "sessions": sessions,
            "events": {"all": events, "first": sessions, "next": events - sessions},
            "unknown_items": counted(as_fitted(self.item_ids, self.vocabulary) == UNKNOWN_ID),
            "unseen": counted(is_unseen_n),
        }

    def columns(self) -> dict[str, pl.Series | np.ndarray]:
        """The columns that the content hash covers, by name: histories and fitted catalogue.

        Later items count as unknown: what does not read them is not concerned by them.
        """
        impressions = {"shown_items": self.shown_items, "shown_counts": self.shown_counts}
        return {
            "user_ids": self.user_ids,
            "catalogue": self.vocabulary.fitted_part().item_ids,
            "item_ids": as_fitted(self.item_ids, self.vocabulary),
            "times": self.times,
            "session_lengths": self.session_lengths,
            "session_splits": self.session_splits,
            "user_sessions": self.user_sessions,
            **(impressions if len(self.shown_counts) else {}),
        }

    def content_hash(self) -> str:
        """SHA-256 of the histories and the catalogue. It does not depend on the file format."""
        columns = self.columns().items()
        return content_hash((name, len(values), column_bytes(values)) for name, values in columns)


def content_hash(columns: Iterable[tuple[str, int, Iterable[bytes]]]) -> str:
    """Hashes columns.

    Args:
      columns: For each column of `Dataset.columns`, in that order: its name, the number of its
        values, and its bytes (`column_bytes`) in pieces.
    """
    digest = hashlib.sha256()
    for name, length, pieces in columns:
        digest.update(f"{name} {length};".encode())
        for piece in pieces:
            digest.update(piece)
    return f"sha256:{digest.hexdigest()}"


def column_bytes(values: pl.Series | np.ndarray) -> tuple[bytes, ...]:
    """A column's numbers, little-endian. For texts: their lengths in bytes, then the texts."""
    if isinstance(values, pl.Series):
        lengths = values.str.len_bytes().to_numpy()
        return _little_endian(lengths), "".join(values).encode("utf-8")
    return (_little_endian(values),)


def build_dataset(
    log: Log,
    events: Events,
    options: SplitOptions,
    listed: Listed | None = None,
    asked: SplitOptions | None = None,
    previous: Vocabulary | None = None,
) -> Dataset:
    """Splits the sessions of the filtered events and builds the vocabulary from the train part.

    Args:
      log: The log that the codes in `events` refer to.
      events: The events that the filters kept.
      options: How to split.
      listed: Items to add to the fitted catalogue even if they have no train event.
      asked: See `assign_splits`.
      previous: The vocabulary of the log that this one continues; None: it starts here.

    Raises:
      DataError: A part is left empty.
    """
    sessions = sessions_of(events)
    splits, users_too_short = assign_splits(sessions, log.user_ids, options, asked)
    counts = count_items(log, events, np.repeat(splits, sessions.lengths), options)
    facts = log.facts.ids_of("item_id")
    if previous is None:
        vocabulary, rows = build_vocabulary(counts, listed, facts)
    else:
        vocabulary, rows = extend_vocabulary(counts, previous, facts)
    users, user_sessions = np.unique(sessions.users, return_counts=True)
    return Dataset(
        user_ids=log.user_ids.gather(users),
        vocabulary=vocabulary,
        item_ids=rows[events.items],
        times=events.times_ms // 1000,
        session_lengths=sessions.lengths,
        session_splits=splits,
        user_sessions=user_sessions,
        users_too_short=users_too_short,
    )


def count_items(log: Log, events: Events, split_n: np.ndarray, options: SplitOptions) -> ItemCounts:
    """Counts the items of the filtered events.

    Args:
      log: The log that the codes in `events` refer to.
      events: The events that the filters kept.
      split_n: The `Split` of each event's session.
      options: How they were split.
    """
    fitted_n = [
        options.is_fitted(split_n, events.times_ms, last) for last in (Split.TRAIN, Split.VALID)
    ]
    train, both = (np.bincount(events.items[n], minlength=len(log.item_ids)) for n in fitted_n)
    first_seen = np.full(len(log.item_ids), NEVER)
    np.minimum.at(first_seen, events.items, events.times_ms // 1000)
    return ItemCounts(log.item_ids, train, both - train, first_seen)


def _little_endian(values: np.ndarray) -> bytes:
    return values.astype(values.dtype.newbyteorder("<")).tobytes()
