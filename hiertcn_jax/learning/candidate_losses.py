"""Losses that compare each event's target with candidates, and keep the scores of all of them.

An event's additions (`scores`) are added to the target's score, and to the scores of candidates
that the event lists. In sampled softmax the listed items are candidates too, because its sum
estimates the sum over the whole catalogue. They are certain candidates, so their scores get no
correction, and a drawn item that is on the list does not count. The other losses compare the target
with a sample of negatives that was chosen without the list, so the list adds no candidates there.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from hiertcn_jax.learning.losses import LossSum, sampled_softmax
from hiertcn_jax.learning.negatives import Candidates, given_candidates
from hiertcn_jax.scoring.scores import (
    Keys,
    Queries,
    candidate_scores,
    listed_scores,
    target_scores,
)

Formula = Callable[..., LossSum]
"""(target_score, negative_score, negative_mask, weight) -> LossSum; see `losses`."""


def candidate_loss(
    formula: Formula,
    queries: Queries,
    keys: Keys,
    item_ids: Int[Array, "*e"],
    weight: Float[Array, "*e"],
    sets: Sequence[Candidates],
    mesh: Mesh | None = None,
) -> LossSum:
    """A loss of the scores of targets and candidates.

    Args:
      formula: The loss as a function of scores.
      queries: One per event; events of weight 0 have no effect.
      keys: In `rows` mode those of the batch; ids are then positions among them.
      item_ids: Targets.
      weight: Weight of each event.
      sets: The candidates, one or more sets.
      mesh: The devices, if lanes (the events' first axis) are on several.
    """
    queries = queries.counted(weight)
    scores = [candidate_scores(queries, keys, one.item_ids, mesh) for one in sets]
    return formula(
        target_scores(queries, keys, item_ids),
        jnp.concatenate(scores, -1),
        jnp.concatenate([one.mask_blk for one in sets], -1),
        weight,
    )


def own_sampled_softmax(
    queries: Queries,
    keys: Keys,
    item_ids: Int[Array, "*e"],
    weight: Float[Array, "*e"],
    own: Candidates | None,
    drawn: Candidates | None,
    logq: bool,
    mesh: Mesh | None = None,
) -> LossSum:
    """`losses.sampled_softmax` with separate candidates for each event.

    Args:
      queries: See `candidate_loss`.
      keys: See `candidate_loss`.
      item_ids: Targets.
      weight: Weight of each event.
      own: Certain candidates.
      drawn: Drawn candidates, one or more sets; an item that is in `own` is masked.
      logq: Whether to correct the scores of drawn candidates.
      mesh: See `candidate_loss`.
    """
    queries = queries.counted(weight)
    target = target_scores(queries, keys, item_ids)
    scores, masks, logs = [], [], []
    if own is not None or queries.listed is not None:
        score, mask = certain_scores(queries, keys, item_ids, own, mesh)
        scores, masks, logs = [score], [mask], [jnp.zeros(score.shape)]
    if drawn is not None:
        scores.append(candidate_scores(Queries(queries.vectors), keys, drawn.item_ids, mesh))
        masks.append(_not_listed(queries, drawn))
        logs.append(jnp.broadcast_to(drawn.log_expected_count, drawn.mask_blk.shape))
    negative, mask, log_expected_count = (
        jnp.concatenate(parts, -1) for parts in (scores, masks, logs)
    )
    return sampled_softmax(target, negative, mask, weight, log_expected_count if logq else None)


def certain_scores(
    queries: Queries,
    keys: Keys,
    item_ids: Int[Array, "*e"],
    own: Candidates | None,
    mesh: Mesh | None = None,
) -> tuple[Float[Array, "*e k"], Bool[Array, "*e k"]]:
    """Scores of an event's certain candidates, and a mask that counts each item once.

    They are the event's own candidates, then the items of its list. At least one of the two must be
    present.
    """
    parts: list[tuple[Any, Any]] = []
    if own is not None:
        score = candidate_scores(Queries(queries.vectors), keys, own.item_ids, mesh)
        parts.append((score, _not_listed(queries, own)))
    if queries.listed is not None:
        listed = given_candidates(queries.listed.item_ids, item_ids)
        mask = listed.mask_blk & queries.listed.is_item()
        parts.append((listed_scores(queries, keys, mesh), mask))
    scores, masks = zip(*parts, strict=True)
    return jnp.concatenate(scores, -1), jnp.concatenate(masks, -1)


def _not_listed(queries: Queries, candidates: Candidates) -> Bool[Array, "*e k"]:
    """The mask of the candidates, with those on their event's list masked."""
    if queries.listed is None:
        return candidates.mask_blk
    ids = jnp.broadcast_to(candidates.item_ids, candidates.mask_blk.shape)
    return candidates.mask_blk & (queries.listed.index_of(ids) < 0)
