"""HierTCN in JAX: hierarchical temporal convolutional networks for returning users."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from hiertcn_jax.serving.recommender import Recommender

__version__ = "0.1.0"


def load(
    workdir: "str | Path", data_dir: "str | Path | None" = None, checkpoint: str = "best"
) -> "Recommender":
    """A trained run that recommends.

    Args:
      workdir: The run's directory.
      data_dir: Where its log is now; None: where it was.
      checkpoint: best, last, or a step.

    Raises:
      hiertcn_jax.saving.checkpoint.CheckpointError: There is no such checkpoint, or it cannot be
        read.
      data_pipelines.errors.DataError: The log is not there, or not the run's.
    """
    # The library imports no command. This function is the one way from it to what runs are made of.
    from experiments.service.loading import load as load_run

    return load_run(workdir, data_dir, checkpoint)
