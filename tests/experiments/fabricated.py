"""Comparison cells with invented ranks, and their metrics computed a second time."""

import math

import numpy as np
import polars as pl

from experiments.comparison.cells import RANKS_FILE, Cell
from hiertcn_jax.scoring.metric_sums import MetricSums
from hiertcn_jax.scoring.metrics import METRICS, RankedEvents

ITEMS = 400

EVENTS = [
    (user, session, position)
    for user in range(12)
    for session, length in ((3, 1 + user % 4), (4, 2))
    for position in range(length)
]
"""(user, session, position): users have 3 to 6 events, so means over users differ from events'."""

COUNTS = np.arange(ITEMS + 2) % 7
"""Training events of each row of the item table."""


def list_of(rank):
    """The top items of an event; others where its rank is another."""
    return [2 + int(rank) * step % ITEMS for step in (1, 3, 7)] + 17 * [0]


def fabricate(directory, model, seed, rank_n, speeds=(1000.0, 50.0), **values):
    """A cell that gave EVENTS these ranks."""
    user_n, session_n, position_n = np.array(EVENTS).T
    sums = MetricSums(ITEMS, COUNTS)
    listed_nk = np.array([list_of(rank) for rank in rank_n])
    sums.add(rank_n, user_n.astype(np.uint64), session_n, position_n, listed_nk=listed_nk)
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
    if metric == "log_popularity@20":
        return np.mean([math.log(1 + COUNTS[item]) for item in list_of(rank)[:3]])
    if metric in ("mrr", "mrp"):
        return 1 / rank if metric == "mrr" else rank / ITEMS
    event = RankedEvents(np.array([rank]), ITEMS, np.array([list_of(rank)]), COUNTS)
    return METRICS[metric].of_events(event)[0]


def plain_mean(metric, group, average, rank_n):
    """The mean over the group's events, or over users of the means over theirs."""
    by_user = {}
    for (user, _, position), rank in zip(EVENTS, rank_n, strict=True):
        if group == "all" or (group == "first") == (position == 0):
            by_user.setdefault(user, []).append(rank)
    if metric == "coverage@20":
        items = {item for of_user in by_user.values() for rank in of_user for item in list_of(rank)}
        return len(items - {0}) / ITEMS
    by_user = {
        user: [plain_metric(metric, rank) for rank in of_user] for user, of_user in by_user.items()
    }
    if average == "users":
        return np.mean([np.mean(values) for values in by_user.values()])
    return np.mean(np.concatenate(list(by_user.values())))
