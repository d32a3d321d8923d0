"""Adds impressions to a data set: each event gets what its user was shown, as negatives."""

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from data_pipelines.errors import DataError
from data_pipelines.hashing import scramble
from data_pipelines.histories.record import Split
from data_pipelines.impressions.files import Impressions
from data_pipelines.impressions.joins import (
    ShownBeside,
    join_by_click,
    join_by_session,
    taken,
)
from data_pipelines.sessions.dataset import Dataset
from data_pipelines.sessions.sessionize import Events
from hiertcn_jax.batch import FIRST_ITEM_ID

ImpressionJoin = Literal["click", "session"]

_JOINS = {"click": join_by_click, "session": join_by_session}


@dataclasses.dataclass(frozen=True)
class ImpressionOptions:
    """How to join impressions with events.

    Attributes:
      join: `click`: the list in which the event's item was clicked. `session`: everything shown
        during the event's session.
      tolerance_ms: The largest distance in time between event (or session) and list.
      cap: The most items kept for an event.
      seed: Seed of the sample kept of longer lists.
    """

    join: ImpressionJoin = "click"
    tolerance_ms: int = 60_000
    cap: int = 100
    seed: int = 0


def add_impressions(
    dataset: Dataset, events: Events, impressions: Impressions, options: ImpressionOptions
) -> tuple[Dataset, dict[str, Any]]:
    """Gives each event the items that its user was shown then and did not click.

    Leaves out items outside the vocabulary. The items of an event are in random order, a function
    of (seed, user id, index of the event, item): for every k, the first k are a uniform sample. A
    user's result does not depend on the other users, so parts of a log can be joined separately.

    Args:
      dataset: The data set.
      events: The events of the data set, in its order.
      impressions: What was shown to the users of the log, and the ids of its item codes.
      options: How to join.

    Returns:
      The data set with impressions (rows of the item table), and counts for `impression_report`.
    """
    beside = _JOINS[options.join](impressions, events, options.tolerance_ms)
    event_p, row_p = _rows_of_events(dataset, impressions, beside)
    known_p = row_p >= FIRST_ITEM_ID
    event_q, row_q = _in_drawn_order(event_p[known_p], row_p[known_p], dataset, options.seed)
    counts_n = np.bincount(event_q, minlength=len(events))
    kept_q = _places_in_runs(counts_n) < options.cap
    stored_n = np.minimum(counts_n, options.cap).astype(np.int32)
    dataset = dataclasses.replace(dataset, shown_items=row_q[kept_q], shown_counts=stored_n)
    counts = {
        "rows": impressions.rows,
        "rows_of_other_users": impressions.rows - len(impressions),
        "rows_used": beside.lists_used,
        "unknown_items": int(np.sum(~known_p)),
        "capped_events": int(np.sum(counts_n > options.cap)),
        "splits": _by_split(dataset, beside.group_n >= 0, stored_n),
    }
    return dataset, counts


def impression_report(
    counts: Mapping[str, Any], drops: Mapping[str, int], options: ImpressionOptions
) -> dict[str, Any]:
    """The manifest's `impressions`, see `manifest.load_manifest`.

    Args:
      counts: Those of `add_impressions`; summed if users were joined separately.
      drops: Rows skipped for each reason.
      options: How they were joined.

    Raises:
      DataError: No event matches any impression.
    """
    if not any(part["matched"] for part in counts["splits"].values()):
        raise DataError(
            f"impressions: none of the {counts['rows'] - counts['rows_of_other_users']} lists of "
            f"the log's users matches an event by {options.join} within "
            f"{options.tolerance_ms / 1000:g} s; are the columns, --time_unit and "
            "--impression_tolerance right?"
        )
    return {**counts, "drops": dict(drops), "cap": options.cap}


def _by_split(dataset: Dataset, matched_n: np.ndarray, stored_n: np.ndarray) -> dict[str, Any]:
    """For each part: events that matched, did not match, or have negatives; number of negatives."""
    split_n = np.repeat(dataset.session_splits, dataset.session_lengths)
    return {
        part.name.lower(): {
            "matched": int(np.sum(matched_n[split_n == part])),
            "unmatched": int(np.sum(~matched_n[split_n == part])),
            "with_negatives": int(np.sum(stored_n[split_n == part] > 0)),
            "negatives": int(np.sum(stored_n[split_n == part])),
        }
        for part in Split
    }


def _rows_of_events(
    dataset: Dataset, impressions: Impressions, beside: ShownBeside
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of an event and the table row of an item that its user was shown."""
    matched = np.flatnonzero(beside.group_n >= 0)
    count_g = np.bincount(beside.group_p, minlength=beside.groups)
    place, owner = taken(count_g, beside.group_n[matched])
    rows = dataset.vocabulary.fitted_part().encode(impressions.item_ids.to_list())
    return matched[owner], rows[beside.item_p[place]]


def _in_drawn_order(
    event_p: np.ndarray, row_p: np.ndarray, dataset: Dataset, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """The pairs, event by event, with each event's pairs in random order."""
    user_m = np.repeat(np.arange(len(dataset.user_ids)), dataset.user_sessions)
    events_u = np.bincount(user_m, dataset.session_lengths).astype(np.int64)
    user_n = np.repeat(np.arange(len(events_u)), events_u)
    first_u = np.cumsum(events_u) - events_u
    user_p = user_n[event_p]
    drawn_p = _user_keys(dataset, seed)[user_p]
    for number_p in (event_p - first_u[user_p], row_p):
        drawn_p = scramble(drawn_p ^ scramble(number_p.astype(np.uint64) + np.uint64(1)))
    order = np.lexsort((drawn_p, event_p))
    return event_p[order], row_p[order]


def _user_keys(dataset: Dataset, seed: int) -> np.ndarray:
    """uint64 [users]: a hash of the user's id and the seed."""
    key = seed.to_bytes(8, "little")
    return np.array(
        [
            int.from_bytes(
                hashlib.blake2b(user_id.encode("utf-8"), digest_size=8, key=key).digest(), "little"
            )
            for user_id in dataset.user_ids
        ],
        np.uint64,
    )


def _places_in_runs(counts: np.ndarray) -> np.ndarray:
    """0, 1, .. within each of several stretches of these lengths."""
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
