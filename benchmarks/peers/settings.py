"""Settings that the two HierTCNs share: the JAX one and the PyTorch one."""

from typing import NamedTuple


class Settings(NamedTuple):
    """Sizes and training, named as in `hiertcn_jax.config`.

    Attributes:
      item_dim: Width of an item embedding.
      gru_dim: Width of the GRU over sessions.
      tcn_channels: Channels of each block of one convolution.
      kernel_size: Taps; block i has dilation 2**i.
      gap_decay_hours: Initial value of the learned decay over the gap between sessions.
      negatives: Candidates shared by the events of a batch.
      popularity_alpha: They are drawn in proportion to events**alpha, and corrected for it (logQ).
      learning_rate: Adam's learning rate, constant.
    """

    item_dim: int = 128
    gru_dim: int = 128
    tcn_channels: tuple[int, ...] = (128, 128, 128)
    kernel_size: int = 3
    gap_decay_hours: float = 168.0
    negatives: int = 2048
    popularity_alpha: float = 0.5
    learning_rate: float = 2e-3
