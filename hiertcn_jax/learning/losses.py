"""Losses of the events of a batch, each as a weighted sum and the weight that it stands for.

Axes "*e" are those of the events, [b, l] or [n]; a score is <u, e_i> + b_i, in float32. The losses
on scores take

    target_score     [*e]      score of what was picked
    negative_score   [*e, k]   scores of the event's candidates
    negative_mask    [*e, k]   False where a candidate is none (`negatives.Candidates.mask_blk`)
    weight           [*e]      >= 0

and average over the k' <= k candidates that are not masked. An event of weight 0 and a masked
candidate add nothing to the sum, and their gradient is exactly 0, also when they are NaN or
infinite.

Sources: `loss.py` of the authors' release (JiaxuanYou/HierTCN), for the paper arXiv 1904.04381.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from hiertcn_jax.batch import FIRST_ITEM_ID, PADDING_ID
from hiertcn_jax.devices.mesh import Layout
from hiertcn_jax.layers.masking import masked_mean, masked_sum, segment_sum, session_members
from hiertcn_jax.learning.negatives import Candidates
from hiertcn_jax.learning.softmax import shared_softmax


class LossSum(NamedTuple):
    """A weighted sum of losses; sums of parts of a batch add up to that of the batch.

    Attributes:
      total: float32 []. Sum over events of weight * loss.
      weight: float32 []. Sum of the weights.
    """

    total: Any
    weight: Any

    def mean(self) -> Float[Array, ""]:
        """`total / weight`; 0 where nothing has a weight."""
        return self.total / jnp.where(self.weight > 0, self.weight, 1)


def per_user_weight(
    loss_weight_bl: Float[Array, "b l"],
    session_bl: Int[Array, "b l"],
    starts_user_bs: Bool[Array, "b s"],
) -> Float[Array, "b l"]:
    """Weights that make a mean over events a mean over users of the means of their events.

    The released code averages this way. A user counts once for each batch that has events of them,
    however many; every user's weights sum to 1.

    Args:
      loss_weight_bl: Weight of each event, >= 0.
      session_bl: Index of its session in the row.
      starts_user_bs: True where a session is its user's first.
    """
    user_bs = jnp.cumsum(starts_user_bs, 1)  # 0: the user that the row before ended with.
    user_bl = jnp.take_along_axis(user_bs, session_bl, 1)
    counts_bl = loss_weight_bl > 0
    members = session_members(user_bl, counts_bl, starts_user_bs.shape[1] + 1)
    sum_bl = jnp.take_along_axis(
        segment_sum(loss_weight_bl[..., None], members)[..., 0], user_bl, 1
    )
    return jnp.where(counts_bl, loss_weight_bl / jnp.where(counts_bl, sum_bl, 1), 0)


def target_scores(
    u: Float[Array, "*e d"],
    table_vd: Float[Array, "v d"],
    bias_v: Float[Array, " v"] | None,
    item_ids: Int[Array, "*e"],
    weight: Float[Array, "*e"],
) -> Float[Array, "*e"]:
    """Score of each event's target; see `candidate_scores`."""
    rows = table_vd[item_ids].astype(u.dtype)
    scores = _product("...d,...d->...", _without_weightless(u, weight), rows)
    return scores if bias_v is None else scores + bias_v[item_ids]


def candidate_scores(
    u: Float[Array, "*e d"],
    table_vd: Float[Array, "v d"],
    bias_v: Float[Array, " v"] | None,
    candidate_ids: Int[Array, "*own k"],
    weight: Float[Array, "*e"],
) -> Float[Array, "*e k"]:
    """Scores of each event's candidates.

    Args:
      u: What the model gives at each event. The product is taken in its type, and summed in
        float32.
      table_vd: Item embeddings; in `rows` mode those of the batch, and ids are places in it.
      bias_v: Item biases, if there are any.
      candidate_ids: [k] if all events share them: one matrix product. [*e, k] if each has its own:
        the rows of all of them are gathered, k*d numbers an event.
      weight: Events of weight 0 are taken as u = 0, lest a NaN there reaches the table's gradient.
    """
    rows = table_vd[candidate_ids].astype(u.dtype)
    formula = "...d,kd->...k" if candidate_ids.ndim == 1 else "...d,...kd->...k"
    scores = _product(formula, _without_weightless(u, weight), rows)
    return scores if bias_v is None else scores + bias_v[candidate_ids]


def _without_weightless(u: Float[Array, "*e d"], weight: Float[Array, "*e"]) -> Array:
    return jnp.where(weight[..., None] > 0, u, 0)


def _product(formula: str, a: Array, b: Array) -> Array:
    """float32 einsum; HIGHEST since accelerators else round float32 factors to fewer bits."""
    return jnp.einsum(
        formula, a, b, precision=jax.lax.Precision.HIGHEST, preferred_element_type=jnp.float32
    )


def cross_entropy(
    u: Float[Array, "*e d"],
    table_vd: Float[Array, "v d"],
    bias_v: Float[Array, " v"] | None,
    item_ids: Int[Array, "*e"],
    weight: Float[Array, "*e"],
    chunk: int | None = None,
    layout: Layout | None = None,
) -> LossSum:
    """Softmax over the whole catalogue: `log sum_{i >= FIRST_ITEM_ID} e^{s_i} - s_target`.

    Exact. Memory is a few times chunk*v whatever the batch; see `softmax`.

    Args:
      u: What the model gives at each event; see `candidate_scores`.
      table_vd: Item embeddings. The rows of padding and unknown are no part of the sum.
      bias_v: Item biases, if there are any.
      item_ids: Targets, FIRST_ITEM_ID.. wherever the weight is not 0.
      weight: Weight of each event.
      chunk: Events at a time; see `softmax.shared_softmax`.
      layout: Where lanes and table lie on several devices.

    Raises:
      ValueError: The table has no catalogue, or `chunk` is below 1.
    """
    rows = table_vd.shape[0]
    if rows <= FIRST_ITEM_ID:
        raise ValueError(f"table_vd: {rows} rows hold no catalogue")
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk={chunk}: must be >= 1")
    ids_v = jnp.arange(rows)
    is_item_v = ids_v >= FIRST_ITEM_ID
    if layout is not None:
        is_item_v &= ids_v < layout.rows
    offset_v = jnp.where(is_item_v, 0.0 if bias_v is None else bias_v, -jnp.inf)
    target_score = target_scores(u, table_vd, bias_v, item_ids, weight)
    excluded = item_ids[..., None]
    mesh = None if layout is None else layout.mesh
    total = shared_softmax(
        u, target_score, table_vd, offset_v, ids_v, excluded, weight, chunk, mesh
    )
    return LossSum(total, jnp.sum(weight))


def shared_sampled_softmax(
    u: Float[Array, "*e d"],
    table_vd: Float[Array, "v d"],
    bias_v: Float[Array, " v"] | None,
    item_ids: Int[Array, "*e"],
    weight: Float[Array, "*e"],
    candidate_ids_k: Int[Array, " k"],
    log_expected_count_k: Float[Array, " k"] | None,
    own: Candidates | None = None,
    layout: Layout | None = None,
) -> LossSum:
    """`sampled_softmax` of candidates that all events share, without keeping their scores.

    Where events have candidates of their own as well, an item that is among those does not count as
    a shared one; see `negatives.without_own`.

    Args:
      u: What the model gives at each event; see `candidate_scores`.
      table_vd: Item embeddings.
      bias_v: Item biases, if there are any.
      item_ids: Targets.
      weight: Weight of each event.
      candidate_ids_k: The candidates; PADDING_ID is none.
      log_expected_count_k: See `sampled_softmax`.
      own: Candidates of each event's own that come with certainty, so that nothing is corrected.
      layout: Where lanes and table lie on several devices.
    """
    offset_k = jnp.zeros(candidate_ids_k.shape) if bias_v is None else bias_v[candidate_ids_k]
    if log_expected_count_k is not None:
        offset_k -= log_expected_count_k
    offset_k = jnp.where(candidate_ids_k == PADDING_ID, -jnp.inf, offset_k)
    target = target_scores(u, table_vd, bias_v, item_ids, weight)
    excluded = item_ids[..., None]
    own_sum, own_loss = target, jnp.zeros(())
    if own is not None:
        excluded = jnp.concatenate([excluded, own.item_ids], -1)
        own_score = candidate_scores(u, table_vd, bias_v, own.item_ids, weight)
        target, own_score, mask = _safe_scores(target, own_score, own.mask_blk, weight)
        certain = jnp.concatenate([target[..., None], jnp.where(mask, own_score, -jnp.inf)], -1)
        # log(e^t + own + shared) - t, in two parts: the sum of t and own stands for the target.
        own_sum = jax.nn.logsumexp(certain, -1)
        own_loss = masked_sum(weight * (own_sum - target), weight > 0)
    rows_kd = table_vd[candidate_ids_k]
    mesh = None if layout is None else layout.mesh
    total = shared_softmax(
        u, own_sum, rows_kd, offset_k, candidate_ids_k, excluded, weight, mesh=mesh
    )
    return LossSum(total + own_loss, jnp.sum(weight))


def sampled_softmax(
    target_score: Float[Array, "*e"],
    negative_score: Float[Array, "*e k"],
    negative_mask: Bool[Array, "*e k"],
    weight: Float[Array, "*e"],
    log_expected_count: Float[Array, "*own k"] | None,
) -> LossSum:
    """Softmax over the target and sampled candidates, with the logQ correction.

        -log( e^{s+} / (e^{s+} + sum_j e^{s_j - log E_j}) )

    E_j is how often the candidate set is expected to hold j. A candidate thus stands for the 1/E_j
    of which it is a sample, and the sum over candidates is an unbiased estimate of that over all
    items but the target; the loss tends to `cross_entropy` as the samples grow. The target is
    there with certainty, so its score is not corrected. 0 without candidates.

    Args:
      target_score: See the module.
      negative_score: See the module.
      negative_mask: See the module.
      weight: See the module.
      log_expected_count: log E_j, [k] or [*e, k]; finite where the mask is True. None switches the
        correction off: popular items, drawn more often, are then pushed down more.
    """
    target, negative, mask = _safe_scores(target_score, negative_score, negative_mask, weight)
    # The scores' difference first: it may be small where they are large.
    logit = negative - target[..., None]
    if log_expected_count is not None:
        logit -= jnp.where(mask, log_expected_count, 0)
    # logsumexp over nothing has a gradient of NaN: such events get candidates.
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

    The first term alone without candidates. As released: no correction for the proposal.
    """
    target, negative, mask = _safe_scores(target_score, negative_score, negative_mask, weight)
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
    pairs that are most wrong. It is left out on purpose.
    """
    target, negative, mask = _safe_scores(target_score, negative_score, negative_mask, weight)
    return _weighted(masked_mean(jax.nn.softplus(negative - target[..., None]), mask, -1), weight)


def hinge_linear(
    target_score: Float[Array, "*e"],
    negative_score: Float[Array, "*e k"],
    negative_mask: Bool[Array, "*e k"],
    weight: Float[Array, "*e"],
    delta: float = 0.1,
) -> LossSum:
    """`mean_j max(0, s_j - s+ + delta)`; 0 without candidates.

    The released code takes every ranking loss on L2-normalised u, which keeps s in the reach of
    its delta of 0.1.
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
    target, negative, mask = _safe_scores(target_score, negative_score, negative_mask, weight)
    margins = jax.nn.relu(f(negative) - f(target)[..., None] + delta)
    return _weighted(masked_mean(margins, mask, -1), weight)


def l2(
    u: Float[Array, "*e d"],
    table_vd: Float[Array, "v d"],
    item_ids: Int[Array, "*e"],
    weight: Float[Array, "*e"],
) -> LossSum:
    """Squared distance to the target's embedding, `||u - e_target||^2`, summed over d.

    Only for embeddings that are given: learned ones would all move to one point.
    """
    u = _without_weightless(u, weight).astype(jnp.float32)
    return _weighted(jnp.sum((u - table_vd[item_ids]) ** 2, -1), weight)


def _safe_scores(
    target_score: Array, negative_score: Array, negative_mask: Array, weight: Array
) -> tuple[Array, Array, Array]:
    """float32 scores, 0 where they do not count, and the mask of the candidates that do.

    What does not count is replaced before the loss is taken of it, and masked after: masked only
    after, the derivative of a NaN or an infinity there is NaN, and NaN * 0 is NaN.
    """
    counts = weight > 0
    mask = negative_mask & counts[..., None]
    target = jnp.where(counts, target_score, 0).astype(jnp.float32)
    return target, jnp.where(mask, negative_score, 0).astype(jnp.float32), mask


def _weighted(loss: Array, weight: Array) -> LossSum:
    return LossSum(masked_sum(weight * loss, weight > 0), jnp.sum(weight))
