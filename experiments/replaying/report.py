"""What a replay found: averages, and the same by period, by age of the item, and of the user."""

from typing import Any

import numpy as np
import polars as pl

from data_pipelines.raw.times import to_iso
from experiments.judging.slices import Slice, slice_metrics
from experiments.replaying.walk import Periods
from experiments.runs.data import Data
from hiertcn_jax.batch import FIRST_ITEM_ID
from hiertcn_jax.scoring.metric_sums import MetricSums, user_keys

_HOURS = (1, 6, 24, 72, 168)
_AGES = ("< 1", "1-6", "6-24", "24-72", "72-168", "168+")
_BEFORE = (1, 5, 20, 100)
_EVENTS = ("0", "1-4", "5-19", "20-99", "100+")
_AVERAGES = ("events", "recall@20", "mrr")


def summarize(ranks: pl.DataFrame, data: Data, periods: Periods) -> dict[str, Any]:
    """The figures of a row, ready for JSON.

    Args:
      ranks: Of its scored events, `scoring.COLUMNS`.
      data: The log, with the live catalogue.
      periods: The spans of time.

    Returns:
      {"events", "events_hash", "all" | "first" | "next": {"events", "recall@20", "mrr"}, "slices":
      {"time" | "item_age" | "user_age": as `slice_metrics`}, "events_per_s", "updates" (how often
      it learned), "train_seconds" (what all of that took)}.
    """
    sums = MetricSums(data.vocabulary.size - FIRST_ITEM_ID)
    names = ("rank", "session", "position", "user_position", "item", "time", "start")
    rank_n, session_n, position_n, before_n, item_n, time_n, start_n = (
        ranks[name].to_numpy() for name in names
    )
    keys_n = user_keys(ranks["user_id"])
    sums.add(rank_n, keys_n, session_n, position_n)
    result = sums.result()
    hours_n = (time_n - data.vocabulary.known_from_v[item_n]) / 3600
    _, user_n = np.unique(keys_n, return_inverse=True)
    cut_by = {
        "time": Slice(
            "start of the period, UTC",
            tuple(to_iso(1000 * start)[:16] for start in periods.starts),
            periods.number_of(start_n),
        ),
        "item_age": Slice(
            "hours since the first event of the item", _AGES, np.digitize(hours_n, _HOURS)
        ),
        "user_age": Slice("earlier events of the user", _EVENTS, np.digitize(before_n, _BEFORE)),
    }
    parts = ranks.select("seconds", "train_seconds").unique()
    return {
        "events": result["events"],
        "events_hash": result["events_hash"],
        **{
            group: {name: result[group][name] for name in _AVERAGES}
            for group in ("all", "first", "next")
        },
        "slices": slice_metrics(cut_by, rank_n, user_n),
        "events_per_s": result["events"] / parts["seconds"].sum(),
        "updates": len(parts),
        "train_seconds": parts["train_seconds"].sum(),
    }
