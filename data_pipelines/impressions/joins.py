"""Joins lists of shown items with events."""

import dataclasses
from typing import Literal

import numpy as np
import polars as pl

from data_pipelines.impressions.files import Impressions
from data_pipelines.sessions.sessionize import Events


@dataclasses.dataclass(frozen=True, eq=False)
class ShownBeside:
    """What events' users were shown and did not click.

    Attributes:
      group_n: int64 [n]. The group of each event, -1 if nothing matches.
      groups: Number of groups.
      group_p: int64 [p], never decreasing. The group of each item.
      item_p: int32 [p]. The item's code, see `Impressions`; ascending within a group, each once.
      lists_used: Number of lists joined with an event.
    """

    group_n: np.ndarray
    groups: int
    group_p: np.ndarray
    item_p: np.ndarray
    lists_used: int


def join_by_click(impressions: Impressions, events: Events, tolerance_ms: int) -> ShownBeside:
    """Joins each event with the list in which its user clicked its item, nearest in time.

    Of two lists equally near, the one before the event wins, then the first of the input.

    Args:
      impressions: The lists.
      events: The events.
      tolerance_ms: The largest distance in time between event and list.

    Returns:
      A group for each list: its items without those clicked in it.
    """
    clicks = (
        pl.DataFrame(
            {
                "user": impressions.users[impressions.clicked_lists],
                "item": impressions.clicked_items,
                "time": impressions.times_ms[impressions.clicked_lists],
                "list": impressions.clicked_lists,
            }
        )
        .unique(["user", "item", "time"], keep="first", maintain_order=True)
        .sort("time")
        .with_columns(list_time="time")
    )
    by_event = pl.DataFrame({"user": events.users, "item": events.items, "time": events.times_ms})
    by_time = by_event.with_row_index("event").sort("time")
    found = [
        by_time.join_asof(
            clicks,
            on="time",
            by=["user", "item"],
            strategy=strategy,
            tolerance=tolerance_ms,
            check_sortedness=False,  # Polars cannot check it within groups; both sides are sorted.
        ).sort("event")
        for strategy in ("backward", "forward")
    ]
    never = np.iinfo(np.int64).max
    before_n, after_n = (
        (one["time"] - one["list_time"]).abs().fill_null(never).to_numpy() for one in found
    )
    before_list_n, after_list_n = (one["list"].fill_null(-1).to_numpy() for one in found)
    list_n = np.where(before_n <= after_n, before_list_n, after_list_n)
    return _beside(
        list_n,
        len(impressions),
        (impressions.shown_lists, impressions.shown_items),
        [(impressions.clicked_lists, impressions.clicked_items)],
        len(np.unique(list_n[list_n >= 0])),
    )


def join_by_session(impressions: Impressions, events: Events, tolerance_ms: int) -> ShownBeside:
    """Joins each event with everything its user was shown during its session.

    Args:
      impressions: The lists.
      events: The events.
      tolerance_ms: A list still belongs to a session this long before its first event, or after its
        last.

    Returns:
      A group for each session: the items shown, without those clicked in any of its lists and
      without the items of its events.
    """
    session_n = events.sessions
    session_s, list_s = _lists_of_sessions(impressions, events, tolerance_ms)

    def in_sessions(lists: np.ndarray, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        index, owner = taken(np.bincount(lists, minlength=len(impressions)), list_s)
        return session_s[owner], items[index]

    has_list = np.zeros(int(events.starts_session.sum()), bool)
    has_list[session_s] = True
    return _beside(
        np.where(has_list[session_n], session_n, -1),
        len(has_list),
        in_sessions(impressions.shown_lists, impressions.shown_items),
        [
            in_sessions(impressions.clicked_lists, impressions.clicked_items),
            (session_n, events.items),
        ],
        len(np.unique(list_s)),
    )


def _lists_of_sessions(
    impressions: Impressions, events: Events, tolerance_ms: int
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (session, list) where the list was shown to the session's user during it."""
    first = np.flatnonzero(events.starts_session)
    last = np.append(first, len(events))[1:] - 1
    order = np.lexsort((impressions.times_ms, impressions.users))
    lists = pl.DataFrame(
        {
            "user": impressions.users[order],
            "time": impressions.times_ms[order],
            "index": np.arange(len(order)),
        }
    ).sort("time", maintain_order=True)

    def nearest(time: np.ndarray, strategy: Literal["backward", "forward"]) -> np.ndarray:
        sessions = pl.DataFrame({"user": events.users[first], "time": time})
        joined = (
            sessions.with_row_index("session")
            .sort("time")
            .join_asof(lists, on="time", by="user", strategy=strategy, check_sortedness=False)
        )
        missing = len(order) if strategy == "forward" else -1
        return joined.sort("session")["index"].fill_null(missing).to_numpy()

    start = nearest(events.times_ms[first] - tolerance_ms, "forward")
    end = nearest(events.times_ms[last] + tolerance_ms, "backward")
    counts = np.maximum(end - start + 1, 0)
    session_s = np.repeat(np.arange(len(first)), counts)
    within = np.arange(len(session_s)) - np.repeat(np.cumsum(counts) - counts, counts)
    return session_s, order[start[session_s] + within]


def taken(count_m: np.ndarray, pick_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Selects the items of some lists, when all lists are laid end to end.

    Args:
      count_m: Number of items of each list.
      pick_s: The lists to select, in any order, possibly repeated.

    Returns:
      int64 [t], the index of each selected item; int64 [t], the index in `pick_s` of its list.
    """
    counts = count_m[pick_s]
    owner = np.repeat(np.arange(len(pick_s)), counts)
    within = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    return (np.cumsum(count_m) - count_m)[pick_s][owner] + within, owner


def _beside(
    group_n: np.ndarray,
    groups: int,
    shown: tuple[np.ndarray, np.ndarray],
    left_out: list[tuple[np.ndarray, np.ndarray]],
    lists_used: int,
) -> ShownBeside:
    """Groups the distinct pairs (group, item), without those to leave out."""
    keys = np.unique(_keys(*shown))
    keys = keys[~np.isin(keys, np.concatenate([_keys(*pairs) for pairs in left_out]))]
    return ShownBeside(
        group_n, groups, keys >> 32, (keys & 0xFFFFFFFF).astype(np.int32), lists_used
    )


def _keys(groups: np.ndarray, items: np.ndarray) -> np.ndarray:
    return groups.astype(np.int64) << 32 | items
