"""Fits and scores rankers without a neural network, on the very events of the neural models."""

from collections.abc import Iterator

import numpy as np

from data_pipelines.histories.record import History, Split
from data_pipelines.loaders import eval_loader
from experiments.data import Data
from experiments.evaluation import Collector, Evaluation, scored_events
from hiertcn_jax.baselines import Context, FittedHistory, Ranker
from hiertcn_jax.batch import FIRST_ITEM_ID, Bucket

_READ_USERS = 1024
"""Histories that are read at a time."""

_BUCKET = Bucket(lanes=64, events=256, sessions=256)
"""Rankers see one event at a time; the bucket only decides how many are listed at once."""


def fitted_histories(data: Data, fit_on: str) -> Iterator[FittedHistory]:
    """The fitted part of every user's history; users without one are left out."""
    last = Split.TRAIN if fit_on == "train" else Split.VALID
    for start in range(0, len(data.histories), _READ_USERS):
        users = range(start, min(start + _READ_USERS, len(data.histories)))
        for history in data.histories.__getitems__(list(users)):
            sessions = int(np.sum(history.session_splits <= last))
            events = int(history.session_lengths[:sessions].sum())
            if events:
                yield FittedHistory(
                    history.item_ids[:events],
                    history.times[:events],
                    history.session_lengths[:sessions],
                )


def evaluate_ranker(ranker: Ranker, data: Data, split: Split) -> Evaluation:
    """Ranks and metrics of a fitted ranker, by the same contract as a neural model's.

    Raises:
      ValueError: A score is NaN, or no user has a session of `split`.
    """
    collector = Collector(data)
    for element in eval_loader(data.histories, _BUCKET, split=split):
        events = scored_events(element)
        users = np.unique(events.user_n).tolist()
        histories = dict(zip(users, data.histories.__getitems__(users), strict=True))
        rank_n = np.zeros(len(events.item_n))
        for place, (user, position, end, item) in enumerate(
            zip(
                events.user_n, events.position_n, events.user_position_n, events.item_n, strict=True
            )
        ):
            scores_v = ranker.score(_context(histories[user], int(position), int(end)))
            rank_n[place] = _rank(scores_v, int(item))
        collector.add(element, events, rank_n)
    return collector.result()


def _context(history: History, position: int, end: int) -> Context:
    return Context(history.item_ids[:end], history.times[:end], end - position)


def _rank(scores_v: np.ndarray, item: int) -> float:
    """1 + items above + half of the other items with an equal score."""
    competitors = scores_v[FIRST_ITEM_ID:]
    if np.isnan(competitors).any():
        raise ValueError("scores: NaN")
    target = scores_v[item]
    above = int(np.sum(competitors > target))
    equal = int(np.sum(competitors == target)) - 1
    return 1 + above + equal / 2
