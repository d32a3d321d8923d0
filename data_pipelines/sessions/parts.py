"""Prepares one part of a log: all events of some users, handled like a log of its own.

The caller passes in whatever depends on the whole log: the items that each round of filters
dropped, the times that split it, and the vocabulary.
"""

import dataclasses
import hashlib
from collections.abc import Sequence

import numpy as np
import polars as pl

from data_pipelines.config import PrepareConfig
from data_pipelines.raw.ids import without_fraction
from data_pipelines.raw.log import Log, encode_log
from data_pipelines.raw.log_facts import LogFacts
from data_pipelines.sessions.dataset import Dataset, count_items
from data_pipelines.sessions.filters import drop_items, only_before, user_rules
from data_pipelines.sessions.overlaps import Merged
from data_pipelines.sessions.sessionize import Events, to_sessions
from data_pipelines.sessions.splits import SplitOptions, deal_sessions, sessions_of
from data_pipelines.sessions.vocabulary import Vocabulary


def part_of_users(user_ids: pl.Series, parts: int) -> np.ndarray:
    """The part of each user, int64 [n], from a hash of the id that is the same on every machine.

    "7" and "7.0" get the same part, because they may be the same id.
    """
    user_ids = without_fraction(user_ids)
    distinct = user_ids.unique()
    part = [
        int.from_bytes(hashlib.blake2b(user.encode(), digest_size=8).digest()) % parts
        for user in distinct
    ]
    table = pl.DataFrame({"user_id": distinct, "part": pl.Series(part, dtype=pl.Int64)})
    joined = user_ids.rename("user_id").to_frame().join(table, "user_id", maintain_order="left")
    return joined["part"].to_numpy()


@dataclasses.dataclass(frozen=True, eq=False)
class Part:
    """A part after the filters.

    Attributes:
      log: Its events as read.
      events: The remaining events, as sessions.
      collapsed: Number of events that `collapse_repeats` dropped.
      merged: Counts of sessions that overlapped others, before the filters.
      dropped: For each filter, the events and users that it dropped over all rounds.
      items: Ids of the remaining items, before the filters and after each one, in every round; by
        (round, index of the filter).
    """

    log: Log
    events: Events
    collapsed: int
    merged: Merged
    dropped: dict[str, tuple[int, int]]
    items: dict[tuple[int, int], pl.Series]


def filter_part(
    frame: pl.DataFrame,
    config: PrepareConfig,
    dropped_items: Sequence[pl.Series],
    facts: LogFacts,
    end_ms: int | None = None,
) -> Part:
    """Makes sessions of a part and filters them, for the rounds done so far.

    Args:
      frame: `log.TYPED_SCHEMA`, in the order of the input.
      config: How to prepare the log.
      dropped_items: Ids of the items that each round dropped, in the whole log.
      facts: Types and units of the whole log.
      end_ms: See `filters.only_before`.
    """
    log = encode_log([frame], has_sessions=config.session_column is not None, facts=facts)
    events, collapsed, merged = to_sessions(log, config.gap_minutes, config.collapse_repeats)
    options = config.filter_options()
    dropped: dict[str, np.ndarray] = {}
    items = {(0, 0): _items(log, events)}
    for number, ids in enumerate(dropped_items):
        codes = np.flatnonzero(log.item_ids.is_in(ids.implode()).to_numpy())
        rules = {
            f"min_item_events={options.min_item_events}": drop_items(codes),
            **user_rules(options),
        }
        for rule_number, (name, rule) in enumerate(rules.items(), 1):
            kept = events.keep(only_before(rule, end_ms)(events)) if len(events) else events
            sizes = [len(events) - len(kept), _users(events) - _users(kept)]
            dropped[name] = dropped.get(name, 0) + np.asarray(sizes)
            events = kept
            items[number, rule_number] = _items(log, events)
    counts = {name: (int(both[0]), int(both[1])) for name, both in dropped.items()}
    return Part(log, events, collapsed, merged, counts, items)


def item_counts(part: Part, end_ms: int | None = None) -> pl.DataFrame:
    """Columns item_id and events: the events of each remaining item of a part, before a time."""
    events = part.events
    items = events.items if end_ms is None else events.items[events.times_ms < end_ms]
    counts = np.bincount(items, minlength=len(part.log.item_ids))
    return pl.DataFrame({"item_id": part.log.item_ids, "events": counts}).filter(
        pl.col("events") > 0
    )


def split_counts(part: Part, options: SplitOptions) -> tuple[pl.DataFrame, pl.Series, int]:
    """Counts a part for the vocabulary.

    Args:
      part: The part.
      options: How to split. For `time` it has cuts, not fractions.

    Returns:
      Columns item_id, train, valid, first_seen: `ItemCounts` of the items of the log; the sorted
      ids of the remaining users; and the number of users with too few sessions to split.
    """
    sessions = sessions_of(part.events)
    splits, too_short = deal_sessions(sessions, part.log.user_ids, options)
    counts = count_items(part.log, part.events, np.repeat(splits, sessions.lengths), options)
    users = part.log.user_ids.gather(np.unique(sessions.users))
    items = pl.DataFrame(vars(counts)).rename({"item_ids": "item_id"})
    return items, users, too_short


def part_dataset(part: Part, options: SplitOptions, vocabulary: Vocabulary) -> Dataset:
    """The part's users as a data set. Item ids are rows of the whole log's vocabulary."""
    log, events, sessions = part.log, part.events, sessions_of(part.events)
    splits, too_short = deal_sessions(sessions, log.user_ids, options)
    users, user_sessions = np.unique(sessions.users, return_counts=True)
    return Dataset(
        user_ids=log.user_ids.gather(users),
        vocabulary=vocabulary,
        item_ids=vocabulary.encode(log.item_ids.to_list())[events.items],
        times=events.times_ms // 1000,
        session_lengths=sessions.lengths,
        session_splits=splits,
        user_sessions=user_sessions,
        users_too_short=too_short,
    )


def _items(log: Log, events: Events) -> pl.Series:
    return log.item_ids.gather(np.unique(events.items))


def _users(events: Events) -> int:
    return len(np.unique(events.users))
