"""Scores single events from given histories, in the same way for rankers and neural models."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines.embeddings.item_embeddings import ItemEmbeddings
from data_pipelines.histories.record import History
from data_pipelines.lanes.distinct_items import given_rows
from data_pipelines.lanes.loaders import eval_loader
from data_pipelines.lanes.memory_lists import Recall
from experiments.comparison.alterations import ListedHistories, sessions_of
from experiments.judging.rankers import context_before
from experiments.judging.streamed_ranks import own_queries
from experiments.runs.restore import Restored
from hiertcn_jax.baselines import Ranker
from hiertcn_jax.batch import FIRST_ITEM_ID, PADDING_ID, Bucket
from hiertcn_jax.models import build
from hiertcn_jax.models.eval_step import make_eval_step
from hiertcn_jax.scoring.keys import item_keys
from hiertcn_jax.scoring.scores import row_scores

_BUCKET = Bucket(lanes=2, events=32, sessions=16)
"""Few lanes, so that users follow one another, and any leftover state would show."""


class EventIndex(NamedTuple):
    """An event: index of its history among those given, and its index in the history."""

    history: int
    event: int


Scorer = Callable[[Sequence[History], Sequence[EventIndex]], np.ndarray]
"""Scores [n, v] of the catalogue at n events, from these histories; the model is fixed."""


def ranker_scorer(ranker: Ranker) -> Scorer:
    """The scores of a fitted ranker."""

    def score(histories: Sequence[History], events_asked: Sequence[EventIndex]) -> np.ndarray:
        rows = []
        for one in events_asked:
            history = histories[one.history]
            session = int(sessions_of(history)[one.event])
            # A copy, because a ranker may reuse the array.
            rows.append(np.array(ranker.score(context_before(history, session, one.event))))
        return np.stack(rows)

    return score


def model_scorer(
    restored: Restored, given: ItemEmbeddings | None, recall: Recall | None = None
) -> Scorer:
    """The scores of a trained model, in float32, because rounding would hide small differences.

    Args:
      restored: The model.
      given: Its given embeddings, if they are not learned.
      recall: The log's memory, for a model with terms of it: others' counts stay as they are.
    """
    config = dataclasses.replace(restored.config, dtype="float32")
    model = build(config)
    step = make_eval_step(model)
    items = restored.params["items"]
    if given is not None:
        given_vd = given.rows(np.arange(FIRST_ITEM_ID, given.table_rows))
        items = items._replace(input_vd=jnp.concatenate([items.input_vd, given_vd]))
    keys = item_keys(items, config)

    def score(histories: Sequence[History], events_asked: Sequence[EventIndex]) -> np.ndarray:
        carry, numbers, parts = model.init_carry(_BUCKET.lanes), [], []
        source, rows = ListedHistories(histories), given_rows(given)
        known = None if recall is None else recall.with_users(source)
        loader = eval_loader(source, _BUCKET, split=None, item_rows=rows, recall=known, prefetch=0)
        number_of = {one: number for number, one in enumerate(events_asked)}
        for batch, info in loader:
            queries, carry = step(restored.params, batch, carry)
            user_bl = np.take_along_axis(info.user_bs, batch.session_bl, axis=1)
            user_bl = np.where(info.item_ids_bl == PADDING_ID, -1, user_bl)
            events = zip(user_bl.flat, batch.user_position_bl.flat, strict=True)
            number_n = np.array([number_of.get(EventIndex(*event), -1) for event in events])
            here_n = np.flatnonzero(number_n >= 0)
            numbers.append(number_n[here_n])
            parts.append(own_queries(queries, here_n))
        order_n = np.argsort(np.concatenate(numbers))
        if len(order_n) < len(events_asked):
            raise ValueError(
                f"{len(events_asked) - len(order_n)} of {len(events_asked)} indices hold no event"
            )
        found = jax.tree.map(lambda *x: jnp.asarray(np.concatenate(x)[order_n]), *parts)
        return np.asarray(row_scores(found, keys))

    return score
