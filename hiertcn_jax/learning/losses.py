"""Losses of a batch's events, each as a weighted sum and the sum of weights.

Axes "*e" are those of the events, [b, l] or [n]. The losses here are formulas of scores, which
`candidate_losses` computes; the softmax over candidates that all events share is in
`softmax_losses`. They take

    target_score     [*e]      score of the item that was picked
    negative_score   [*e, k]   scores of the event's candidates
    negative_mask    [*e, k]   False for entries that are no candidate (`Candidates.mask_blk`)
    weight           [*e]      >= 0

and average over the k' <= k candidates that are not masked. An event of weight 0 and a masked
candidate add nothing to the sum, and their gradient is exactly 0, even if they are NaN or
infinite.

Sources: `loss.py` of the authors' release (JiaxuanYou/HierTCN), for the paper arXiv 1904.04381.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from hiertcn_jax.layers.masking import masked_mean, masked_sum, segment_sum, session_members
from hiertcn_jax.scoring.scores import Keys, Queries


class LossSum(NamedTuple):
    """A weighted sum of losses. Sums of parts of a batch add up to the batch's.

    Attributes:
      total: float32 []. Sum over events of weight * loss.
      weight: float32 []. Sum of the weights.
    """

    total: Any
    weight: Any

    def mean(self) -> Float[Array, ""]:
        """`total / weight`; 0 if all weights are 0."""
        return self.total / jnp.where(self.weight > 0, self.weight, 1)


def per_user_weight(
    loss_weight_bl: Float[Array, "b l"],
    session_bl: Int[Array, "b l"],
    starts_user_bs: Bool[Array, "b s"],
) -> Float[Array, "b l"]:
    """Weights with which the mean over events is the mean over users of each user's mean.

    The released code averages this way. A user counts once per batch, however many events the batch
    has of that user; each user's weights sum to 1.

    Args:
      loss_weight_bl: Weight of each event, >= 0.
      session_bl: Index of its session in the segment.
      starts_user_bs: True where a session is its user's first.
    """
    user_bs = jnp.cumsum(starts_user_bs, 1)  # 0: the user with whom the previous segment ended.
    user_bl = jnp.take_along_axis(user_bs, session_bl, 1)
    counts_bl = loss_weight_bl > 0
    members = session_members(user_bl, counts_bl, starts_user_bs.shape[1] + 1)
    sum_bl = jnp.take_along_axis(
        segment_sum(loss_weight_bl[..., None], members)[..., 0], user_bl, 1
    )
    return jnp.where(counts_bl, loss_weight_bl / jnp.where(counts_bl, sum_bl, 1), 0)


def sampled_softmax(
    target_score: Float[Array, "*e"],
    negative_score: Float[Array, "*e k"],
    negative_mask: Bool[Array, "*e k"],
    weight: Float[Array, "*e"],
    log_expected_count: Float[Array, "*own k"] | None,
) -> LossSum:
    """Softmax over the target and sampled candidates, with the logQ correction.

        -log( e^{s+} / (e^{s+} + sum_j e^{s_j - log E_j}) )

    E_j is how often the candidate set is expected to contain j. So a candidate represents the 1/E_j
    items of which it is a sample, and the sum over candidates is an unbiased estimate of the sum
    over all items but the target. The loss tends to `cross_entropy` as the samples grow. The target
    is certain to be present, so its score is not corrected. The loss is 0 without candidates.

    Args:
      target_score: See the module.
      negative_score: See the module.
      negative_mask: See the module.
      weight: See the module.
      log_expected_count: log E_j, [k] or [*e, k]; finite where the mask is True. None switches the
        correction off; then popular items, which are drawn more often, are pushed down more.

    Example:
      >>> target, negatives = jnp.asarray([0.0]), jnp.asarray([[0.0, 0.0, 0.0]])
      >>> loss = sampled_softmax(target, negatives, jnp.ones((1, 3), bool), jnp.ones(1), None)
      >>> round(loss.mean().item(), 4)  # log 4: four equal scores
      1.3863
    """
    target, negative, mask = safe_scores(target_score, negative_score, negative_mask, weight)
    # Subtract first: the difference may be small where the scores are large.
    logit = negative - target[..., None]
    if log_expected_count is not None:
        logit -= jnp.where(mask, log_expected_count, 0)
    # logsumexp over nothing has the gradient NaN, so such events get candidates.
    has_candidates = mask.any(-1)
    logit = jnp.where(mask | ~has_candidates[..., None], logit, -jnp.inf)
    loss = jax.nn.softplus(jax.nn.logsumexp(logit, -1))
    return _weighted(jnp.where(has_candidates, loss, 0), weight)


def nce(
    target_score: Float[Array, "*e"],
    negative_score: Float[Array, "*e k"],
    negative_mask: Bool[Array, "*e k"],
    weight: Float[Array, "*e"],
    nce_weight: float = 1.0,
) -> LossSum:
    """`-log sigmoid(s+) - nce_weight * mean_j log sigmoid(-s_j)`.

    Without candidates only the first term. As released, without a correction for the proposal.
    """
    target, negative, mask = safe_scores(target_score, negative_score, negative_mask, weight)
    pushed_down = masked_mean(jax.nn.softplus(negative), mask, -1)
    return _weighted(jax.nn.softplus(-target) + nce_weight * pushed_down, weight)


def bpr(
    target_score: Float[Array, "*e"],
    negative_score: Float[Array, "*e k"],
    negative_mask: Bool[Array, "*e k"],
    weight: Float[Array, "*e"],
) -> LossSum:
    """`-mean_j log sigmoid(s+ - s_j)` (Rendle et al., UAI 2009); 0 without candidates.

    The released code has `log sigmoid(sigmoid(s+) - sigmoid(s_j))`. That difference lies in
    [-1, 1], so the loss never falls below log(1 + 1/e) = 0.31, and its gradient vanishes for the
    pairs that are most wrong. This implementation omits the inner sigmoids on purpose.

    Example:
      >>> mask, weight = jnp.ones((1, 2), bool), jnp.ones(1)
      >>> bpr(jnp.zeros(1), jnp.zeros((1, 2)), mask, weight).mean().round(4).item()  # log 2
      0.6930999755859375
    """
    target, negative, mask = safe_scores(target_score, negative_score, negative_mask, weight)
    return _weighted(masked_mean(jax.nn.softplus(negative - target[..., None]), mask, -1), weight)


def hinge_linear(
    target_score: Float[Array, "*e"],
    negative_score: Float[Array, "*e k"],
    negative_mask: Bool[Array, "*e k"],
    weight: Float[Array, "*e"],
    delta: float = 0.1,
) -> LossSum:
    """`mean_j max(0, s_j - s+ + delta)`; 0 without candidates.

    The released code computes every ranking loss with L2-normalized u, which keeps s in the range
    of its delta of 0.1.
    """
    return _hinge(lambda s: s, target_score, negative_score, negative_mask, weight, delta)


def hinge_sigmoid(
    target_score: Float[Array, "*e"],
    negative_score: Float[Array, "*e k"],
    negative_mask: Bool[Array, "*e k"],
    weight: Float[Array, "*e"],
    delta: float = 0.1,
) -> LossSum:
    """`mean_j max(0, sigmoid(s_j) - sigmoid(s+) + delta)`; see `hinge_linear`."""
    return _hinge(jax.nn.sigmoid, target_score, negative_score, negative_mask, weight, delta)


def hinge_logsigmoid(
    target_score: Float[Array, "*e"],
    negative_score: Float[Array, "*e k"],
    negative_mask: Bool[Array, "*e k"],
    weight: Float[Array, "*e"],
    delta: float = 0.1,
) -> LossSum:
    """`mean_j max(0, log sigmoid(s_j) - log sigmoid(s+) + delta)`; see `hinge_linear`."""
    return _hinge(jax.nn.log_sigmoid, target_score, negative_score, negative_mask, weight, delta)


def _hinge(
    f: Callable[[Array], Array],
    target_score: Array,
    negative_score: Array,
    negative_mask: Array,
    weight: Array,
    delta: float,
) -> LossSum:
    target, negative, mask = safe_scores(target_score, negative_score, negative_mask, weight)
    margins = jax.nn.relu(f(negative) - f(target)[..., None] + delta)
    return _weighted(masked_mean(margins, mask, -1), weight)


def l2(
    queries: Queries, keys: Keys, item_ids: Int[Array, "*e"], weight: Float[Array, "*e"]
) -> LossSum:
    """Squared distance to the target's embedding, `||u - e_target||^2`, summed over d.

    Only for given embeddings: learned ones would all collapse to one point. It is no function of
    scores: it ignores biases, and additions could not be learned.

    Raises:
      ValueError: The queries have additions.
    """
    if queries.listed is not None:
        raise ValueError("loss=l2: uses no scores, so nothing can be added to them")
    u = queries.counted(weight).vectors.astype(jnp.float32)
    return _weighted(jnp.sum((u - keys.rows[item_ids]) ** 2, -1), weight)


def safe_scores(
    target_score: Array, negative_score: Array, negative_mask: Array, weight: Array
) -> tuple[Array, Array, Array]:
    """float32 scores, with 0 where they do not count, and the mask of candidates that count.

    Entries that do not count are replaced before the loss and masked after it. Masking after it is
    not enough: the derivative at a NaN or infinity is NaN, and NaN * 0 is NaN.
    """
    counts = weight > 0
    mask = negative_mask & counts[..., None]
    target = jnp.where(counts, target_score, 0).astype(jnp.float32)
    return target, jnp.where(mask, negative_score, 0).astype(jnp.float32), mask


def _weighted(loss: Array, weight: Array) -> LossSum:
    return LossSum(masked_sum(weight * loss, weight > 0), jnp.sum(weight))
