"""From predictions to the loss that the configs name: candidates, scores, logQ, averaging."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from hiertcn_jax import losses
from hiertcn_jax.batch import Batch
from hiertcn_jax.config import LossConfig, ModelConfig, require_compatible
from hiertcn_jax.embedding import ItemTable, scoring_rows
from hiertcn_jax.negatives import (
    Proposal,
    Source,
    popularity_proposal,
    sample_candidates,
    uniform_proposal,
)


def make_sources(config: LossConfig, counts_v: np.ndarray | None) -> tuple[Source, ...]:
    """The sources of negatives that a loss names; none for a loss that needs none.

    Args:
      config: `negatives` and `popularity_alpha` are read.
      counts_v: Events of each row of the item table in the fitted part; 0 at rows 0 and 1. None in
        `given` mode, where the batches bring the log-probabilities.
    """
    if not config.needs_negatives:
        return ()

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
        for source, count in config.negatives
    )


def event_loss(
    u_bld: Float[Array, "b l d"],
    batch: Batch,
    items: ItemTable,
    sources: Sequence[Source],
    key: PRNGKeyArray,
    loss_config: LossConfig,
    model_config: ModelConfig,
) -> losses.LossSum:
    """Sum of the weighted losses of a batch's events, and the sum of their weights.

    Args:
      u_bld: Predictions.
      batch: Targets, weights, and negatives where the loader drew them.
      items: The rows that the batch's ids point into.
      sources: Of `make_sources`; with the log-probabilities of the same rows.
      key: Key of this step's negatives.
      loss_config: Which loss.
      model_config: `normalize` and `dtype` are read.

    Raises:
      ValueError: The loss does not go with the model's `item_mode`.
    """
    require_compatible(model_config, loss_config)
    targets_bl, weight_bl = batch.item_ids_bl, batch.loss_weight_bl
    if loss_config.per_user:
        weight_bl = losses.per_user_weight(weight_bl, batch.session_bl, batch.starts_user_bs)
    u_bld = u_bld.astype(jnp.dtype(model_config.dtype))
    table_ud, bias_u = scoring_rows(items, model_config)
    if loss_config.name == "cross_entropy":
        return losses.cross_entropy(u_bld, table_ud, bias_u, targets_bl, weight_bl)
    if loss_config.name == "l2":
        return losses.l2(u_bld, table_ud, targets_bl, weight_bl)

    candidates = sample_candidates(
        key,
        sources,
        targets_bl,
        weight_bl,
        shared=not loss_config.own_negatives,
        drawn=batch.negatives_blk if loss_config.own_negatives else batch.negatives_k,
    )
    corrected = candidates.log_expected_count if loss_config.logq else None
    if loss_config.name == "sampled_softmax" and not loss_config.own_negatives:
        return losses.shared_sampled_softmax(
            u_bld, table_ud, bias_u, targets_bl, weight_bl, candidates.item_ids, corrected
        )
    # The losses ask for the scores first; what differs behind them is bound by name.
    scored = (
        losses.target_scores(u_bld, table_ud, bias_u, targets_bl, weight_bl),
        losses.candidate_scores(u_bld, table_ud, bias_u, candidates.item_ids, weight_bl),
        candidates.mask_blk,
        weight_bl,
    )
    if loss_config.name == "sampled_softmax":
        return losses.sampled_softmax(*scored, corrected)
    if loss_config.name == "nce":
        return losses.nce(*scored, loss_config.nce_weight)
    if loss_config.name == "bpr":
        return losses.bpr(*scored)
    hinge = {
        "hinge_linear": losses.hinge_linear,
        "hinge_sigmoid": losses.hinge_sigmoid,
        "hinge_logsigmoid": losses.hinge_logsigmoid,
    }[loss_config.name]
    return hinge(*scored, loss_config.hinge_delta)


def stream_keys(seed: int, step: jax.Array) -> dict[str, PRNGKeyArray]:
    """The keys of one step, one for each use of randomness; functions of (seed, step) alone."""
    key = jax.random.fold_in(jax.random.key(seed), step)
    return {
        name: jax.random.fold_in(key, index)
        for index, name in enumerate(("dropout", "unknown", "negatives"))
    }
