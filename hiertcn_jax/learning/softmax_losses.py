"""Softmax losses whose candidates all events share: the catalogue, or items drawn for a batch.

Their scores are never stored; see `softmax`. The two losses handle an event's additions (`scores`)
in different ways, each the cheap one:

- The whole catalogue is scored anyway, so additions are added to the scores of their columns.
- Few drawn candidates are on a list. The list's items become certain candidates of the event, so
  they get no correction. A draw that is on the list does not count there.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from hiertcn_jax.batch import FIRST_ITEM_ID, PADDING_ID
from hiertcn_jax.devices.mesh import Layout
from hiertcn_jax.layers.masking import masked_sum
from hiertcn_jax.learning.candidate_losses import certain_scores
from hiertcn_jax.learning.losses import LossSum, safe_scores
from hiertcn_jax.learning.negatives import Candidates
from hiertcn_jax.learning.softmax import shared_softmax
from hiertcn_jax.scoring.scores import Additions, Keys, Queries, target_scores


def cross_entropy(
    queries: Queries,
    keys: Keys,
    item_ids: Int[Array, "*e"],
    weight: Float[Array, "*e"],
    chunk: int | None = None,
    layout: Layout | None = None,
) -> LossSum:
    """Softmax over the whole catalogue: `log sum_{i >= FIRST_ITEM_ID} e^{s_i} - s_target`.

    Exact. Memory is a few times chunk*v whatever the batch; see `softmax`.

    Args:
      queries: One per event; events of weight 0 have no effect.
      keys: Those of the whole table. The sum leaves out padding and unknown.
      item_ids: Targets, FIRST_ITEM_ID.. wherever the weight is not 0.
      weight: Weight of each event.
      chunk: Events at a time; see `softmax.shared_softmax`.
      layout: Where lanes and table are, if on several devices.

    Raises:
      ValueError: The table has no catalogue, or `chunk` is below 1.
    """
    rows = keys.rows.shape[0]
    if rows <= FIRST_ITEM_ID:
        raise ValueError(f"keys: {rows} rows hold no catalogue")
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk={chunk}: must be >= 1")
    ids_v = jnp.arange(rows)
    is_item_v = ids_v >= FIRST_ITEM_ID
    if layout is not None:
        is_item_v &= ids_v < layout.rows
    bias_v = jnp.where(is_item_v, 0.0 if keys.bias is None else keys.bias, -jnp.inf)
    queries = queries.counted(weight)
    target_score = target_scores(queries, keys, item_ids)
    total = shared_softmax(
        queries,
        Keys(keys.rows, bias_v),
        ids_v,
        target_score,
        item_ids[..., None],
        weight,
        chunk=chunk,
        mesh=None if layout is None else layout.mesh,
    )
    return LossSum(total, jnp.sum(weight))


def shared_sampled_softmax(
    queries: Queries,
    keys: Keys,
    item_ids: Int[Array, "*e"],
    weight: Float[Array, "*e"],
    drawn_ids_k: Int[Array, " k"],
    log_expected_count_k: Float[Array, " k"] | None,
    own: Candidates | None = None,
    layout: Layout | None = None,
) -> LossSum:
    """`losses.sampled_softmax` with candidates that all events share, without storing their scores.

    If events have their own candidates too, or a list of additions, an item among those does not
    count as a shared candidate; see `negatives.without_own`.

    Args:
      queries: One per event; events of weight 0 have no effect.
      keys: In `rows` mode those of the batch; ids are then positions among them.
      item_ids: Targets.
      weight: Weight of each event.
      drawn_ids_k: The shared candidates; PADDING_ID is none.
      log_expected_count_k: See `losses.sampled_softmax`. A function of the item only.
      own: Each event's own certain candidates; they get no correction.
      layout: Where lanes and table are, if on several devices.
    """
    mesh = None if layout is None else layout.mesh
    queries = queries.counted(weight)
    target = target_scores(queries, keys, item_ids)
    excluded = item_ids[..., None]
    if own is not None:
        excluded = jnp.concatenate([excluded, own.item_ids], -1)
    offset_k = jnp.zeros(drawn_ids_k.shape) if keys.bias is None else keys.bias[drawn_ids_k]
    if log_expected_count_k is not None:
        offset_k -= log_expected_count_k
    offset_k = jnp.where(drawn_ids_k == PADDING_ID, -jnp.inf, offset_k)
    columns = None
    if queries.listed is not None:
        offset_k, place_v = _each_once(drawn_ids_k, offset_k, keys.rows.shape[0])
        columns = _columns_of(queries.listed, place_v, len(drawn_ids_k))

    own_sum, own_loss = target, jnp.zeros(())
    if own is not None or queries.listed is not None:
        own_score, mask = certain_scores(queries, keys, item_ids, own, mesh)
        target, own_score, mask = safe_scores(target, own_score, mask, weight)
        certain_score = jnp.concatenate(
            [target[..., None], jnp.where(mask, own_score, -jnp.inf)], -1
        )
        # log(e^t + own + shared) - t, in two parts: the sum of t and own replaces the target.
        own_sum = jax.nn.logsumexp(certain_score, -1)
        own_loss = masked_sum(weight * (own_sum - target), weight > 0)
    total = shared_softmax(
        Queries(queries.vectors),
        Keys(keys.rows[drawn_ids_k], offset_k),
        drawn_ids_k,
        own_sum,
        excluded,
        weight,
        excluded_columns=columns,
        mesh=mesh,
    )
    return LossSum(total + own_loss, jnp.sum(weight))


def _each_once(
    ids_k: Int[Array, " k"], offset_k: Float[Array, " k"], rows: int
) -> tuple[Float[Array, " k"], Int[Array, " v"]]:
    """Offsets with which an item counts only at its first occurrence, for all of them together.

    Returns:
      The offsets, and the index of each table row's first occurrence; k if it does not occur. This
      finds a draw by its item with one lookup instead of k comparisons.
    """
    places_k = jnp.arange(len(ids_k))
    place_v = jnp.full(rows, len(ids_k)).at[ids_k].min(places_k)
    first_k = place_v[ids_k]
    times_k = jnp.zeros(len(ids_k)).at[first_k].add(1)
    return jnp.where(first_k == places_k, offset_k + jnp.log(times_k), -jnp.inf), place_v


def _columns_of(listed: Additions, place_v: Int[Array, " v"], nowhere: int) -> Int[Array, "*e m"]:
    """The indices of the listed items among the shared candidates; `nowhere` if absent."""
    return jnp.where(listed.is_item(), place_v[listed.item_ids], nowhere)
