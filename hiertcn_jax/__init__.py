"""HierTCN in JAX: hierarchical temporal convolutional networks for returning users."""

__version__ = "0.1.0"
