"""Fits and scores rankers without a neural network, on the very events of the neural models."""

import typing
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from data_pipelines.events import blocks_of
from data_pipelines.histories.record import History, Split
from data_pipelines.loaders import eval_loader
from experiments.data import Data
from experiments.evaluation import Collector, Evaluation, ScoredEvents, scored_events
from experiments.shown_lists import (
    ShownLists,
    ShownRanks,
    find_lists,
    has_impressions,
    rank_in_list,
)
from hiertcn_jax.baselines import Context, FittedHistory, Ranker
from hiertcn_jax.baselines.registry import RANKERS
from hiertcn_jax.batch import FIRST_ITEM_ID, Bucket

_BUCKET = Bucket(lanes=64, events=256, sessions=256)
"""Rankers see one event at a time; the bucket only decides how many are listed at once."""

_GIVEN = ("rows", "return")
_JSON_TYPES: dict[type, tuple[type, ...]] = {
    int: (int,),
    float: (int, float),
    bool: (bool,),
    str: (str,),
}


def make_ranker(name: str, rows: int, arguments: Mapping[str, Any]) -> Ranker:
    """A ranker with arguments that come from a file.

    Args:
      name: One of RANKERS.
      rows: `v`, rows of the item table.
      arguments: By name, JSON values.

    Raises:
      ValueError: There is no such argument, or a value is of another type or out of range.
    """
    hints = typing.get_type_hints(RANKERS[name].__init__)  # type: ignore[misc]
    known = {argument: hint for argument, hint in hints.items() if argument not in _GIVEN}
    for argument, value in arguments.items():
        if argument not in known:
            names = ", ".join(known) or "it has none"
            raise ValueError(f"{argument}: no such argument of {name}: {names}")
        if type(value) not in _JSON_TYPES[known[argument]]:
            raise ValueError(f"{argument}={value}: must be {known[argument].__name__}")
    return RANKERS[name](rows, **arguments)


def fitted_histories(data: Data, fit_on: str) -> Iterator[FittedHistory]:
    """The fitted part of every user's history; users without one are left out."""
    last = Split.TRAIN if fit_on == "train" else Split.VALID
    for _, histories in blocks_of(data.histories):
        for history in histories:
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
        contexts = (
            context_before(histories[user], int(session), int(end))
            for user, session, end in zip(
                events.user_n, events.session_n, events.user_position_n, strict=True
            )
        )
        lists = _lists_of(data, events)
        others_of = {}
        if lists is not None:
            others_of = dict(zip(lists.index_n.tolist(), lists.others_nk, strict=True))
        rank_n, shown_n = [], []
        for place, (context, item) in enumerate(zip(contexts, events.item_n.tolist(), strict=True)):
            scores_v = ranker.score(context)
            rank_n.append(rank_of(scores_v, item))
            if place in others_of:
                shown_n.append(rank_in_list(scores_v, item, others_of[place]))
        shown = None
        if lists is not None:
            shown = ShownRanks(lists.index_n, np.array(shown_n), lists.size_n)
        collector.add(element, events, np.array(rank_n), shown)
    return collector.result()


def _lists_of(data: Data, events: ScoredEvents) -> ShownLists | None:
    if not has_impressions(data):
        return None
    return find_lists(data, events.user_n, events.user_position_n)


def context_before(history: History, session: int, end: int) -> Context:
    """What is known of a user before an event.

    Args:
      history: The user's.
      session: Index of the event's session in it.
      end: Index of the event in it.
    """
    starts = np.concatenate([[0], np.cumsum(history.session_lengths)])
    return Context(
        history.item_ids[:end],
        history.times[:end],
        previous_start=int(starts[max(session - 1, 0)]),
        session_start=int(starts[session]),
        time=int(history.times[end]),
    )


def rank_of(scores_v: np.ndarray, item: int) -> float:
    """1 + items above + half of the other items with an equal score, in float32.

    Raises:
      ValueError: A score is NaN.
    """
    scores_v = scores_v.astype(np.float32)
    competitors = scores_v[FIRST_ITEM_ID:]
    if np.isnan(competitors).any():
        raise ValueError("scores: NaN")
    target = scores_v[item]
    above = int(np.count_nonzero(competitors > target))
    equal = int(np.count_nonzero(competitors == target)) - 1
    return 1 + above + equal / 2
