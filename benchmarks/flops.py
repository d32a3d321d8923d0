"""Counts floating-point operations of a training step's matrix products, by formula.

A product of [m, k] and [k, n] counts 2 m k n. The backward pass has two more such products, one for
each factor; only one if a factor is data (the one-hot products). Other operations are not counted:
they are a few per cent, and a machine's peak is a peak of products. See docs/performance.md.

XLA's own count includes the body of a loop once, however often it runs. A test compares the formula
with the products of the traced step, and with XLA's count of a step without loops.
"""

import itertools

from hiertcn_jax.batch import Bucket
from hiertcn_jax.config import ModelConfig
from hiertcn_jax.layers.attention import AttentionConfig, block_length
from hiertcn_jax.layers.gru import GRUConfig
from hiertcn_jax.layers.tcn import TCNConfig
from hiertcn_jax.memory.config import SIZES
from hiertcn_jax.memory.phi import columns_of
from hiertcn_jax.models.context import MOMENTS, PROGRESS
from hiertcn_jax.models.esasrec import ESASRecConfig
from hiertcn_jax.models.flat_gru import FlatGRUConfig
from hiertcn_jax.models.flat_tcn import FlatTCNConfig
from hiertcn_jax.models.hiergru import HierGRUConfig
from hiertcn_jax.models.hiertcn import PROGRESS_UNITS, HierTCNConfig
from hiertcn_jax.models.hstu import HSTUConfig
from hiertcn_jax.models.sasrec import SASRecConfig

_BOTH_WAYS = 3
"""Products per factor pair: forward, and backward for both factors."""
_TO_ONE = 2
"""Forward, and backward for the factor that is not data."""


def train_step_flops(config: ModelConfig, bucket: Bucket, negatives: int, grid: bool) -> int:
    """FLOPs of one training step with sampled softmax against shared negatives.

    Args:
      config: Of a model on whole histories or with both levels, with one GRU layer and no
        projection.
      bucket: Lanes, slots in a segment, and session slots.
      negatives: `k`.
      grid: True: hiergru's two loops of `HierGRUGrid`. False: the one loop of `HierGRU`.

    Raises:
      ValueError: There is no formula for this config.
    """
    if config.memory_units:
        raise ValueError(f"memory_units={config.memory_units}: there is no formula for it")
    has_layers = isinstance(config, GRUConfig) and config.gru_layers != 1
    if has_layers or config.projection_dim:
        raise ValueError("the formula is only for one GRU layer and no projection")
    event, session = _model(config, bucket, grid)
    event += _memory(config) if config.memory else 0
    softmax = _BOTH_WAYS * 2 * (negatives + 1) * config.item_dim
    return bucket.lanes * (bucket.events * (event + softmax) + bucket.sessions * session)


def _model(config: ModelConfig, bucket: Bucket, grid: bool) -> tuple[int, int]:
    """FLOPs of the model per event slot and per session slot, forward and backward."""
    if isinstance(config, HierTCNConfig):
        return _hiertcn(config, bucket.sessions)
    if isinstance(config, FlatTCNConfig) and config.whole_history:
        return _tcn(config), 0
    if isinstance(config, HierGRUConfig):
        return _hiergru(config, grid)
    if isinstance(config, FlatGRUConfig) and config.whole_history:
        d, h = config.item_dim, config.gru_dim
        return _BOTH_WAYS * 2 * (d * 3 * h + h * 3 * h + h * d), 0
    if isinstance(config, SASRecConfig):
        return _attention(config, bucket.events, 3 + 2), 0
    if isinstance(config, ESASRecConfig):
        # Attention and its output, two gates, three inner products.
        products = 4 + 2 + 3 * config.feed_forward_factor
        return _attention(config, bucket.events, products), 0
    if isinstance(config, HSTUConfig):
        return _attention(config, bucket.events, 4 + 1, of_age=False), 0
    raise ValueError(f"model={config.name}: there is no formula for it")


def _memory(config: ModelConfig) -> int:
    """The weights of its terms, their sum for each item of a list, and the scores of the list."""
    listed, terms = SIZES.candidates, len(columns_of(config.memory))
    weights = _BOTH_WAYS * 2 * (MOMENTS + config.item_dim) * terms
    # Counts are data; gradients of the listed items' rows are no matrix products.
    return weights + _TO_ONE * 2 * listed * (terms + config.item_dim)


def _tcn(config: TCNConfig) -> int:
    """FLOPs of joining the item, the convolutions, and the output."""
    widths = [config.tcn_channels[0], *config.tcn_channels]
    outputs = 2 if config.gated else 1
    read = widths[-1] + (widths[0] if config.gated else 0)
    macs = config.item_dim * widths[0] + read * config.item_dim
    for before, after in itertools.pairwise(widths):
        taps = config.kernel_size * (before + (config.convs_per_block - 1) * after)
        macs += taps * outputs * after
        macs += before * after if config.residual and before != after else 0
    return _BOTH_WAYS * 2 * macs


def _hiertcn(config: HierTCNConfig, sessions: int) -> tuple[int, int]:
    d, h, c = config.item_dim, config.gru_dim, config.tcn_channels[0]
    # One-hot matrices map items to the pools of their sessions, and states to the events.
    event = _tcn(config) + _TO_ONE * 2 * sessions * (d + c)
    if config.session_progress:
        event += _BOTH_WAYS * 2 * (PROGRESS + c) * PROGRESS_UNITS
    return event, _BOTH_WAYS * 2 * (d * 3 * h + h * 3 * h + h * c)


def _hiergru(config: HierGRUConfig, grid: bool) -> tuple[int, int]:
    d, h = config.item_dim, config.gru_dim
    session_level = d * 3 * h + h * 3 * h + h * d
    user_level = h * 3 * h + h * 3 * h + h * h
    if grid:
        return _BOTH_WAYS * 2 * session_level, _BOTH_WAYS * 2 * user_level
    return _BOTH_WAYS * 2 * (session_level + user_level), 0


def _attention(config: AttentionConfig, events: int, products: int, of_age: bool = True) -> int:
    """FLOPs of joining the item, the blocks of attention, and the output.

    Args:
      config: The model's config.
      events: Events in a row.
      products: Number of c x c products in a block, including those for queries, keys and values.
      of_age: Whether queries are multiplied with embeddings of ages.
    """
    d, c, window = config.item_dim, config.attention_dim, config.attention_window
    block = block_length(events, window - 1)
    # Rows are padded to whole blocks; each query meets the keys of its block and reach.
    filled = -(-events // block) * block / events
    meetings = filled * c * (2 * (window - 1 + block) + of_age * window)
    macs = d * c + c * d + config.attention_blocks * (products * c * c + meetings)
    return round(_BOTH_WAYS * 2 * macs)
