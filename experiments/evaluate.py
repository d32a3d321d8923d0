"""Scores a trained model on a split.

    python -m experiments.evaluate --workdir=W [--split=valid]

Configs and weights come from the checkpoint. Prints a table and writes W/<split>.json; --slices
adds W/<split>_slices.json and a plot of each slice, W/<split>_slices_<slice>.png. With settings
that are not the run's own (another --mask_seen, --counts, --catalogue, checkpoint or data), names
of files contain them: W/test.mask_user.json. Devices share the work as in training, whatever
devices the run was trained on.
"""

import dataclasses
import sys
from pathlib import Path
from typing import NamedTuple, get_args

from absl import flags

from data_pipelines.commands.command import run_command
from data_pipelines.directories import Kind, require_kind
from data_pipelines.errors import DataError
from data_pipelines.histories.record import Split
from data_pipelines.outputs import check_directory, check_file
from experiments.flags.data_flags import DataLocation, define_data_flags, read_data_location
from experiments.flags.device_flags import Devices, define_device_flags, read_devices
from experiments.flags.levels import define_catalogue_flag, read_level
from experiments.judging.config import MaskSeen
from experiments.judging.result_tables import print_results
from experiments.judging.results import table_path, write_ranks
from experiments.judging.slice_plots import require_matplotlib
from experiments.judging.slice_report import Scoring, report_evaluation
from experiments.processes.cluster import ClusterError, joined
from experiments.runs.data import Catalogue
from experiments.runs.recall import has_level
from experiments.runs.restore import open_run_data, restore_run
from experiments.runs.run_results import score, write_result
from hiertcn_jax.devices import processes
from hiertcn_jax.devices.mesh import MeshError
from hiertcn_jax.memory.levels import FITTED, Level
from hiertcn_jax.saving.checkpoint import CheckpointError

MENDABLE = (DataError, CheckpointError, ClusterError, MeshError, OSError)


class Settings(NamedTuple):
    """What the flags say."""

    workdir: Path
    split: Split
    checkpoint: str
    ranks_out: Path | None
    place: DataLocation
    mask_seen: MaskSeen | None
    slices: bool = False
    devices: Devices = Devices()
    level: Level = FITTED
    catalogue: Catalogue = "fitted"


def define_flags() -> None:
    """Defines the flags of this command."""
    flags.DEFINE_string("workdir", None, "Directory of the trained run.", required=True)
    flags.DEFINE_enum("split", "test", ["test", "valid"], "The part to score.")
    flags.DEFINE_string("checkpoint", "best", "Checkpoint to use: best, last, or a step.")
    flags.DEFINE_string(
        "ranks_out",
        None,
        "File to write with the rank of each scored event: .parquet, .csv or .jsonl.",
    )
    define_data_flags()
    flags.DEFINE_enum(
        "mask_seen",
        None,
        get_args(MaskSeen),
        "Seen items to leave out of the ranking: none, those of the session so far, or of the "
        "user so far. Default: as in the run.",
    )
    flags.DEFINE_string(
        "counts",
        "fitted",
        "Which events the counts of --memory hold: those of the fitted part, live (all before the "
        "event), delayed:15m (live, but late), or static (fitted, frozen at its end).",
    )
    define_catalogue_flag()
    define_device_flags()
    flags.DEFINE_bool("slices", False, "Also write metrics by slice of the events, and plots.")


def read_settings() -> Settings:
    """The settings of the parsed flags.

    Raises:
      ValueError: Plots are asked for but cannot be made, a file has no known format, or there is no
        such level of counts.
    """
    values = flags.FLAGS
    if values.slices:
        require_matplotlib()
    return Settings(
        workdir=Path(values.workdir),
        split=Split[values.split.upper()],
        checkpoint=values.checkpoint,
        ranks_out=values.ranks_out and table_path("ranks_out", values.ranks_out),
        place=read_data_location(),
        mask_seen=values.mask_seen,
        slices=values.slices,
        devices=read_devices(),
        level=read_level("counts", values.counts),
        catalogue=values.catalogue,
    )


def main(settings: Settings) -> None:
    """Restores the run, scores it, prints and writes the result."""
    with joined(settings.devices.cluster, MENDABLE):
        _evaluate(settings)
        processes.wait_for_all("done")


def _check_outputs(settings: Settings) -> None:
    """Refuses unwritable outputs; but a read-only run is scored, and its result only printed."""
    require_kind("workdir", settings.workdir, Kind.RUN, Kind.CELL)
    if settings.ranks_out is not None:
        check_file("ranks_out", settings.ranks_out)
    try:
        check_directory("workdir", settings.workdir)
    except OSError as error:
        print(f"{error}; the result will be printed only", file=sys.stderr, flush=True)


def _evaluate(settings: Settings) -> None:
    if processes.is_first():
        _check_outputs(settings)
    restored = restore_run(settings.workdir, settings.checkpoint, *settings.devices.parallelism)
    if settings.mask_seen is not None:
        config = dataclasses.replace(restored.evaluation, mask_seen=settings.mask_seen)
        restored = restored._replace(evaluation=config)
    data = open_run_data(restored, settings.place, settings.catalogue)
    evaluation = score(restored, data, settings.split, settings.level)
    if not processes.is_first():
        return
    # Print before writing: if writing fails, the work is not lost.
    title = f"{settings.workdir}, checkpoint of step {restored.step}"
    print_results(title, settings.split, {restored.config.name: evaluation.metrics})
    if settings.ranks_out is not None:
        write_ranks(settings.ranks_out, evaluation, data)
    path = write_result(
        settings.workdir, restored, data, settings.split, evaluation, settings.level
    )
    own = path.stem == settings.split.name.lower()
    print(f"written to {path}" + ("" if own else ": not the run's own settings"))
    if settings.slices:
        fit_on, mask_seen = restored.configs["train"]["fit_on"], restored.evaluation.mask_seen
        counts = str(settings.level) if has_level(restored.config) else None
        scoring = Scoring(settings.split, fit_on, mask_seen, counts)
        name, directory = restored.config.name, settings.workdir
        report_evaluation(evaluation, data, name, scoring, directory, path.stem)


if __name__ == "__main__":
    define_flags()
    run_command(read_settings, main, MENDABLE)
