"""Fits and scores rankers without a neural network, on the same events as neural models."""

import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from data_pipelines.errors import DataError
from data_pipelines.histories.events import blocks_of
from data_pipelines.histories.record import History, Split
from data_pipelines.lanes.loaders import eval_loader
from data_pipelines.progress import Progress
from experiments.judging.collector import (
    Collector,
    Evaluation,
    ScoredEvents,
    open_catalogue,
    scored_events,
)
from experiments.judging.masking import seen_items
from experiments.judging.ranker_levels import RankerAtLevel
from experiments.judging.shown_lists import (
    ShownLists,
    ShownRanks,
    find_lists,
    has_impressions,
    rank_in_list,
)
from experiments.runs.data import Data
from experiments.runs.recall import last_counted
from hiertcn_jax.baselines import Context, FittedHistory, Ranker
from hiertcn_jax.baselines.registry import AT_LEVELS, RANKERS
from hiertcn_jax.batch import FIRST_ITEM_ID, PADDING_ID, Bucket
from hiertcn_jax.memory.levels import FITTED, Level
from hiertcn_jax.scoring.metrics import TOP
from hiertcn_jax.scoring.scores import rank_among
from hiertcn_jax.scoring.top_items import top_items

_BUCKET = Bucket(lanes=64, events=256, sessions=256)
"""Rankers score one event at a time; the bucket only decides how many are listed at once."""

_VECTORS = "item_vectors_vd"
"""The argument of rankers for given embeddings; no settings file can set it."""

_JSON_TYPES: dict[type, tuple[type, ...]] = {
    int: (int,),
    float: (int, float),
    bool: (bool,),
    str: (str,),
}


def make_ranker(
    name: str, rows: int, arguments: Mapping[str, Any], item_vectors_vd: np.ndarray | None = None
) -> Ranker:
    """A ranker with arguments from a file.

    Args:
      name: One of RANKERS.
      rows: `v`, rows of the item table.
      arguments: By name, JSON values.
      item_vectors_vd: Given embeddings, if any, for a ranker that takes them.

    Raises:
      ValueError: There is no such argument, or a value has another type or is out of range.
    """
    hints = _hints(name)
    known = {argument: hint for argument, hint in hints.items() if hint in _JSON_TYPES}
    del known["rows"]
    for argument, value in arguments.items():
        if argument not in known:
            names = ", ".join(known) or "it has none"
            raise ValueError(f"{argument}: no such argument of {name}: {names}")
        if type(value) not in _JSON_TYPES[known[argument]]:
            raise ValueError(f"{argument}={value}: must be {known[argument].__name__}")
    given = {} if item_vectors_vd is None else {_VECTORS: item_vectors_vd}
    return RANKERS[name](rows, **arguments, **given)


def ranker_at(
    name: str,
    rows: int,
    arguments: Mapping[str, Any],
    level: Level,
    item_vectors_vd: np.ndarray | None = None,
) -> Ranker:
    """`make_ranker` for a ranker whose counts, if it is one of AT_LEVELS, are of some level.

    At `fitted` it is as its arguments say. At other levels it is causal: it looks for neighbours
    among the sessions that ended before what is known.

    Raises:
      ValueError: As for `make_ranker`, or it cannot be causal.
    """
    if level == FITTED or name not in AT_LEVELS:
        return make_ranker(name, rows, arguments, item_vectors_vd)
    causal = {"causal": True} if "causal" in _hints(name) else {}
    try:
        ranker = make_ranker(name, rows, {**arguments, **causal}, item_vectors_vd)
    except ValueError as error:
        raise ValueError(f"counts={level}: {error}") from error
    return RankerAtLevel(ranker, level)


def takes_embeddings(name: str) -> bool:
    """Whether a ranker uses item embeddings; given ones then replace its own."""
    return _VECTORS in _hints(name)


def ranker_for(
    name: str, data: Data, arguments: Mapping[str, Any], level: Level = FITTED
) -> Ranker:
    """`ranker_at` for a catalogue, with its given embeddings if the ranker uses some."""
    vectors_vd, rows = None, data.vocabulary.size
    if data.embeddings is not None and takes_embeddings(name):
        vectors_vd = np.zeros((rows, data.embeddings.width), np.float32)
        vectors_vd[FIRST_ITEM_ID:] = data.embeddings.rows(np.arange(FIRST_ITEM_ID, rows))
    return ranker_at(name, rows, arguments, level, vectors_vd)


def _hints(name: str) -> dict[str, Any]:
    return typing.get_type_hints(RANKERS[name].__init__)  # type: ignore[misc]


def fitted_histories(data: Data, fit_on: str, level: Level = FITTED) -> Iterator[FittedHistory]:
    """The part of every user's history whose events count; users without one are left out."""
    last = last_counted(fit_on, level)
    cut = data.cut(last)
    for _, histories in blocks_of(data.histories):
        for history in histories:
            sessions = int(np.sum(history.session_splits <= last))
            lengths_m = history.session_lengths[:sessions]
            events = int(lengths_m.sum())
            if cut is not None and events and history.times[events - 1] >= cut:
                # Times never decrease, so the cut is in the last session.
                events = int(np.searchsorted(history.times[:events], cut))
                lengths_m = np.append(lengths_m[:-1], events - lengths_m[:-1].sum())
            if events:
                yield FittedHistory(history.item_ids[:events], history.times[:events], lengths_m)


def fit_ranker(name: str, ranker: Ranker, histories: Iterable[FittedHistory]) -> None:
    """Fits a ranker.

    Args:
      name: What it is called in a comparison or a sweep.
      ranker: Not fitted yet.
      histories: What it is fitted on.

    Raises:
      DataError: Its settings do not go with the log, such as vectors wider than the catalogue.
    """
    try:
        ranker.fit(histories)
    except ValueError as error:
        raise DataError(
            f"{name}: {error}; change that setting of {name} (--settings, or --space in a sweep), "
            f"or leave {name} out"
        ) from error


def evaluate_ranker(
    ranker: Ranker, data: Data, split: Split, mask_seen: str = "none", name: str = "a ranker"
) -> Evaluation:
    """Ranks and metrics of a fitted ranker, by the same contract as for a neural model.

    Args:
      ranker: The ranker.
      data: The data.
      split: VALID or TEST.
      mask_seen: The items to leave out of the ranking, see `EvalConfig`.
      name: Its name, where progress is shown.

    Raises:
      ValueError: A score is NaN, or no user has a session of `split`.
    """
    collector, opened = Collector(data), open_catalogue(data, knows_all=True)
    with Progress(f"scoring {name}", "events", data.known_events(split)) as progress:
        for element in eval_loader(data.histories, _BUCKET, split=split, opened=opened):
            events = scored_events(element)
            rank_n, listed_nk, shown = _rank_events(ranker, data, events, mask_seen, progress)
            collector.add(element, events, rank_n, listed_nk, shown)
    return collector.result()


def _rank_events(
    ranker: Ranker, data: Data, events: ScoredEvents, mask_seen: str, progress: Progress
) -> tuple[np.ndarray, np.ndarray, ShownRanks | None]:
    """The rank and top items of each event; with impressions also ranks within what was shown."""
    users = np.unique(events.user_n).tolist()
    histories = dict(zip(users, data.histories.__getitems__(users), strict=True))
    contexts = (
        context_before(histories[user], int(session), int(end))
        for user, session, end in zip(
            events.user_n, events.session_n, events.user_position_n, strict=True
        )
    )
    lists, seen_nk = _lists_of(data, events), seen_items(data, events, mask_seen)
    opened = open_catalogue(data)
    others_of = {}
    if lists is not None:
        others_of = dict(zip(lists.index_n.tolist(), lists.others_nk, strict=True))
    rank_n, shown_n = [], []
    listed_nk = np.full((len(events.item_n), TOP), PADDING_ID, np.int32)
    for number, (context, item) in enumerate(zip(contexts, events.item_n.tolist(), strict=True)):
        scores_v = ranker.score(context)
        progress.add()
        seen_k = np.zeros(0, np.int64) if seen_nk is None else seen_nk[number]
        if opened is not None:
            unknown_k = np.flatnonzero(opened.known_from_v >= context.time)
            seen_k = np.concatenate([seen_k, unknown_k])
        rank_n.append(rank_of(scores_v, item, seen_k))
        listed = top_items(scores_v, TOP, seen_k)
        listed_nk[number, : len(listed)] = listed
        if number in others_of:
            shown_n.append(rank_in_list(scores_v, item, others_of[number]))
    shown = None
    if lists is not None:
        shown = ShownRanks(lists.index_n, np.array(shown_n), lists.size_n)
    return np.array(rank_n), listed_nk, shown


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


def rank_of(scores_v: np.ndarray, item: int, seen_k: npt.ArrayLike = ()) -> float:
    """The rank of the target among the catalogue, in float32.

    Args:
      scores_v: Scores; rows before FIRST_ITEM_ID do not compete.
      item: The target.
      seen_k: Rows that do not compete either, but for the target, which always does.

    Raises:
      ValueError: A score is NaN.
    """
    if np.isnan(scores_v[FIRST_ITEM_ID:]).any():
        raise ValueError("scores: NaN")
    competes_v = np.ones(len(scores_v), bool)
    competes_v[:FIRST_ITEM_ID] = competes_v[item] = False
    competes_v[np.asarray(seen_k, np.int64)] = False
    return rank_among(scores_v, scores_v[item], competes_v)
