"""Filters on items and users, applied again and again until none drops anything."""

import collections
import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from data_pipelines.errors import DataError
from data_pipelines.raw.drops import Drop
from data_pipelines.sessions.sessionize import Events


@dataclasses.dataclass(frozen=True)
class FilterOptions:
    """What must hold of each item and user that stays. All counts are those of what stays.

    Attributes:
      min_item_events: An item with fewer events is dropped.
      min_user_events: A user with fewer events is dropped whole.
      max_user_events: A user with more events is dropped whole; 0 for no limit.
      min_sessions: A user with fewer sessions is dropped whole.
    """

    min_item_events: int = 1
    min_user_events: int = 1
    max_user_events: int = 0
    min_sessions: int = 1


Rule = Callable[[Events], np.ndarray]
"""Which of the events, of which there are some, a filter keeps; bool [n]."""


def user_rules(options: FilterOptions) -> dict[str, Rule]:
    """The filters that look at one user at a time, by what they are called in the manifest."""
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
    """The filter that drops these items."""
    return lambda e: ~np.isin(e.items, codes)


def apply_filters(events: Events, options: FilterOptions) -> tuple[Events, list[Drop]]:
    """Drops items and users, in rounds, until all that is left satisfies every filter.

    A round goes through the filters in the order of `FilterOptions`.

    Returns:
      The events that are left, and for each filter what it dropped over all rounds.

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
            kept = events.keep(rule(events)) if len(events) else events
            dropped[name] += np.subtract(_sizes(events), _sizes(kept))
            events = kept
    drops = [Drop(name, *counts.tolist()) for name, counts in dropped.items() if counts[0]]
    if not len(events):
        raise DataError(describe_nothing(drops))
    return events, drops


def describe_nothing(drops: Sequence[Drop]) -> str:
    """Says that the filters leave nothing, and what can be done."""
    reasons = ", ".join(f"{drop.reason} dropped {drop.events} events" for drop in drops)
    return f"the filters leave nothing: {reasons}; set lower minimums, or prepare more of the log"


def _sizes(events: Events) -> tuple[int, int, int]:
    """Events, users and items."""
    return len(events), len(np.unique(events.users)), len(np.unique(events.items))
