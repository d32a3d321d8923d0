"""Scores a trained model on a split.

    python -m experiments.evaluate --workdir=W [--split=test] [--checkpoint=best]

Configs and weights come from the checkpoint. Prints a table and writes W/<split>.json; with
--slices also W/<split>_slices.json and a plot of each slice, W/<split>_slices_<slice>.png. Devices
share the work as in training, whatever the run was trained on.
"""

import dataclasses
from pathlib import Path
from typing import NamedTuple, get_args

from absl import flags

from data_pipelines.commands.command import run_command
from data_pipelines.errors import DataError
from data_pipelines.histories.record import Split
from experiments.flags.place_flags import (
    DataPlace,
    Devices,
    define_device_flags,
    define_place_flags,
    read_devices,
    read_place,
)
from experiments.judging.config import MaskSeen
from experiments.judging.evaluation import Evaluation, Evaluator
from experiments.judging.results import metrics_table, print_table, write_json, write_ranks
from experiments.judging.slice_plots import require_matplotlib
from experiments.judging.slice_report import Scoring, report_evaluation
from experiments.processes.cluster import ClusterError, joined
from experiments.runs.data import Data
from experiments.runs.restore import Restored, open_run_data, restore_run
from hiertcn_jax.devices import processes
from hiertcn_jax.devices.mesh import MeshError
from hiertcn_jax.saving.checkpoint import CheckpointError

MENDABLE = (DataError, CheckpointError, ClusterError, MeshError, OSError)


class Settings(NamedTuple):
    """What the flags say."""

    workdir: Path
    split: Split
    checkpoint: str
    ranks_out: Path | None
    place: DataPlace
    mask_seen: MaskSeen | None
    slices: bool = False
    devices: Devices = Devices()


def define_flags() -> None:
    """The flags of this command."""
    flags.DEFINE_string("workdir", None, "Directory of the run.", required=True)
    flags.DEFINE_enum("split", "test", ["test", "valid"], "The part that is scored.")
    flags.DEFINE_string("checkpoint", "best", "best, last, or a step.")
    flags.DEFINE_string("ranks_out", None, "Parquet file for the rank of each scored event.")
    define_place_flags()
    flags.DEFINE_enum(
        "mask_seen", None, get_args(MaskSeen), "Items left out; default: as the run has it."
    )
    define_device_flags()
    flags.DEFINE_bool("slices", False, "Also write metrics by slice of the events, and plots.")


def read_settings() -> Settings:
    """The settings of the parsed flags.

    Raises:
      ValueError: Plots are asked for, but cannot be made.
    """
    values = flags.FLAGS
    if values.slices:
        require_matplotlib()
    return Settings(
        workdir=Path(values.workdir),
        split=Split[values.split.upper()],
        checkpoint=values.checkpoint,
        ranks_out=None if values.ranks_out is None else Path(values.ranks_out),
        place=read_place(),
        mask_seen=values.mask_seen,
        slices=values.slices,
        devices=read_devices(),
    )


def evaluate_run(restored: Restored, data: Data, split: Split, workdir: Path) -> Evaluation:
    """Scores a restored model, and writes W/<split>.json by the evaluation contract."""
    evaluator = Evaluator(
        restored.model, restored.config, restored.evaluation, data, split, restored.layout
    )
    evaluation = evaluator(restored.params)
    values = {
        "split": split.name.lower(),
        "checkpoint_step": restored.step,
        "mask_seen": restored.evaluation.mask_seen,
        **evaluation.metrics,
    }
    if processes.is_first():
        write_json(workdir / f"{split.name.lower()}.json", values)
    return evaluation


def main(settings: Settings) -> None:
    """Restores, scores, prints, writes."""
    with joined(settings.devices.cluster, MENDABLE):
        _evaluate(settings)
        processes.wait_for_all("done")


def _evaluate(settings: Settings) -> None:
    restored = restore_run(settings.workdir, settings.checkpoint, *settings.devices.parallelism)
    if settings.mask_seen is not None:
        config = dataclasses.replace(restored.evaluation, mask_seen=settings.mask_seen)
        restored = restored._replace(evaluation=config)
    data = open_run_data(restored, settings.place)
    evaluation = evaluate_run(restored, data, settings.split, settings.workdir)
    if not processes.is_first():
        return
    if settings.ranks_out is not None:
        write_ranks(settings.ranks_out, evaluation, data)
    if settings.slices:
        fit_on, mask_seen = restored.configs["train"]["fit_on"], restored.evaluation.mask_seen
        scoring = Scoring(settings.split, fit_on, mask_seen)
        report_evaluation(evaluation, data, restored.config.name, scoring, settings.workdir)
    title = f"{settings.workdir}, {settings.split.name.lower()}, checkpoint of step {restored.step}"
    print_table(metrics_table({restored.config.name: evaluation.metrics}, title))


if __name__ == "__main__":
    define_flags()
    run_command(read_settings, main, MENDABLE)
