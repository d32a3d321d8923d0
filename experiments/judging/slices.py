"""Slices of an evaluation, to see where a model does well and where it does not.

Every scored event is in exactly one bin of each slice:

    position         index of the event in its session
    gap              hours from the end of the previous session to the start of the event's; users'
                     first sessions have their own bin
    sessions         number of the user's earlier sessions
    popularity       decile of the target: items sorted by their fitted events, most first, cut
                     where they make up 10 %, 20 %, ... of all fitted events, so that decile 1 is
                     few items, each with many events
    user             whether the user has fitted sessions

The bins depend only on the data and the events, so they are the same for all models.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from data_pipelines.histories.record import Split
from experiments.judging.collector import ScoredEvents
from experiments.runs.data import Data
from hiertcn_jax.batch import FIRST_ITEM_ID
from hiertcn_jax.scoring.metrics import of_ranks

METRICS = ("recall@20", "mrr")

_COUNT_EDGES = (1, 2, 3, 5, 10)
_COUNT_LABELS = ("0", "1", "2", "3-4", "5-9", "10+")
_GAP_EDGES = (0, 1, 6, 24, 72, 168)
_GAP_LABELS = ("first session", "< 1", "1-6", "6-24", "24-72", "72-168", "168+")
_DECILES = 10


class Slice(NamedTuple):
    """One way to divide the events.

    Attributes:
      title: The property that divides them, with its unit.
      labels: The bins, in order.
      bin_n: int64. The bin of each event.
    """

    title: str
    labels: tuple[str, ...]
    bin_n: np.ndarray


def cut(events: ScoredEvents, data: Data, fit_on: str) -> dict[str, Slice]:
    """All slices by name.

    Args:
      events: The scored events.
      data: Their histories, and the catalogue.
      fit_on: The fitted part: "train" or "train_valid".
    """
    gap_hours_n, fitted_n = _session_facts(events, data, fit_on)
    return {
        "position": Slice(
            "position in the session (events before it)",
            _COUNT_LABELS,
            np.digitize(events.position_n, _COUNT_EDGES),
        ),
        "gap": Slice(
            "hours since the user's last session",
            _GAP_LABELS,
            np.where(events.session_n == 0, 0, np.digitize(gap_hours_n, _GAP_EDGES)),
        ),
        "sessions": Slice(
            "earlier sessions of the user",
            _COUNT_LABELS,
            np.digitize(events.session_n, _COUNT_EDGES),
        ),
        "popularity": Slice(
            "popularity decile of the target (by fitted events, 1: most popular)",
            tuple(str(decile) for decile in range(1, _DECILES + 1)),
            deciles_of_events(data.counts_v(fit_on))[events.item_n],
        ),
        "user": Slice(
            "user with or without fitted sessions", ("new", "known"), fitted_n.astype(np.int64)
        ),
    }


def slice_metrics(
    cut_by: dict[str, Slice], rank_n: np.ndarray, user_n: np.ndarray
) -> dict[str, Any]:
    """Counts and metrics of every bin, averages over its events.

    Args:
      cut_by: The slices.
      rank_n: Rank of each event's target.
      user_n: The user of each event.

    Returns:
      {slice: {"title", "bins": [{"bin", "events", "users", "recall@20", "mrr"}]}}, ready for JSON;
      the metrics of a bin without events are None.
    """
    values_n = {metric: of_ranks(metric, rank_n) for metric in METRICS}
    out: dict[str, Any] = {}
    for name, by in cut_by.items():
        bins = []
        for number, label in enumerate(by.labels):
            of_bin_n = by.bin_n == number
            events = int(of_bin_n.sum())
            # fsum does not depend on the order of the events.
            sums = {metric: math.fsum(value_n[of_bin_n]) for metric, value_n in values_n.items()}
            means = {metric: total / events if events else None for metric, total in sums.items()}
            users = len(np.unique(user_n[of_bin_n]))
            bins.append({"bin": label, "events": events, "users": users, **means})
        out[name] = {"title": by.title, "bins": bins}
    return out


def deciles_of_events(counts_v: np.ndarray) -> np.ndarray:
    """int64 [v]. Which tenth of all events, 0 to 9, contains the middle of each row's events.

    Items with equal counts are treated alike: they share the middle of all their events.

    Args:
      counts_v: Events of each row of the item table; rows before the catalogue are ignored.
    """
    counts = counts_v[FIRST_ITEM_ID:]
    ascending, group, items = np.unique(counts, return_inverse=True, return_counts=True)
    mass = ascending * items
    # Events of the more popular items, and half of those of equally popular ones.
    before = np.cumsum(mass[::-1])[::-1] - mass / 2
    decile = np.minimum(_DECILES * before // max(mass.sum(), 1), _DECILES - 1)
    return np.concatenate([np.zeros(FIRST_ITEM_ID, np.int64), decile.astype(np.int64)[group]])


def _session_facts(events: ScoredEvents, data: Data, fit_on: str) -> tuple[np.ndarray, np.ndarray]:
    """For each event: hours before its session (0 at a user's first), and if its user is fitted."""
    last = Split.TRAIN if fit_on == "train" else Split.VALID
    users, user_place_n = np.unique(events.user_n, return_inverse=True)
    histories = data.histories.__getitems__(users.tolist())
    gaps, fitted = [], []
    for history in histories:
        ends = np.cumsum(history.session_lengths)
        starts = ends - history.session_lengths
        seconds = history.times[starts[1:]] - history.times[ends[:-1] - 1]
        # If sessions interleave, one may begin before the end of the previous one.
        gaps.append(np.concatenate([[0], np.maximum(seconds, 0) / 3600]))
        fitted.append(bool((history.session_splits <= last).any()))
    first_u = np.cumsum([0, *(len(gap) for gap in gaps)])[:-1]
    if not gaps:  # No event is scored.
        return np.zeros(0), np.zeros(0, bool)
    gap_hours_n = np.concatenate(gaps)[first_u[user_place_n] + events.session_n]
    return gap_hours_n, np.array(fitted)[user_place_n]
