"""Filters on items and users, repeated until a round drops nothing."""

import collections
import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from data_pipelines.errors import DataError
from data_pipelines.raw.drops import Drop
from data_pipelines.sessions.sessionize import Events


@dataclasses.dataclass(frozen=True)
class FilterOptions:
    """What every remaining item and user satisfies. Counts cover the remaining events only.

    Attributes:
      min_item_events: Drops an item with fewer events.
      min_user_events: Drops a user with fewer events, with all events.
      max_user_events: Drops a user with more events, with all events; 0: no limit.
      min_sessions: Drops a user with fewer sessions, with all events.
    """

    min_item_events: int = 1
    min_user_events: int = 1
    max_user_events: int = 0
    min_sessions: int = 1


Rule = Callable[[Events], np.ndarray]
"""Takes events, at least one, and says which ones a filter keeps: bool [n]."""


def user_rules(options: FilterOptions) -> dict[str, Rule]:
    """The filters that look at one user at a time, by their name in the manifest."""
    return {
        f"min_user_events={options.min_user_events}": lambda e: (
            np.bincount(e.users)[e.users] >= options.min_user_events
        ),
        f"max_user_events={options.max_user_events}": lambda e: (
            np.bincount(e.users)[e.users] <= (options.max_user_events or len(e))
        ),
        f"min_sessions={options.min_sessions}": lambda e: (
            np.bincount(e.users, e.starts_session)[e.users] >= options.min_sessions
        ),
    }


def drop_items(codes: np.ndarray) -> Rule:
    """A filter that drops these items."""
    return lambda e: ~np.isin(e.items, codes)


def only_before(rule: Rule, end_ms: int | None) -> Rule:
    """A filter that sees only the events before a time, and keeps all others.

    Under `--split=time` filters prepare what is fitted; nothing from the first cut on decides what
    they drop, and every later event stays.

    Args:
      rule: The filter.
      end_ms: The time; None: the filter sees everything.
    """
    if end_ms is None:
        return rule

    def of_fitted(events: Events) -> np.ndarray:
        kept_n = np.ones(len(events), bool)
        before_n = events.times_ms < end_ms
        if before_n.any():
            kept_n[before_n] = rule(events.keep(before_n))
        return kept_n

    return of_fitted


def apply_filters(
    events: Events, options: FilterOptions, end_ms: int | None = None
) -> tuple[Events, list[Drop]]:
    """Drops items and users, round after round, until everything left satisfies every filter.

    A round runs the filters in the order of `FilterOptions`.

    Args:
      events: The log.
      options: The filters.
      end_ms: See `only_before`.

    Returns:
      The remaining events, and for each filter what it dropped over all rounds.

    Raises:
      DataError: Nothing is left.
    """
    rules: dict[str, Rule] = {
        f"min_item_events={options.min_item_events}": lambda e: (
            np.bincount(e.items)[e.items] >= options.min_item_events
        ),
        **user_rules(options),
    }
    dropped: dict[str, np.ndarray] = collections.defaultdict(lambda: np.zeros(3, np.int64))
    before = -1
    while before != len(events) and len(events):
        before = len(events)
        for name, rule in rules.items():
            kept = events.keep(only_before(rule, end_ms)(events)) if len(events) else events
            dropped[name] += np.subtract(_sizes(events), _sizes(kept))
            events = kept
    drops = [Drop(name, *counts.tolist()) for name, counts in dropped.items() if counts[0]]
    is_left = events.times_ms < end_ms if end_ms is not None and drops else [len(events)]
    if not np.any(is_left):
        raise DataError(describe_nothing(drops))
    return events, drops


def describe_nothing(drops: Sequence[Drop]) -> str:
    """The error message for a log that the filters empty, with what the user can do."""
    reasons = ", ".join(f"{drop.reason} dropped {drop.events} events" for drop in drops)
    return f"the filters leave nothing: {reasons}; set lower minimums, or prepare more of the log"


def _sizes(events: Events) -> tuple[int, int, int]:
    """The numbers of events, users and items."""
    return len(events), len(np.unique(events.users)), len(np.unique(events.items))
