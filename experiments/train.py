"""Trains a model, then scores its best checkpoint on valid and test.

    python -m experiments.train --flagfile=F --data_dir=D --workdir=W

Writes to W: flags.txt (which repeats the run), checkpoints/, metrics.jsonl, tensorboard/,
learning_curve.png, valid.json and test.json. The same command resumes a run that was killed or
stopped. With --coordinator_address it is one of several processes that train together.

    python -m experiments.train --continue_from=W0 --data_dir=D1 --workdir=W1

continues a run on a log to which events were appended (docs/continual.md).
"""

import sys
from pathlib import Path
from typing import Any, NamedTuple

import jax
from absl import flags

from data_pipelines.commands.command import StoppedError, run_command
from data_pipelines.directories import Kind, require_kind
from data_pipelines.errors import DataError
from data_pipelines.histories.record import Split
from data_pipelines.outputs import check_directory
from data_pipelines.synthetic import Variant
from experiments.flags import continuing_flags
from experiments.flags import run_flags as flags_lib
from experiments.flags.device_flags import define_cluster_flags, read_cluster
from experiments.judging.result_tables import print_results, report_line
from experiments.judging.simple_rankers import losing_lines, score_simple
from experiments.processes.cluster import Cluster, ClusterError, joined
from experiments.runs.bad_steps import NonFiniteError
from experiments.runs.config import RunConfig, TrainConfig
from experiments.runs.continuing import REPLAY_SHARE, continue_on
from experiments.runs.data import Data, make_synthetic, open_data, with_embeddings
from experiments.runs.header import header_lines
from experiments.runs.learning_curve import draw_learning_curve
from experiments.runs.locking import lock_workdir
from experiments.runs.plan import Plan
from experiments.runs.resolve import ResolvedRun, resolve
from experiments.runs.restore import Restored, restore_run
from experiments.runs.resume import keep_sizes
from experiments.runs.run_results import score, write_result
from experiments.runs.tiling import tiling_warning
from experiments.runs.train_loop import train
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
    continue_from: Path | None = None
    replay_share: float = REPLAY_SHARE


def define_flags() -> None:
    """Defines the flags of this command."""
    flags_lib.define_train_flags()
    continuing_flags.define_continuing_flags()
    define_cluster_flags()


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
        continuing_flags.read_continue_from(),
        values.replay_share,
    )


def main(settings: Settings) -> None:
    """Prepares synthetic data if asked to, trains, evaluates, and prints the tables."""
    with joined(settings.cluster, MENDABLE):
        _prepare(settings)
        before = None
        if settings.continue_from is not None:
            before = restore_run(settings.continue_from, "best")
            run = continuing_flags.continued_config(settings.run, before, settings.continue_from)
            settings = settings._replace(run=run)
        data = with_embeddings(open_data(settings.data_dir), settings.run.train)
        with lock_workdir(settings.workdir):
            _evaluate(settings, data, _train(settings, data, before).plan)
            processes.wait_for_all("done")


def _prepare(settings: Settings) -> None:
    if processes.is_first():
        make_synthetic(settings.data_dir, settings.synthetic)
        require_kind("workdir", settings.workdir, Kind.RUN)
        check_directory("workdir", settings.workdir)
    processes.wait_for_all("prepared")


def _train(settings: Settings, data: Data, before: Restored | None = None) -> ResolvedRun:
    kept = processes.first_says(
        keep_sizes(settings.run.train, settings.workdir / "checkpoints").to_dict()
    )
    config = settings.run._replace(train=TrainConfig.from_dict(kept))
    continued = None
    if before is not None and settings.continue_from is not None:
        continued = continue_on(
            before, settings.continue_from, data, config.train, settings.replay_share
        )
    run = resolve(config, data, continued)
    if warning := tiling_warning(run.config, jax.default_backend()):
        print(warning, file=sys.stderr)

    def start() -> None:
        flags_lib.save_flags(settings.workdir / "flags.txt", run.config)
        for line in header_lines(run):
            print(line, flush=True)

    try:
        train(run, settings.workdir, start, settings.allow_older)
    except StoppedError:
        _draw_curve(settings.workdir, run.config.train)
        raise
    _draw_curve(settings.workdir, run.config.train)
    processes.wait_for_all("trained")
    return run


def _draw_curve(workdir: Path, config: TrainConfig) -> None:
    if not processes.is_first():
        return
    better = config.monitored.lower_is_better
    if why_not := draw_learning_curve(workdir, config.monitor, better):
        print(why_not)


def _evaluate(settings: Settings, data: Data, plan: Plan) -> None:
    config, workdir = settings.run.train, settings.workdir
    restored = restore_run(workdir, "best", config.data_parallelism, config.model_parallelism)
    # The flags may have been changed since the checkpoint; rankers are scored by them too.
    restored = restored._replace(evaluation=settings.run.evaluation)
    paths, results = [], {}
    for split in (Split.VALID, Split.TEST):
        results[split] = score(restored, data, split)
        if processes.is_first():
            paths.append(write_result(workdir, restored, data, split, results[split]))
    if not processes.is_first():
        return
    name, metrics = settings.run.model.name, results[Split.TEST].metrics
    mask_seen = settings.run.evaluation.mask_seen
    beside = score_simple(data, config.fit_on, Split.TEST, mask_seen)
    title = f"{workdir}, checkpoint of step {restored.step}"
    print_results(title, Split.TEST, {name: metrics, **beside.metrics})
    print()
    for line in [
        *losing_lines(name, metrics, beside.metrics, config.monitor),
        *([] if beside.why_not is None else [beside.why_not]),
        _best_line(config, plan, restored.step, results[Split.VALID].metrics),
        f"results: {', '.join(map(str, paths))}",
        report_line(workdir),
    ]:
        print(line)


def _best_line(config: TrainConfig, plan: Plan, step: int, valid: dict[str, Any]) -> str:
    """Which checkpoint was scored, and why this one."""
    place = f"step {step:,} of {plan.total_steps:,}, epoch {step / plan.steps_per_epoch:.3g}"
    if config.fit_on != "train":
        return f"last: {place}; valid is trained on, so no checkpoint is the best"
    group, metric = config.monitor.split("/")
    return f"best: {place}, with {config.monitor} {valid[group][metric]:.4f} on valid"


if __name__ == "__main__":
    define_flags()
    run_command(read_settings, main, MENDABLE, resumes=True)
