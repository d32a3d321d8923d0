"""Comparison cells with invented ranks, and their metrics computed a second time."""

import numpy as np
import polars as pl

from experiments.comparison.cells import RANKS_FILE, Cell
from hiertcn_jax.scoring.metric_sums import MetricSums

ITEMS = 400

EVENTS = [
    (user, session, position)
    for user in range(12)
    for session, length in ((3, 1 + user % 4), (4, 2))
    for position in range(length)
]
"""(user, session, position): users have 3 to 6 events, so means over users differ from events'."""


def fabricate(directory, model, seed, rank_n, speeds=(1000.0, 50.0), **values):
    """A cell that gave EVENTS these ranks."""
    user_n, session_n, position_n = np.array(EVENTS).T
    sums = MetricSums(ITEMS)
    sums.add(rank_n, user_n.astype(np.uint64), session_n, position_n)
    directory = directory / model / str(seed)
    directory.mkdir(parents=True)
    frame = pl.DataFrame(
        {
            "user_id": [f"u{user:02d}" for user in user_n],
            "session": session_n,
            "position": position_n,
            "item_id": ["i"] * len(EVENTS),
            "rank": rank_n,
        }
    )
    # Each model has its own order of events.
    frame.sample(fraction=1, shuffle=True, seed=seed).write_parquet(directory / RANKS_FILE)
    train, score = speeds
    figures = {"parameters": None, "train_events_per_s": train, "score_events_per_s": score}
    cell = {"metrics": sums.result(), **figures, "causal": False, **values}
    return Cell(model, seed, directory, cell)


def plain_metric(metric, rank):
    """A metric of one event."""
    if metric.startswith("recall@"):
        return float(rank <= int(metric.removeprefix("recall@")))
    if metric == "ndcg@10":
        return 1 / np.log2(1 + rank) if rank <= 10 else 0.0
    return 1 / rank if metric == "mrr" else rank / ITEMS


def plain_mean(metric, group, average, rank_n):
    """The mean over the group's events, or over users of the means over theirs."""
    by_user = {}
    for (user, _, position), rank in zip(EVENTS, rank_n, strict=True):
        if group == "all" or (group == "first") == (position == 0):
            by_user.setdefault(user, []).append(plain_metric(metric, rank))
    if average == "users":
        return np.mean([np.mean(values) for values in by_user.values()])
    return np.mean(np.concatenate(list(by_user.values())))
