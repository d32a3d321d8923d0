"""Floating-point operations of a training step's matrix products, by formula (docs/performance.md).

A product of [m, k] and [k, n] counts 2 m k n. Going back it is done twice more, once for each
factor; once only where one factor is data (the one-hot products). What is not a matrix product is
not counted: it is a few per cent, and a machine's peak is that of products.

XLA's own count takes the body of a loop once, however often it runs. A test holds the formula
against the products of the traced step, and against XLA's count of a step without loops.
"""

import itertools

from hiertcn_jax.batch import Bucket
from hiertcn_jax.config import ModelConfig
from hiertcn_jax.layers.attention import AttentionConfig, block_length
from hiertcn_jax.layers.gru import GRUConfig
from hiertcn_jax.layers.tcn import TCNConfig
from hiertcn_jax.models.esasrec import ESASRecConfig
from hiertcn_jax.models.flat_gru import FlatGRUConfig
from hiertcn_jax.models.flat_tcn import FlatTCNConfig
from hiertcn_jax.models.hiergru import HierGRUConfig
from hiertcn_jax.models.hiertcn import HierTCNConfig
from hiertcn_jax.models.sasrec import SASRecConfig

_BOTH_WAYS = 3
"""Forward, and back to either factor."""
_TO_ONE = 2
"""Forward, and back to the factor that is not data."""


def train_step_flops(config: ModelConfig, bucket: Bucket, negatives: int, grid: bool) -> int:
    """FLOPs of one training step with sampled softmax against shared negatives.

    Args:
      config: Of a model on whole histories or with both levels, with one GRU layer and no
        projection.
      bucket: Lanes, slots in a row, and session slots.
      negatives: `k`.
      grid: hiergru's two loops of `HierGRUGrid` instead of the one of `HierGRU`.

    Raises:
      ValueError: There is no formula for this config.
    """
    has_layers = isinstance(config, GRUConfig) and config.gru_layers != 1
    if has_layers or config.projection_dim:
        raise ValueError("a formula is there for one GRU layer and no projection alone")
    event, session = _model(config, bucket, grid)
    softmax = _BOTH_WAYS * 2 * (negatives + 1) * config.item_dim
    return bucket.lanes * (bucket.events * (event + softmax) + bucket.sessions * session)


def _model(config: ModelConfig, bucket: Bucket, grid: bool) -> tuple[int, int]:
    """FLOPs of the model for an event slot and for a session slot, forward and back."""
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
    raise ValueError(f"model={config.name}: there is no formula for it")


def _tcn(config: TCNConfig) -> int:
    """Joining the item, the convolutions, and the output."""
    widths = [config.tcn_channels[0], *config.tcn_channels]
    macs = config.item_dim * widths[0] + widths[-1] * config.item_dim
    for before, after in itertools.pairwise(widths):
        macs += config.kernel_size * (before + (config.convs_per_block - 1) * after) * after
        macs += before * after if config.residual and before != after else 0
    return _BOTH_WAYS * 2 * macs


def _hiertcn(config: HierTCNConfig, sessions: int) -> tuple[int, int]:
    d, h, c = config.item_dim, config.gru_dim, config.tcn_channels[0]
    # By one-hot matrices: items into the pools of their sessions, states to the events.
    event = _tcn(config) + _TO_ONE * 2 * sessions * (d + c)
    return event, _BOTH_WAYS * 2 * (d * 3 * h + h * 3 * h + h * c)


def _hiergru(config: HierGRUConfig, grid: bool) -> tuple[int, int]:
    d, h = config.item_dim, config.gru_dim
    session_level = d * 3 * h + h * 3 * h + h * d
    user_level = h * 3 * h + h * 3 * h + h * h
    if grid:
        return _BOTH_WAYS * 2 * session_level, _BOTH_WAYS * 2 * user_level
    return _BOTH_WAYS * 2 * (session_level + user_level), 0


def _attention(config: AttentionConfig, events: int, products: int, of_age: bool = True) -> int:
    """Joining the item, blocks of attention, and the output.

    Args:
      config: The model's.
      events: In a row.
      products: Of c by c in a block, those for queries, keys and values among them.
      of_age: Whether queries meet embeddings of ages.
    """
    d, c, window = config.item_dim, config.attention_dim, config.attention_window
    block = block_length(events, window - 1)
    # Rows are filled up to whole blocks; each query meets the keys of its block and reach.
    filled = -(-events // block) * block / events
    meetings = filled * c * (2 * (window - 1 + block) + of_age * window)
    macs = d * c + c * d + config.attention_blocks * (products * c * c + meetings)
    return round(_BOTH_WAYS * 2 * macs)
