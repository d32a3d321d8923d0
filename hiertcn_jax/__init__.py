"""HierTCN in JAX: hierarchical temporal convolutional networks for returning users."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Any, Literal

    from hiertcn_jax.serving.recommender import Recommender

__version__ = "0.1.0"


def load(
    workdir: "str | Path",
    data_dir: "str | Path | None" = None,
    checkpoint: str = "best",
    index: bool = False,
    catalogue: "Literal['fitted', 'live']" = "fitted",
) -> "Recommender":
    """A trained run, or its export, that recommends.

    Args:
      workdir: The run's directory, or that of an export.
      data_dir: Where the run's log is now; None: where it was.
      checkpoint: best, last, or a step of the run.
      index: Find items by an index (the extra `retrieval`) in place of scoring them all: for
        catalogues of a million items. Prints which share of the exact best 100 it finds.
      catalogue: fitted, the items of the training part, or live: all items that anybody picked so
        far. Then an item can be recommended from its first `observe` on, by its counts.

    Raises:
      ValueError: The index is asked for, but faiss is not there or the catalogue is live.
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
        if index:
            raise ValueError("index=True: only for the workdir of a run, not for an export")
        if catalogue != "fitted":
            raise ValueError(f"catalogue={catalogue!r}: an export has only the fitted items")
        return load_export(workdir)
    # The library imports no command. This function is the one way from it to what runs are made of.
    from experiments.service.loading import load as load_run

    return load_run(workdir, data_dir, checkpoint, index, catalogue)


def load_ranker(
    name: str,
    data_dir: "str | Path",
    settings: "Mapping[str, Any] | None" = None,
    catalogue: "Literal['fitted', 'live']" = "fitted",
) -> "Recommender":
    """A ranker without a network that recommends: popularity, item_knn, stan and so on.

    It learns from all events of a prepared log, in seconds, so it needs no run. What users do later
    (`observe`, `add`) changes their own lists, but not what the ranker learned of others.

    Args:
      name: One of `hiertcn_jax.baselines.registry.RANKERS`.
      data_dir: What `hiertcn prepare` wrote.
      settings: Arguments of the ranker, by name.
      catalogue: fitted, or live: all items of the log. Items that come later stay unknown to it.

    Raises:
      ValueError: There is no such ranker, argument or catalogue.
      data_pipelines.errors.DataError: The log is not there, or the ranker cannot learn from it.
    """
    from experiments.service.loading import load_ranker as load_prepared

    return load_prepared(name, data_dir, settings, catalogue)


def fit(
    frame: "Any",
    user: str = "user_id",
    item: str = "item_id",
    time: str = "timestamp",
    session: str | None = None,
    preset: str = "recommended",
    workdir: "str | Path | None" = None,
) -> "Recommender":
    """Prepares a log, trains a model on it and loads it, with progress.

    Ids keep their type. Each user's last session is kept for `evaluate("test")`, the one before it
    for `evaluate("valid")` and to stop training in time.

    Args:
      frame: Events, a data frame of polars, pandas, pyarrow or another library that narwhals knows.
      user: Its column of users: text or whole numbers.
      item: Its column of items, likewise.
      time: Its column of times: datetimes, or numbers since 1970 in s, ms, us or ns.
      session: Its column of session ids; None: a pause of over 30 minutes ends a session.
      preset: Settings: the name of a flagfile that comes with the program, or a ranker's name.
      workdir: Where data and run stay, in `data` and `run`; None: in a temporary directory, as long
        as the Recommender lives.

    Raises:
      TypeError: The frame is no data frame.
      ValueError: A column or the preset does not exist, or there is nothing to train on.
      data_pipelines.errors.DataError: A row cannot be used, or the workdir is in use.
    """
    from experiments.service.fitting import fit as fit_frame

    return fit_frame(frame, user, item, time, session, preset, workdir)
