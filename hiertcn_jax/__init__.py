"""HierTCN in JAX: hierarchical temporal convolutional networks for users who come back."""

__version__ = "0.1.0"
