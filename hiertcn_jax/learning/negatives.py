"""Negatives: the items that an event's target is compared with, and their expected counts.

A `Proposal` is a distribution over the catalogue, and a `Source` says how many candidates to take
from one. Several sources make one candidate set. Its expected count of item j,

    E_j = sum_s n_s q_s(j),

is the divisor of the logQ correction in `losses.sampled_softmax`. With it the sum over drawn
candidates is an unbiased estimate of the sum over the catalogue, whichever source drew them.

Negatives that come with an event, such as impressions, are certain to be in its set. They count
without correction (E = 1), and draws represent the rest of the catalogue: a drawn item that is
among the event's own negatives is masked there. Given the event's own negatives, the sum is again
unbiased.

All randomness comes from explicit keys: the same key gives the same candidates.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray

from hiertcn_jax.batch import FIRST_ITEM_ID, PADDING_ID, GivenItems, Items, RowItems
from hiertcn_jax.learning.softmax import is_among

_DRAWS = 2**32
"""Number of different 32-bit draws. A proposal assigns each of them to an item."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Proposal:
    """A distribution over the catalogue, sampled by inverse CDF over integers.

    An item owns a range of the 2^32 values of a random 32-bit word. A float32 CDF would have steps
    of 2^-24 near 1, so rarer items would never be drawn, or too often.

    Attributes:
      log_q_v: float32. Log-probability of each row of the item table, exactly that of `sample`;
        -inf for rows that are never drawn. In `rows` mode its axis is u (`at_rows`). None: the
        batches bring it (`given` mode), and nothing of catalogue size is kept.
      item_ids_p: int32. The p rows that can be drawn, ascending. None: cannot be sampled.
      first_draw_p: uint32. The first 32-bit word that each of them owns.
    """

    log_q_v: Any
    item_ids_p: Any = None
    first_draw_p: Any = None

    def sample(self, key: PRNGKeyArray, shape: tuple[int, ...]) -> Int[Array, "..."]:
        """Independent draws, with replacement.

        Args:
          key: Random key.
          shape: Shape of the result.

        Returns:
          int32 table rows of positive probability.

        Raises:
          ValueError: `at_rows` made this proposal.
        """
        if self.item_ids_p is None:
            raise ValueError("a proposal at the rows of a batch cannot be sampled from")
        draws = jax.random.bits(key, shape, jnp.uint32)
        return self.item_ids_p[jnp.searchsorted(self.first_draw_p, draws, side="right") - 1]

    def at_rows(self, distinct_u: Int[Array, " u"]) -> "Proposal":
        """The log-probabilities of a batch's own rows, for local ids (`rows` mode)."""
        return Proposal(self.log_q_v[distinct_u])


def uniform_proposal(rows: int) -> Proposal:
    """Gives every catalogue item the same probability.

    Args:
      rows: `v`, rows of the item table, padding and unknown included.

    Raises:
      ValueError: The table has no catalogue.
    """
    counts_v = np.ones(rows)
    counts_v[:FIRST_ITEM_ID] = 0
    return popularity_proposal(counts_v, alpha=1.0)


def popularity_proposal(counts_v: np.ndarray, alpha: float) -> Proposal:
    """Gives items a probability proportional to counts^alpha.

    Args:
      counts_v: Events of each table row in the fitted part of the data; 0 for padding and unknown.
        Items without events are never drawn, even with alpha = 0.
      alpha: 1 is popularity, 0 is uniform over the items with events.

    Raises:
      ValueError: Counts are not all numbers >= 0, or are all 0, or not 0 for padding or unknown;
        or alpha is negative.
    """
    counts_v = np.asarray(counts_v, np.float64)
    if counts_v.ndim != 1 or not np.all(np.isfinite(counts_v)) or np.any(counts_v < 0):
        raise ValueError("counts_v: must be one finite number >= 0 for each row of the table")
    if np.any(counts_v[:FIRST_ITEM_ID] != 0):
        raise ValueError(f"counts_v: rows 0..{FIRST_ITEM_ID - 1} hold no items, got counts there")
    if not np.any(counts_v):
        raise ValueError("counts_v: no item has an event")
    if alpha < 0:
        raise ValueError(f"alpha={alpha}: must be >= 0")
    item_ids_p = np.flatnonzero(counts_v)
    weight_p = (counts_v[item_ids_p] / counts_v.max()) ** alpha
    draws_p = _share_draws(weight_p)
    log_q_v = np.full(len(counts_v), -np.inf, np.float32)
    log_q_v[item_ids_p] = np.log(draws_p / _DRAWS)
    first_draw_p = np.cumsum(draws_p) - draws_p
    return Proposal(
        jnp.asarray(log_q_v),
        jnp.asarray(item_ids_p, jnp.int32),
        jnp.asarray(first_draw_p.astype(np.uint32)),
    )


def _share_draws(weight_p: np.ndarray) -> np.ndarray:
    """Splits 2^32 draws in proportion to the weights, at least one each; int64 [p]."""
    ends_p = np.rint(np.cumsum(weight_p) / np.sum(weight_p) * _DRAWS).astype(np.int64)
    draws_p = np.maximum(np.diff(ends_p, prepend=0), 1)
    draws_p[np.argmax(draws_p)] += _DRAWS - draws_p.sum()
    return draws_p


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Source:
    """A number of candidates from one proposal.

    Attributes:
      proposal: The distribution to draw from. For an in-batch source: popularity with alpha = 1,
        the distribution of targets over many batches. It then only supplies log-probabilities, and
        must give one to every item that can be a target.
      count: Candidates to draw: for every event, or once for all if they are shared.
      in_batch: Whether the candidates are targets of the batch instead of draws.
    """

    proposal: Proposal
    count: int = dataclasses.field(metadata={"static": True})
    in_batch: bool = dataclasses.field(default=False, metadata={"static": True})


def sources_at_rows(sources: Sequence[Source], items: Items) -> list[Source]:
    """The sources with the log-probabilities of the items that a batch's ids refer to."""

    def at_rows(number: int, proposal: Proposal) -> Proposal:
        if isinstance(items, GivenItems) and items.log_q_mu is not None:
            return Proposal(items.log_q_mu[number])
        return proposal.at_rows(items.distinct_u) if isinstance(items, RowItems) else proposal

    return [
        dataclasses.replace(source, proposal=at_rows(number, source.proposal))
        for number, source in enumerate(sources)
    ]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Candidates:
    """The candidates of every event. Axes "..." are [k] if shared, [b, l, k] if separate.

    Attributes:
      item_ids: int32 [...]. Rows of the item table; PADDING_ID for none.
      mask_blk: bool. True if the candidate is a negative of the event: it is an item, does not come
        from a batch slot of weight 0, and is not the event's target (an accidental hit).
      log_expected_count: float32 [...]. log E_j over the whole candidate set.
    """

    item_ids: Any
    mask_blk: Any
    log_expected_count: Any


def log_expected_count(
    counts: Sequence[int | float | Float[Array, ""]],
    log_q_rows: Sequence[Float[Array, " v"]],
    item_ids: Int[Array, "..."],
) -> Float[Array, "..."]:
    """`log sum_s n_s q_s(j)` of each item j: how often a candidate set is expected to contain it.

    Args:
      counts: n_s, candidates of each source; >= 0.
      log_q_rows: log q_s by row of the table that `item_ids` refers to: `log_q_v`, or
        `log_q_v[distinct_u]` for the local ids of `rows` mode.
      item_ids: Any shape.

    Returns:
      float32 in the shape of `item_ids`; -inf for items that no source draws.
    """
    terms = [jnp.log(n) + log_q[item_ids] for n, log_q in zip(counts, log_q_rows, strict=True)]
    return jax.nn.logsumexp(jnp.stack(terms), 0)


def sample_candidates(
    key: PRNGKeyArray,
    sources: Sequence[Source],
    item_ids_bl: Int[Array, "b l"],
    loss_weight_bl: Float[Array, "b l"],
    shared: bool,
    drawn: Int[Array, "*own k"] | None = None,
) -> Candidates:
    """Draws the candidate set of a batch.

    In-batch candidates are the targets of slots drawn uniformly from all b*l. Slots of weight 0 are
    masked, so n draws contain item j an expected n * (share of valid slots) * q(j) times.

    Args:
      key: Random key.
      sources: At least one. Candidates keep their order, except that drawn ones precede in-batch
        ones.
      item_ids_bl: Targets. Ids may be local to the batch (`rows` mode), if the sources' proposals
        are too (`Proposal.at_rows`) and `drawn` is given unless all sources are in-batch.
      loss_weight_bl: 0 for events that are not trained on.
      shared: True: one candidate set for all events. False: one for each.
      drawn: The candidates of the sources that are not in-batch, if the loader drew them: [k] if
        shared, else [b, l, k]; PADDING_ID is no candidate. None: sampled here.

    Returns:
      The candidates; `k` is the sum of the sources' counts.

    Raises:
      ValueError: `drawn` does not have the shape that the sources need.
    """
    own_shape = () if shared else item_ids_bl.shape
    valid_bl = loss_weight_bl > 0
    in_batch_count = sum(source.count for source in sources if source.in_batch)
    keys = jax.random.split(key, len(sources) + 1)
    if drawn is None:
        drawn = _draw(keys[1:], sources, own_shape)
    expected_shape = (*own_shape, sum(source.count for source in sources) - in_batch_count)
    if drawn.shape != expected_shape:
        raise ValueError(f"drawn: expected shape {expected_shape}, got {drawn.shape}")
    slots = jax.random.randint(keys[0], (*own_shape, in_batch_count), 0, item_ids_bl.size)
    targets = jnp.where(valid_bl, item_ids_bl, PADDING_ID).reshape(-1)
    item_ids = jnp.concatenate([drawn, targets[slots]], -1)

    valid_share = jnp.mean(valid_bl, dtype=jnp.float32)
    log_expected = log_expected_count(
        [source.count * (valid_share if source.in_batch else 1.0) for source in sources],
        [source.proposal.log_q_v for source in sources],
        item_ids,
    )
    mask_blk = (item_ids != PADDING_ID) & (item_ids != item_ids_bl[..., None])
    return Candidates(item_ids, mask_blk, log_expected)


def _draw(
    keys: Key[Array, " n"], sources: Sequence[Source], own_shape: tuple[int, ...]
) -> Int[Array, "*own k"]:
    """The candidates of all sources that are not in-batch, concatenated."""
    drawn = [
        source.proposal.sample(key, (*own_shape, source.count))
        for key, source in zip(keys, sources, strict=True)
        if not source.in_batch
    ]
    return jnp.concatenate([jnp.zeros((*own_shape, 0), jnp.int32), *drawn], -1)


def given_candidates(
    negatives_blk: Int[Array, "b l k"], item_ids_bl: Int[Array, "b l"]
) -> Candidates:
    """Negatives that come with the data, such as impressions.

    They are certain to be in the set: their expected count is 1. No item may occur twice.

    Args:
      negatives_blk: Each event's own negatives; PADDING_ID is none.
      item_ids_bl: Targets.
    """
    mask_blk = (negatives_blk != PADDING_ID) & (negatives_blk != item_ids_bl[..., None])
    return Candidates(negatives_blk, mask_blk, jnp.zeros(negatives_blk.shape))


def without_own(drawn: Candidates, own: Candidates) -> Candidates:
    """Masks drawn candidates that an event has among its own, so that an item counts once."""
    mask_blk = drawn.mask_blk & ~is_among(drawn.item_ids, own.item_ids)
    return dataclasses.replace(drawn, mask_blk=mask_blk)
