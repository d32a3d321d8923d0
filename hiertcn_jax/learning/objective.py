"""Computes the configured loss from predictions: candidates, scores, logQ, averaging."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from hiertcn_jax.batch import Batch
from hiertcn_jax.config import ModelConfig
from hiertcn_jax.devices.mesh import Layout
from hiertcn_jax.learning import losses
from hiertcn_jax.learning.candidate_losses import Formula, candidate_loss, own_sampled_softmax
from hiertcn_jax.learning.item_mode import require_compatible
from hiertcn_jax.learning.loss_config import LossConfig
from hiertcn_jax.learning.negatives import (
    Candidates,
    Proposal,
    Source,
    given_candidates,
    popularity_proposal,
    sample_candidates,
    uniform_proposal,
    without_own,
)
from hiertcn_jax.learning.softmax_losses import cross_entropy, shared_sampled_softmax
from hiertcn_jax.scoring.item_table import ItemTable
from hiertcn_jax.scoring.keys import item_keys
from hiertcn_jax.scoring.scores import Queries


def make_sources(config: LossConfig, counts_v: np.ndarray | None) -> tuple[Source, ...]:
    """The sources of drawn negatives of a loss; empty if it needs none.

    Args:
      config: Uses `negatives` and `popularity_alpha`.
      counts_v: Events of each row of the item table in the fitted part; 0 at rows 0 and 1. None in
        `given` mode, where the batches bring the log-probabilities.
    """

    def proposal(source: str) -> Proposal:
        if counts_v is None:
            return Proposal(log_q_v=None)
        if source == "uniform":
            return uniform_proposal(len(counts_v))
        return popularity_proposal(
            counts_v, 1.0 if source == "in_batch" else config.popularity_alpha
        )

    return tuple(
        Source(proposal(source), count, in_batch=source == "in_batch")
        for source, count in config.drawn_negatives
    )


def event_loss(
    queries: Queries,
    batch: Batch,
    items: ItemTable,
    sources: Sequence[Source],
    key: PRNGKeyArray,
    loss_config: LossConfig,
    model_config: ModelConfig,
    layout: Layout | None = None,
) -> losses.LossSum:
    """Sum of the weighted losses of a batch's events, and the sum of their weights.

    Args:
      queries: The model's output at each event, [b, l, ..]. Items of additions are ids like those
        of the batch: positions in `distinct_u` if it has one.
      batch: Targets, weights, and the negatives that the loader added: impressions, and in `rows`
        mode those it drew.
      items: The rows that the batch's ids refer to.
      sources: See `make_sources`; with the log-probabilities of the same rows.
      key: Key of this step's negatives.
      loss_config: The loss.
      model_config: Uses `normalize` and `dtype`.
      layout: Where lanes and table are, if on several devices.

    Raises:
      ValueError: The loss contradicts the model's `item_mode`; or the loss uses impressions, and
        the batch has none.
    """
    require_compatible(model_config, loss_config)
    targets_bl, weight_bl = batch.item_ids_bl, batch.loss_weight_bl
    if loss_config.per_user:
        weight_bl = losses.per_user_weight(weight_bl, batch.session_bl, batch.starts_user_bs)
    scored = (
        queries.cast(jnp.dtype(model_config.dtype)),
        item_keys(items, model_config),
        targets_bl,
        weight_bl,
    )
    mesh = None if layout is None else layout.mesh
    if loss_config.name == "cross_entropy":
        return cross_entropy(*scored, layout=layout)
    if loss_config.name == "l2":
        return losses.l2(*scored)

    own, drawn = _candidates(batch, sources, key, loss_config)
    if loss_config.name == "sampled_softmax":
        if drawn is None or drawn.item_ids.ndim > 1:
            return own_sampled_softmax(*scored, own, drawn, loss_config.logq, mesh)
        corrected = drawn.log_expected_count if loss_config.logq else None
        return shared_sampled_softmax(*scored, drawn.item_ids, corrected, own, layout)
    sets = [one for one in (own, drawn) if one is not None]
    return candidate_loss(_formula(loss_config), *scored, sets, mesh)


def _formula(config: LossConfig) -> Formula:
    """The configured formula, with its constants."""
    if config.name == "nce":
        return functools.partial(losses.nce, nce_weight=config.nce_weight)
    if config.name == "bpr":
        return losses.bpr
    hinge = {
        "hinge_linear": losses.hinge_linear,
        "hinge_sigmoid": losses.hinge_sigmoid,
        "hinge_logsigmoid": losses.hinge_logsigmoid,
    }[config.name]
    return functools.partial(hinge, delta=config.hinge_delta)


def _candidates(
    batch: Batch, sources: Sequence[Source], key: PRNGKeyArray, config: LossConfig
) -> tuple[Candidates | None, Candidates | None]:
    """Each event's own negatives, and the drawn ones; None for a kind that the config lacks."""
    given_blk, count = batch.negatives_blk, config.impressions
    own = drawn_blk = None
    if count:
        if given_blk is None or given_blk.shape[-1] < count:
            raise ValueError(f"negatives=impressions:{count}: the batch has no impressions")
        own = given_candidates(given_blk[..., :count], batch.item_ids_bl)
    if given_blk is not None and given_blk.shape[-1] > count:
        drawn_blk = given_blk[..., count:]
    if not sources:
        return own, None
    drawn = sample_candidates(
        key,
        sources,
        batch.item_ids_bl,
        batch.loss_weight_bl,
        shared=not config.own_negatives,
        drawn=drawn_blk if config.own_negatives else batch.negatives_k,
    )
    return own, drawn if own is None else without_own(drawn, own)


def stream_keys(seed: int, step: jax.Array) -> dict[str, PRNGKeyArray]:
    """The random keys of one step, one for each purpose; functions of (seed, step) only."""
    key = jax.random.fold_in(jax.random.key(seed), step)
    return {
        name: jax.random.fold_in(key, index)
        for index, name in enumerate(("dropout", "unknown", "negatives"))
    }
