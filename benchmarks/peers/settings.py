"""What the two HierTCNs have in common: the JAX one and the PyTorch one."""

from typing import NamedTuple


class Settings(NamedTuple):
    """Sizes and training, named as in `hiertcn_jax.config`.

    Attributes:
      item_dim: Width of an item embedding.
      gru_dim: Width of the GRU over sessions.
      tcn_channels: Channels of each block of one convolution.
      kernel_size: Taps; block i has dilation 2**i.
      gap_decay_hours: Where the learned decay over the gap between sessions starts.
      negatives: Candidates that the events of a batch share.
      popularity_alpha: They are drawn in proportion to events**alpha, and corrected for it (logQ).
      learning_rate: Of Adam, constant.
    """

    item_dim: int = 128
    gru_dim: int = 128
    tcn_channels: tuple[int, ...] = (128, 128, 128)
    kernel_size: int = 3
    gap_decay_hours: float = 168.0
    negatives: int = 2048
    popularity_alpha: float = 0.5
    learning_rate: float = 2e-3
