"""HierTCN in JAX: hierarchical temporal convolutional networks for returning users."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from hiertcn_jax.serving.recommender import Recommender

__version__ = "0.1.0"


def load(
    workdir: "str | Path", data_dir: "str | Path | None" = None, checkpoint: str = "best"
) -> "Recommender":
    """A trained run, or its export, that recommends.

    Args:
      workdir: The run's directory, or that of an export.
      data_dir: Where the run's log is now; None: where it was.
      checkpoint: best, last, or a step of the run.

    Raises:
      hiertcn_jax.saving.checkpoint.CheckpointError: There is no such checkpoint, or it cannot be
        read.
      hiertcn_jax.exported.reading.ExportError: The export is damaged, or of another version.
      data_pipelines.errors.DataError: The log is not there, or not the run's.
      ValueError: An export is given a log or a checkpoint; it holds what it needs.
    """
    from pathlib import Path

    if (Path(workdir) / "manifest.json").exists():
        from hiertcn_jax.exporting.loading import load_export

        if data_dir is not None or checkpoint != "best":
            raise ValueError(f"{workdir}: is an export; it has no other log and no checkpoints")
        return load_export(workdir)
    # The library imports no command. This function is the one way from it to what runs are made of.
    from experiments.service.loading import load as load_run

    return load_run(workdir, data_dir, checkpoint)
