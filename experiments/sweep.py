r"""Searches hyperparameters; valid decides.

    python -m experiments.sweep --flagfile=F --data_dir=D --workdir=W \
        --space=S.json --trials=20

All trials share the flags of experiments.train; S.json says which of them are drawn, and from what
(experiments.sweeping.space). Each trial is a training run in W/trials/NNNN. With --ranker=stan the
space covers that ranker's arguments instead. --storage keeps the trials, by default W/sweep.db; the
same command resumes a sweep. Any number of machines may run the same command with one PostgreSQL:
--storage=postgresql://user@host/database.

At the end it writes a leaderboard with the parameters' importance, W/leaderboard.json and .csv,
W/best.flags for experiments.train, and W/best.json for --settings of experiments.compare.
--emit_flagfiles=DIR only writes the trials as flagfiles, for a cluster's scheduler.
"""

import importlib.util
import sys

if importlib.util.find_spec("optuna") is None:
    print("error: sweeps need Optuna: python -m pip install 'hiertcn_jax[sweep]'", file=sys.stderr)
    sys.exit(1)

from pathlib import Path
from typing import Any, NamedTuple

import optuna
from absl import flags

from data_pipelines.commands.command import StoppedError, one_line, run_command
from data_pipelines.directories import Kind, require_kind, require_outside
from data_pipelines.errors import DataError
from data_pipelines.outputs import check_directory
from data_pipelines.synthetic import Variant
from experiments.flags import run_flags as flags_lib
from experiments.flags.own_settings import override_own
from experiments.flags.run_flags import run_lines
from experiments.judging.rankers import make_ranker
from experiments.judging.result_tables import print_table, report_line
from experiments.judging.results import write_json
from experiments.runs.config import RunConfig
from experiments.runs.data import (
    Data,
    make_synthetic,
    open_data,
    require_monitored,
    with_embeddings,
)
from experiments.runs.files import kept_if_used, write_text
from experiments.sweeping.leaderboard import (
    importance_table,
    importances,
    leaderboard,
    leaderboard_table,
    write_leaderboard,
)
from experiments.sweeping.made_with import made_with
from experiments.sweeping.space import Space, read_space
from experiments.sweeping.study import (
    PRUNERS,
    SAMPLERS,
    SeededByTrial,
    StopError,
    StudyConfig,
    StudyError,
    open_study,
    trial_index_of,
    work,
)
from experiments.sweeping.trials import TrialError, Validation, epoch_of, run_ranker, run_training
from hiertcn_jax.baselines.registry import RANKERS
from hiertcn_jax.models.budget import fit_to_budget

_SQLITE = "sqlite:///"


class Settings(NamedTuple):
    """What the flags say."""

    run: RunConfig
    data_dir: Path
    workdir: Path
    space: Space
    study: StudyConfig
    ranker: str | None
    parameter_budget: int
    emit_flagfiles: Path | None
    synthetic: Variant | None = None


def define_flags() -> None:
    """Defines the flags of this command: those of training, and its own."""
    flags_lib.define_train_flags()
    flags.DEFINE_string("space", None, "JSON file of the search space.", required=True)
    flags.DEFINE_integer("trials", 20, "Trials in total, over all workers.", lower_bound=1)
    flags.DEFINE_string(
        "storage", None, "Database URL for the trials. Default: W/sweep.db (SQLite)."
    )
    flags.DEFINE_string(
        "study", None, "Name of the sweep in --storage. Default: the workdir's name."
    )
    flags.DEFINE_enum(
        "sampler", "tpe", SAMPLERS, "How to draw trials: tpe learns from results, random does not."
    )
    flags.DEFINE_enum(
        "pruner",
        "median",
        PRUNERS,
        "Whether to stop trials early. median: a trial whose best validation so far is below the "
        "others' median at that validation; then keep --epochs out of the space.",
    )
    flags.DEFINE_integer(
        "retries",
        2,
        "How often to retry a trial that failed or was killed. A failure that would only recur, "
        "such as a value that a flag refuses, is not retried.",
        lower_bound=0,
    )
    flags.DEFINE_integer(
        "heartbeat_seconds",
        60,
        "Another worker takes over a trial if its worker was silent for twice as many seconds.",
        lower_bound=1,
    )
    flags.DEFINE_enum(
        "ranker", None, sorted(RANKERS), "Tune the arguments of this ranker instead of --model."
    )
    flags.DEFINE_integer(
        "parameter_budget",
        0,
        "Scale each trial's widths to this number of parameters, not counting item embeddings. "
        "0: keep the widths.",
        lower_bound=0,
    )
    flags.DEFINE_string(
        "emit_flagfiles", None, "Only write the trials as flagfiles into this directory."
    )


def read_settings() -> Settings:
    """The settings that the parsed flags give.

    Raises:
      ValueError: A value is invalid, or two contradict each other.
    """
    values = flags.FLAGS
    workdir = Path(values.workdir)
    run = flags_lib.read_run_config()
    if values.ranker is None:
        flags_lib.require_own_flags(run, sys.argv[1:])
    settings = Settings(
        run=run,
        data_dir=Path(values.data_dir),
        workdir=workdir,
        space=read_space(Path(values.space)),
        study=StudyConfig(
            storage=values.storage or f"sqlite:///{workdir / 'sweep.db'}",
            name=values.study or workdir.resolve().name,
            trials=values.trials,
            sampler=values.sampler,
            pruner=values.pruner,
            seed=values.seed,
            retries=values.retries,
            heartbeat_seconds=values.heartbeat_seconds,
            lower_is_better=run.train.monitored.lower_is_better,
        ),
        ranker=values.ranker,
        parameter_budget=values.parameter_budget,
        emit_flagfiles=Path(values.emit_flagfiles) if values.emit_flagfiles else None,
        synthetic=flags_lib.read_synthetic(sys.argv[1:]),
    )
    _check(settings)
    return settings


def _check(settings: Settings) -> None:
    if settings.run.train.fit_on != "train":
        raise ValueError(
            f"flag --fit_on={settings.run.train.fit_on}: a sweep chooses on valid, so it fits on "
            "train"
        )
    if settings.emit_flagfiles and settings.ranker:
        raise ValueError("flag --emit_flagfiles: a ranker has no flagfile")
    if settings.emit_flagfiles and settings.study.sampler != "random":
        raise ValueError(
            "flag --emit_flagfiles: needs --sampler=random, since tpe learns from results"
        )
    for dimension in settings.space.dimensions:
        for probe in dimension.probes():
            try:
                if settings.ranker is not None:
                    make_ranker(settings.ranker, 3, {dimension.name: probe})
                else:
                    _check_flag(settings.run, dimension.name, probe)
            except (TypeError, ValueError, flags.Error) as error:
                path = flags.FLAGS.space
                raise ValueError(f"flag --space={path}: {dimension.name}: {error}") from error


def _check_flag(run: RunConfig, name: str, value: Any) -> None:
    if name in flags.FLAGS:
        flags.FLAGS[name].parser.parse(str(value))
    override_own(run, {name: value})


def trial_run(settings: Settings, drawn: dict[str, Any]) -> RunConfig:
    """The configs of a trial.

    Raises:
      ValueError: Drawn values contradict each other, or cannot be fitted to the budget.
    """
    run = settings.run.override(drawn)
    if settings.parameter_budget:
        run = run._replace(model=fit_to_budget(run.model, settings.parameter_budget))
    return run


def trial_directory(settings: Settings, trial_index: int) -> Path:
    """The workdir of a trial."""
    return settings.workdir / "trials" / f"{trial_index:04d}"


def trial_lines(settings: Settings, run: RunConfig, workdir: Path) -> list[str]:
    """The flagfile of a trial."""
    return [*run_lines(run), f"--data_dir={settings.data_dir}", f"--workdir={workdir}"]


def main(settings: Settings) -> None:
    """Runs this worker's share of the trials, then shows the results of all.

    Raises:
      StudyError: The storage cannot be used, or every trial failed.
    """
    require_kind("workdir", settings.workdir, Kind.SWEEP)
    if settings.study.storage.startswith(_SQLITE):
        require_outside("storage", Path(settings.study.storage.removeprefix(_SQLITE)))
    if settings.emit_flagfiles is not None:
        require_kind("emit_flagfiles", settings.emit_flagfiles, Kind.SWEEP)
        check_directory("emit_flagfiles", settings.emit_flagfiles)
    check_directory("workdir", settings.workdir)
    make_synthetic(settings.data_dir, settings.synthetic)
    data = with_embeddings(open_data(settings.data_dir), settings.run.train)
    require_monitored(data, settings.run.train.monitor)
    if settings.emit_flagfiles is not None:
        _emit(settings, settings.emit_flagfiles)
        return
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    shared = made_with(
        settings.run, data, settings.space, settings.ranker, settings.parameter_budget
    )
    with kept_if_used(settings.workdir), open_study(settings.study, shared) as study:
        try:
            work(study, settings.study, lambda trial: _objective(settings, data, trial))
        except StopError as stopped:
            raise StoppedError(stopped.signal_number) from stopped
        _conclude(settings, data, study)


def _objective(settings: Settings, data: Data, trial: optuna.Trial) -> float:
    drawn = settings.space.suggest(trial)
    trial_index = trial_index_of(trial.study, trial.number)
    directory = trial_directory(settings, trial_index)
    trial.set_user_attr("workdir", str(directory.absolute()))
    print(f"trial {trial_index}: {drawn}", flush=True)
    try:
        metrics = _run(settings, data, trial, drawn, directory)
    except optuna.TrialPruned:
        print(f"trial {trial_index}: pruned", flush=True)
        raise
    except TrialError as error:
        trial.set_user_attr("error", str(error))
        print(f"trial {trial_index}: failed: {error}", flush=True)
        raise
    if "checkpoint_step" in metrics:
        step = metrics["checkpoint_step"]
        trial.set_user_attr("best_step", step)
        trial.set_user_attr("best_epoch", epoch_of(directory, step))
    group, _, name = settings.run.train.monitor.partition("/")
    value = metrics[group][name]
    print(f"trial {trial_index}: {settings.run.train.monitor} {value:.4f}", flush=True)
    return value


def _run(
    settings: Settings, data: Data, trial: optuna.Trial, drawn: dict[str, Any], directory: Path
) -> dict[str, Any]:
    """The metrics of a trial on valid.

    Raises:
      TrialError: It has none.
      optuna.TrialPruned: It was stopped as hopeless.
    """
    if settings.ranker is not None:
        mask_seen = settings.run.evaluation.mask_seen
        return run_ranker(directory, settings.ranker, drawn, data, mask_seen)
    try:
        run = trial_run(settings, drawn)
    except ValueError as error:
        raise TrialError(str(error), recurs=True) from error

    def stops_after(validation: Validation) -> bool:
        trial.report(validation.value, validation.number)
        return trial.should_prune()

    lines = trial_lines(settings, run, directory)
    metrics = run_training(directory, lines, run.train.monitor, stops_after)
    if metrics is None:
        raise optuna.TrialPruned
    return metrics


def _emit(settings: Settings, directory: Path) -> None:
    """Writes the trials that --sampler=random will draw, one flagfile each.

    Leaves out and names draws that contradict each other; a sweep records them as failed.

    Raises:
      StudyError: All of them are left out; nothing is written then.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=SeededByTrial("random", settings.study.seed))
    texts: dict[int, str] = {}
    for number in range(settings.study.trials):
        drawn = settings.space.suggest(study.ask())
        try:
            run = trial_run(settings, drawn)
        except ValueError as error:
            print(f"trial {number} is left out: {drawn}: {one_line(str(error))}", file=sys.stderr)
            continue
        lines = trial_lines(settings, run, trial_directory(settings, number))
        texts[number] = "\n".join(lines) + "\n"
    if not texts:
        raise StudyError(
            f"flag --emit_flagfiles={directory}: no trial is left; "
            "change the space, or the flags that its values contradict"
        )
    directory.mkdir(parents=True, exist_ok=True)
    for number in range(settings.study.trials):
        path = directory / f"trial_{number:04d}.flags"
        if number in texts:
            write_text(path, texts[number])
        else:
            path.unlink(missing_ok=True)
    print(f"{len(texts)} flagfiles in {directory}")


def _conclude(settings: Settings, data: Data, study: optuna.Study) -> None:
    entries = leaderboard(study)
    shares = importances(study, list(settings.space.values))
    header = {
        "model": settings.ranker or settings.run.model.name,
        "monitor": settings.run.train.monitor,
        "split": "valid",
        "data_hash": data.content_hash,
        "parameter_budget": settings.parameter_budget,
        "space": settings.space.values,
    }
    write_leaderboard(settings.workdir, entries, shares, header)
    title = f"{settings.workdir}, valid {settings.run.train.monitor}"
    print_table(leaderboard_table(entries, title))
    if shares:
        print_table(importance_table(shares))
    best = entries[0]
    if best.state != "done":
        raise StudyError(
            f"{settings.workdir}: no trial has a result; leaderboard.json has the error of each"
        )
    _write_best(settings, best.params)
    print(f"results: {settings.workdir}/leaderboard.json, best.json")
    # Another machine may have trained it.
    workdir = trial_directory(settings, best.trial)
    if settings.ranker is None and workdir.is_dir():
        print(f"the best trial: {workdir}; {report_line(workdir)}")


def _write_best(settings: Settings, drawn: dict[str, Any]) -> None:
    """Writes W/best.json and, for a training run, W/best.flags."""
    if settings.ranker is not None:
        write_json(settings.workdir / "best.json", {settings.ranker: drawn})
        return
    run = trial_run(settings, drawn)
    write_json(settings.workdir / "best.json", {run.model.name: drawn})
    lines = run_lines(run)
    write_text(settings.workdir / "best.flags", "\n".join(lines) + "\n")


if __name__ == "__main__":
    define_flags()
    run_command(read_settings, main, (DataError, StudyError, OSError), resumes=True)
