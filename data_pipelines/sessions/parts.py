"""A log in parts: each has all events of some users, and is prepared as a log of its own is.

What is counted over the whole log comes in from outside: the items that filters dropped, round by
round, the times that split it, and the vocabulary.
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
from data_pipelines.sessions.dataset import Dataset
from data_pipelines.sessions.filters import drop_items, user_rules
from data_pipelines.sessions.overlaps import Merged
from data_pipelines.sessions.sessionize import Events, to_sessions
from data_pipelines.sessions.splits import SplitOptions, deal_sessions, sessions_of
from data_pipelines.sessions.vocabulary import Vocabulary


def part_of_users(user_ids: pl.Series, parts: int) -> np.ndarray:
    """The part of each user, by a hash of the id: the same on every machine, always; int64 [n].

    "7" and "7.0" have the same: they may be one.
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
    """A part, filtered.

    Attributes:
      log: Its events as they were read.
      events: Those that are left, as sessions.
      collapsed: Events that `collapse_repeats` dropped.
      merged: Sessions that overlapped others, before the filters.
      dropped: By filter, events and users that it dropped over all rounds.
      items: The items that are there before the filters and behind each of them, round by round:
        by (round, place of the filter), their ids.
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
) -> Part:
    """Sessions and filters of a part, as far as the rounds have come.

    Args:
      frame: `log.TYPED_SCHEMA`, in the order of the input.
      config: How.
      dropped_items: Ids of the items that each round dropped, in the whole log.
      facts: What the ids of the whole log are like.
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
        for place, (name, rule) in enumerate(rules.items(), 1):
            kept = events.keep(rule(events)) if len(events) else events
            sizes = [len(events) - len(kept), _users(events) - _users(kept)]
            dropped[name] = dropped.get(name, 0) + np.asarray(sizes)
            events = kept
            items[number, place] = _items(log, events)
    counts = {name: (int(both[0]), int(both[1])) for name, both in dropped.items()}
    return Part(log, events, collapsed, merged, counts, items)


def item_counts(part: Part) -> pl.DataFrame:
    """item_id, events: of each item that is left in a part."""
    counts = np.bincount(part.events.items, minlength=len(part.log.item_ids))
    return pl.DataFrame({"item_id": part.log.item_ids, "events": counts}).filter(
        pl.col("events") > 0
    )


def split_counts(part: Part, options: SplitOptions) -> tuple[pl.DataFrame, pl.Series, int]:
    """What the vocabulary and the order of users are made of.

    Args:
      part: The part.
      options: How to split; of `time`, the cuts and not the fractions.

    Returns:
      item_id, train, valid: events of each item of the log; the ids of the users that are left, in
      order; and how many of them have too few sessions to be split.
    """
    sessions = sessions_of(part.events)
    splits, too_short = deal_sessions(sessions, part.log.user_ids, options)
    of_event = np.repeat(splits, sessions.lengths)
    train, valid = (
        np.bincount(part.events.items[of_event == split], minlength=len(part.log.item_ids))
        for split in (0, 1)
    )
    users = part.log.user_ids.gather(np.unique(sessions.users))
    items = pl.DataFrame({"item_id": part.log.item_ids, "train": train, "valid": valid})
    return items, users, too_short


def part_dataset(part: Part, options: SplitOptions, vocabulary: Vocabulary) -> Dataset:
    """The part's users, with the rows of the whole log's vocabulary."""
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
