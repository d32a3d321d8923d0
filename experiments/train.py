"""Trains a model, then scores its best checkpoint on valid and test.

    python -m experiments.train --flagfile=F --data_dir=D --workdir=W

Writes to W: flags.txt (which repeats the run), checkpoints/, metrics.jsonl, tensorboard/,
valid.json and test.json. The same command resumes a run that was killed or stopped. With
--coordinator_address it is one of several processes that train together.
"""

import sys
from pathlib import Path
from typing import NamedTuple

import jax
from absl import flags

from data_pipelines.commands.command import run_command
from data_pipelines.directories import Kind, require_kind
from data_pipelines.errors import DataError
from data_pipelines.histories.record import Split
from data_pipelines.synthetic import Variant
from experiments.flags import run_flags as flags_lib
from experiments.flags.device_flags import define_cluster_flags, read_cluster
from experiments.judging.rankers import evaluate_ranker, fitted_histories
from experiments.judging.result_tables import print_results
from experiments.processes.cluster import Cluster, ClusterError, joined
from experiments.runs.bad_steps import NonFiniteError
from experiments.runs.config import RunConfig, TrainConfig
from experiments.runs.data import Data, make_synthetic, open_data, with_embeddings
from experiments.runs.files import make_workdir
from experiments.runs.locking import lock_workdir
from experiments.runs.resolve import resolve
from experiments.runs.restore import restore_run
from experiments.runs.resume import keep_sizes
from experiments.runs.run_results import score, write_result
from experiments.runs.tiling import tiling_warning
from experiments.runs.train_loop import train
from hiertcn_jax.baselines.popularity import Popularity
from hiertcn_jax.devices import processes
from hiertcn_jax.devices.mesh import MeshError
from hiertcn_jax.saving.checkpoint import CheckpointError

MENDABLE = (DataError, CheckpointError, ClusterError, MeshError, NonFiniteError, OSError)


class Settings(NamedTuple):
    """What the flags say."""

    run: RunConfig
    data_dir: Path
    workdir: Path
    synthetic: Variant | None
    allow_older: bool
    cluster: Cluster | None


def read_settings() -> Settings:
    """The settings of the parsed flags."""
    values = flags.FLAGS
    run = flags_lib.read_run_config()
    flags_lib.require_own_flags(run, sys.argv[1:])
    return Settings(
        run,
        Path(values.data_dir),
        Path(values.workdir),
        flags_lib.read_synthetic(sys.argv[1:]),
        values.allow_older_checkpoint,
        read_cluster(),
    )


def main(settings: Settings) -> None:
    """Prepares synthetic data if asked to, trains, evaluates, and prints the tables."""
    with joined(settings.cluster, MENDABLE):
        _prepare(settings)
        data = with_embeddings(open_data(settings.data_dir), settings.run.train)
        with lock_workdir(settings.workdir):
            _train(settings, data)
            _evaluate(settings, data)
            processes.wait_for_all("done")


def _prepare(settings: Settings) -> None:
    if processes.is_first():
        make_synthetic(settings.data_dir, settings.synthetic)
        require_kind("workdir", settings.workdir, Kind.RUN)
        make_workdir(settings.workdir)
    processes.wait_for_all("prepared")


def _train(settings: Settings, data: Data) -> None:
    kept = processes.first_says(
        keep_sizes(settings.run.train, settings.workdir / "checkpoints").to_dict()
    )
    run = resolve(settings.run._replace(train=TrainConfig.from_dict(kept)), data)
    if warning := tiling_warning(run.config, jax.default_backend()):
        print(warning, file=sys.stderr)
    flags_file = settings.workdir / "flags.txt"
    train(
        run,
        settings.workdir,
        lambda: flags_lib.save_flags(flags_file, run.config),
        settings.allow_older,
    )
    processes.wait_for_all("trained")


def _evaluate(settings: Settings, data: Data) -> None:
    config = settings.run.train
    restored = restore_run(
        settings.workdir, "best", config.data_parallelism, config.model_parallelism
    )
    # Evaluation flags may have changed since the checkpoint; popularity is scored by them too.
    restored = restored._replace(evaluation=settings.run.evaluation)
    valid = score(restored, data, Split.VALID)
    if processes.is_first():
        write_result(settings.workdir, restored, data, Split.VALID, valid)
    evaluation = score(restored, data, Split.TEST)
    if not processes.is_first():
        return
    popularity = Popularity(data.vocabulary.size)
    popularity.fit(fitted_histories(data, config.fit_on))
    mask_seen = settings.run.evaluation.mask_seen
    rows = {
        settings.run.model.name: evaluation.metrics,
        "popularity": evaluate_ranker(popularity, data, Split.TEST, mask_seen).metrics,
    }
    print_results(f"{settings.workdir}, checkpoint of step {restored.step}", Split.TEST, rows)
    write_result(settings.workdir, restored, data, Split.TEST, evaluation)


if __name__ == "__main__":
    flags_lib.define_train_flags()
    define_cluster_flags()
    run_command(read_settings, main, MENDABLE, resumes=True)
