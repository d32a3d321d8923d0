"""Scores of single events from given histories, the same way for rankers and neural models."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from data_pipelines.embeddings.item_embeddings import ItemEmbeddings
from data_pipelines.histories.record import History
from data_pipelines.lanes.distinct_items import given_rows
from data_pipelines.lanes.loaders import eval_loader
from experiments.comparison.alterations import ListedHistories, sessions_of
from experiments.judging.rankers import context_before
from experiments.runs.restore import Restored
from hiertcn_jax.baselines import Ranker
from hiertcn_jax.batch import FIRST_ITEM_ID, PADDING_ID, Bucket
from hiertcn_jax.models import build
from hiertcn_jax.models.eval_step import make_eval_step
from hiertcn_jax.scoring.item_table import scoring_rows

_BUCKET = Bucket(lanes=2, events=32, sessions=16)
"""Few lanes: users stand behind one another, and what one leaves behind would show."""


class Place(NamedTuple):
    """An event: index of its history among those given, and its index in the history."""

    history: int
    event: int


Scorer = Callable[[Sequence[History], Sequence[Place]], np.ndarray]
"""Scores [n, v] of the catalogue at n events, from these histories; the model is fixed."""


def ranker_scorer(ranker: Ranker) -> Scorer:
    """The scores of a fitted ranker."""

    def score(histories: Sequence[History], places: Sequence[Place]) -> np.ndarray:
        rows = []
        for place in places:
            history = histories[place.history]
            session = int(sessions_of(history)[place.event])
            # A copy: a ranker may give the same array out again.
            rows.append(np.array(ranker.score(context_before(history, session, place.event))))
        return np.stack(rows)

    return score


def model_scorer(restored: Restored, given: ItemEmbeddings | None) -> Scorer:
    """The scores of a trained model, in float32: rounding would hide small differences.

    Args:
      restored: The model.
      given: Its given embeddings, if they are not learned.
    """
    config = dataclasses.replace(restored.config, dtype="float32")
    model = build(config)
    step = make_eval_step(model)
    items = restored.params["items"]
    if given is not None:
        given_vd = given.rows(np.arange(FIRST_ITEM_ID, given.table_rows))
        items = items._replace(input_vd=jnp.concatenate([items.input_vd, given_vd]))
    table_vd, bias_v = map(np.asarray, scoring_rows(items, config))
    bias_v = np.zeros(len(table_vd)) if bias_v.ndim == 0 else bias_v

    def score(histories: Sequence[History], places: Sequence[Place]) -> np.ndarray:
        carry = model.init_carry(_BUCKET.lanes)
        u_nd = np.full((len(places), table_vd.shape[1]), np.nan, np.float32)
        source, rows = ListedHistories(histories), given_rows(given)
        loader = eval_loader(source, _BUCKET, split=None, item_rows=rows, prefetch=0)
        for batch, info in loader:
            u_bld, carry = step(restored.params, batch, carry)
            user_bl = np.take_along_axis(info.user_bs, batch.session_bl, axis=1)
            user_bl = np.where(info.item_ids_bl == PADDING_ID, -1, user_bl)
            for number, place in enumerate(places):
                here_bl = (user_bl == place.history) & (batch.user_position_bl == place.event)
                if here_bl.any():
                    u_nd[number] = np.asarray(u_bld)[here_bl][0]
        return u_nd @ table_vd.T + bias_v

    return score
