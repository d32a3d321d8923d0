"""Runs a sweep's trials from a storage that many machines share, through Optuna.

Every worker runs `work` with the same arguments. If a worker dies, another worker, or the next
start, takes over its trial. A failed trial is retried, unless its failure would recur. A retry
keeps the number of the first attempt, and with it the directory, so a training run resumes.
"""

import contextlib
import random
import signal
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import optuna
import sqlalchemy
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from data_pipelines.commands.command import StoppedError
from experiments.sweeping.made_with import differences
from experiments.sweeping.trials import TrialError

SAMPLERS = ("tpe", "random")
PRUNERS = ("median", "none")

_STARTUP_TRIALS = 4
"""Trials drawn at random before TPE learns from them; they are never pruned."""

_OPENING_TRIES = 20
"""How often a worker retries while another one creates the tables of a storage."""

_RECURS, _BEFORE = "recurs", "error_before"
"""Attributes of an attempt: whether its failure would recur, and why the one before failed."""

_POLL_SECONDS = 1.0
"""Seconds between two looks at the trials of other workers."""


class StudyError(ValueError):
    """A storage that cannot be used, or belongs to another sweep; the message is one line."""


class StopError(Exception):
    """The worker was asked to stop; its trial waits to be resumed.

    Args:
      signal_number: SIGTERM or SIGINT.

    Attributes:
      signal_number: As given.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.signal_number = signal_number


class StudyConfig(NamedTuple):
    """How to draw and store trials.

    Attributes:
      storage: URL of SQLAlchemy, such as sqlite:///sweep.db or postgresql://user@host/database.
      name: Name of the sweep in the storage.
      trials: Total number of first attempts, over all workers.
      sampler: One of `SAMPLERS`.
      pruner: One of `PRUNERS`.
      seed: Seed of the sampler.
      retries: How often to retry a trial that failed, or whose worker died.
      heartbeat_seconds: A trial is taken over if its worker was silent for twice as long.
      lower_is_better: Whether the lowest value is the best.
    """

    storage: str
    name: str
    trials: int
    sampler: str
    pruner: str
    seed: int
    retries: int
    heartbeat_seconds: int
    lower_is_better: bool = False


class SeededByTrial(BaseSampler):
    """A sampler whose draws depend only on the seed, the trial's number and the earlier trials.

    So workers that share a seed draw different trials, and a sweep that is started again draws the
    same trials as it would have.

    Args:
      kind: One of `SAMPLERS`.
      seed: Mixed with the trial's number.
    """

    def __init__(self, kind: str, seed: int) -> None:
        self._kind, self._seed = kind, seed
        self._sampler = self._make(0)

    def _make(self, trial_index: int) -> BaseSampler:
        seed = (self._seed * 1_000_003 + trial_index) % 2**32
        if self._kind == "random":
            return RandomSampler(seed)
        return TPESampler(n_startup_trials=_STARTUP_TRIALS, constant_liar=True, seed=seed)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Makes the sampler of this trial."""
        self._sampler = self._make(trial_index_of(study, trial.number))
        self._sampler.before_trial(study, trial)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Delegates to Optuna's sampler."""
        return self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Delegates to Optuna's sampler."""
        return self._sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Delegates to Optuna's sampler."""
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)


def trial_indices(trials: Sequence[FrozenTrial]) -> dict[int, int]:
    """For each trial number, the index of the trial's first attempt among all first attempts.

    Args:
      trials: All trials of a study, in order. A retry has the index of the first attempt; the
        surplus one of two workers that both drew the last trial has none.
    """
    found: dict[int, int] = {}
    first_attempts = 0
    for trial in trials:
        if "place" in trial.user_attrs:
            found[trial.number] = trial.user_attrs["place"]
        elif "surplus" not in trial.user_attrs:
            found[trial.number] = first_attempts
            first_attempts += 1
    return found


def trial_index_of(study: optuna.Study, number: int) -> int:
    """The index of a trial's first attempt."""
    return trial_indices(study.get_trials(deepcopy=False))[number]


@contextlib.contextmanager
def open_study(config: StudyConfig, made_with: dict[str, Any]) -> Iterator[optuna.Study]:
    """Opens the study in its storage, creating it if it is missing; closes the storage at the end.

    Args:
      config: Storage, sampler and pruner.
      made_with: The settings that all its trials share, JSON values.

    Raises:
      StudyError: The storage cannot be used, or its study has other settings.
    """
    try:
        url = sqlalchemy.make_url(config.storage)
    except sqlalchemy.exc.ArgumentError as error:
        raise StudyError(
            "storage: expected a URL such as sqlite:///sweep.db or postgresql://user@host/database"
        ) from error
    shown = url.render_as_string(hide_password=True)
    if url.drivername == "postgresql":
        # The driver that our extra installs.
        url = url.set(drivername="postgresql+psycopg")
    try:
        storage = _first_that_works(lambda: _storage(url.render_as_string(False), config))
    except ImportError as error:
        raise StudyError(
            f"{shown}: Python has no driver for this database; that of PostgreSQL comes with "
            "python -m pip install 'hiertcn_jax[sweep]'"
        ) from error
    except (sqlalchemy.exc.SQLAlchemyError, RuntimeError) as error:
        raise StudyError(f"{shown}: cannot be used: {str(error).splitlines()[0]}") from error
    try:
        study = optuna.create_study(
            storage=storage,
            sampler=SeededByTrial(config.sampler, config.seed),
            pruner=_pruner(config.pruner),
            study_name=config.name,
            direction="minimize" if config.lower_is_better else "maximize",
            load_if_exists=True,
        )
        saved = study.user_attrs.get("made_with")
        if saved is None:
            study.set_user_attr("made_with", made_with)
        elif differing := differences(saved, made_with):
            raise StudyError(
                f"{shown}: the sweep {config.name} was made with other settings: "
                f"{'; '.join(differing)}; give it another --study, or another --storage"
            )
        yield study
    finally:
        storage.remove_session()


def _storage(url: str, config: StudyConfig) -> optuna.storages.RDBStorage:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return optuna.storages.RDBStorage(
            url,
            # Trials are minutes apart, so connections need not be kept.
            engine_kwargs={"poolclass": sqlalchemy.pool.NullPool},
            heartbeat_interval=config.heartbeat_seconds,
            grace_period=2 * config.heartbeat_seconds,
            heartbeat_stale_trial_callback=lambda study, trial: retry(study, trial, config),
        )


def _first_that_works(
    load: Callable[[], optuna.storages.RDBStorage],
) -> optuna.storages.RDBStorage:
    """Retries: if two workers start at once, both try to create the tables, and one fails."""
    for _ in range(_OPENING_TRIES):
        try:
            return load()
        except (sqlalchemy.exc.SQLAlchemyError, RuntimeError) as error:
            # While the other worker creates them, Optuna finds tables of no known version.
            made_by_another = isinstance(error, sqlalchemy.exc.IntegrityError | RuntimeError)
            if not made_by_another and "already exists" not in str(error):
                raise
            time.sleep(random.uniform(0.1, 0.5))
    return load()


def work(
    study: optuna.Study, config: StudyConfig, objective: Callable[[optuna.Trial], float]
) -> None:
    """Runs trials until there are as many as wanted and none is running.

    Args:
      study: The study.
      config: Its config.
      objective: Returns the value of a trial; raises TrialError if it has none, TrialPruned if it
        was stopped as hopeless.

    Raises:
      StopError: The worker was asked to stop.
    """
    worker = _Worker(config, objective)
    while not worker.stopped:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            optuna.storages.fail_stale_trials(study)
        trials = study.get_trials(deepcopy=False)
        first_attempts = len(set(trial_indices(trials).values()))
        states = {trial.state for trial in trials}
        if TrialState.WAITING in states or first_attempts < config.trials:
            catch = (TrialError, StopError)
            study.optimize(worker.run, n_trials=1, callbacks=[worker.conclude], catch=catch)
        elif TrialState.RUNNING in states:
            time.sleep(_POLL_SECONDS)
        else:
            return
    raise worker.stopped


class _Worker:
    """Runs the trials of one worker, one at a time."""

    def __init__(self, config: StudyConfig, objective: Callable[[optuna.Trial], float]) -> None:
        self.stopped: StopError | None = None
        self._config, self._objective = config, objective

    def run(self, trial: optuna.Trial) -> float:
        """The trial's value."""
        if trial_index_of(trial.study, trial.number) >= self._config.trials:
            # Two workers both drew the last trial.
            trial.set_user_attr("surplus", True)
            raise TrialError("one more than --trials")
        try:
            return self._objective(trial)
        except TrialError as error:
            trial.set_user_attr(_RECURS, error.recurs or error.same_as(_error_before(trial)))
            raise
        except KeyboardInterrupt:
            self.stopped = StopError(signal.SIGINT)
        except StoppedError as error:
            self.stopped = StopError(error.signal_number)
        raise self.stopped

    def conclude(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Schedules a retry of the trial, if there is a reason to."""
        if self.stopped:
            _enqueue(study, trial, _failures(trial))
        elif trial.state == TrialState.FAIL and "surplus" not in trial.user_attrs:
            retry(study, trial, self._config)


def retry(study: optuna.Study, trial: FrozenTrial, config: StudyConfig) -> None:
    """Schedules a retry of a trial that failed, or whose worker died, if retries are left.

    A failure that would only recur is not retried.
    """
    failures = _failures(trial) + 1
    if failures <= config.retries and not trial.user_attrs.get(_RECURS, False):
        _enqueue(study, trial, failures)


def _failures(trial: FrozenTrial) -> int:
    return trial.user_attrs.get("failures", 0)


def _error_before(trial: optuna.Trial) -> str | None:
    """Why the attempt before this one failed; None if it is unknown."""
    return trial.user_attrs.get(_BEFORE)


def _enqueue(study: optuna.Study, trial: FrozenTrial, failures: int) -> None:
    study.add_trial(
        optuna.create_trial(
            state=TrialState.WAITING,
            params=trial.params,
            distributions=trial.distributions,
            user_attrs={
                "place": trial_index_of(study, trial.number),
                "failures": failures,
                _BEFORE: trial.user_attrs.get("error"),
            },
        )
    )


def _pruner(kind: str) -> BasePruner:
    if kind == "none":
        return NopPruner()
    # Validations count from 1. The first one, during a warm-up or early in a cosine, says little.
    return MedianPruner(n_startup_trials=_STARTUP_TRIALS, n_warmup_steps=2)
