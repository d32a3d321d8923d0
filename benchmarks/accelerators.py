"""Projects a training step's time on accelerators that are not at hand, from published figures."""

from typing import NamedTuple


class Accelerator(NamedTuple):
    """One chip, by its maker's description.

    Attributes:
      bfloat16_flops_per_s: Dense matrix products.
      bytes_per_s: Bandwidth of its memory.
      source: Where the figures are published.
    """

    bfloat16_flops_per_s: float
    bytes_per_s: float
    source: str


ACCELERATORS = {
    "A100": Accelerator(312e12, 2039e9, "NVIDIA A100 datasheet, 80 GB SXM"),
    "H100": Accelerator(989.4e12, 3350e9, "NVIDIA H100 datasheet, SXM, without sparsity"),
    "TPU v5e": Accelerator(197e12, 819e9, "Cloud TPU documentation, v5e, one chip"),
}


def projected_hours(
    accelerator: Accelerator,
    utilisation: float,
    events: float,
    flops_per_event: float,
    bytes_per_event: float,
) -> float:
    """Hours to train once on this many events, on one chip.

    Matrix products or memory, whichever is slower, set the pace; both at the same share of the
    published figure. Left out: the host, transfers, launching kernels.

    Args:
      accelerator: The chip.
      utilisation: In (0, 1]. The share of its published figures that it reaches.
      events: Events to train on.
      flops_per_event: FLOPs of the step.
      bytes_per_event: Bytes that the step reads and writes.
    """
    flops_s = flops_per_event / (utilisation * accelerator.bfloat16_flops_per_s)
    bytes_s = bytes_per_event / (utilisation * accelerator.bytes_per_s)
    return events * max(flops_s, bytes_s) / 3600
