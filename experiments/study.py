"""A sweep's trials in a storage that many machines share, through Optuna.

Every worker runs `work` with the same arguments. A trial whose worker died is taken over by another
one, or by the next start; a trial that failed is tried again. What is tried again keeps the number
of its first attempt, and with it the directory, so a training run goes on where it was.
"""

import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import optuna
import sqlalchemy
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from experiments.trials import TrialFailed
from hiertcn_jax.checkpoint import config_differences

SAMPLERS = ("tpe", "random")
PRUNERS = ("median", "none")

_STARTUP_TRIALS = 4
"""Trials drawn at random before TPE learns from them, and not pruned."""

_POLL_SECONDS = 1.0
"""Between two looks at the trials of the other workers."""


class StudyError(ValueError):
    """A storage that cannot be used, or of another sweep; the message is one line."""


class Stopped(Exception):
    """The worker was asked to stop; its trial waits to be gone on with."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class StudyConfig(NamedTuple):
    """How trials are drawn and kept.

    Attributes:
      storage: URL of SQLAlchemy, such as sqlite:///sweep.db or postgresql://user@host/database.
      name: Of the sweep in the storage.
      trials: How many first attempts there are in all, over all workers.
      sampler: One of `SAMPLERS`.
      pruner: One of `PRUNERS`.
      seed: Of the sampler.
      retries: How often a trial that failed, or whose worker died, is tried again.
      heartbeat_seconds: A trial whose worker has not been heard of for twice as long is taken over.
    """

    storage: str
    name: str
    trials: int
    sampler: str
    pruner: str
    seed: int
    retries: int
    heartbeat_seconds: int


class SeededByTrial(BaseSampler):
    """A sampler whose draws depend on the seed, the trial's number and the trials before it alone.

    Workers that share a seed then draw different trials, and a sweep that is started again draws
    what it would have drawn.

    Args:
      kind: One of `SAMPLERS`.
      seed: Mixed with the trial's number.
    """

    def __init__(self, kind: str, seed: int) -> None:
        self._kind, self._seed = kind, seed
        self._sampler = self._make(0)

    def _make(self, number: int) -> BaseSampler:
        seed = (self._seed * 1_000_003 + number) % 2**32
        if self._kind == "random":
            return RandomSampler(seed)
        return TPESampler(n_startup_trials=_STARTUP_TRIALS, constant_liar=True, seed=seed)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Makes the sampler of this trial."""
        self._sampler = self._make(trial.number)
        self._sampler.before_trial(study, trial)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """As Optuna's sampler has it."""
        return self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """As Optuna's sampler draws it."""
        return self._sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """As Optuna's sampler draws it."""
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)


def first_number(trial: FrozenTrial | optuna.Trial) -> int:
    """The number of a trial's first attempt."""
    return trial.user_attrs.get("first_number", trial.number)


def open_study(config: StudyConfig, made_with: dict[str, Any]) -> optuna.Study:
    """The study in its storage, made where it is missing.

    Args:
      config: Where and how.
      made_with: What all its trials share, JSON values.

    Raises:
      StudyError: The storage cannot be used, or its study was made with other settings.
    """
    try:
        url = sqlalchemy.make_url(config.storage)
    except sqlalchemy.exc.ArgumentError as error:
        raise StudyError(
            "storage: expected a URL such as sqlite:///sweep.db or "
            "postgresql://user@host/database"
        ) from error
    shown = url.render_as_string(hide_password=True)
    if url.drivername == "postgresql":
        # The driver that the extra installs.
        url = url.set(drivername="postgresql+psycopg")
    try:
        study = _first_that_works(lambda: _load(url.render_as_string(False), config))
    except (sqlalchemy.exc.SQLAlchemyError, ImportError, RuntimeError) as error:
        raise StudyError(f"{shown}: cannot be used: {str(error).splitlines()[0]}") from error
    saved = study.user_attrs.get("made_with")
    if saved is None:
        study.set_user_attr("made_with", made_with)
    elif differing := config_differences(saved, made_with):
        raise StudyError(
            f"{shown}: the sweep {config.name} was made with other settings: {'; '.join(differing)}"
        )
    return study


def _load(url: str, config: StudyConfig) -> optuna.Study:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        storage = optuna.storages.RDBStorage(
            url,
            heartbeat_interval=config.heartbeat_seconds,
            grace_period=2 * config.heartbeat_seconds,
            heartbeat_stale_trial_callback=lambda study, trial: retry(study, trial, config),
        )
    return optuna.create_study(
        storage=storage,
        sampler=SeededByTrial(config.sampler, config.seed),
        pruner=_pruner(config.pruner),
        study_name=config.name,
        direction="maximize",
        load_if_exists=True,
    )


def _first_that_works(load: Callable[[], optuna.Study]) -> optuna.Study:
    """Two workers that start at once may both try to make the tables; one of them then fails."""
    for _ in range(2):
        try:
            return load()
        except sqlalchemy.exc.SQLAlchemyError:
            continue
    return load()


def work(
    study: optuna.Study, config: StudyConfig, objective: Callable[[optuna.Trial], float]
) -> None:
    """Runs trials until there are as many as wanted and none is running any more.

    Args:
      study: The study.
      config: Its config.
      objective: The value of a trial; TrialFailed where there is none, TrialPruned where it was
        not worth going on.

    Raises:
      Stopped: The worker was asked to stop.
    """
    stopped: list[Stopped] = []

    def guarded(trial: optuna.Trial) -> float:
        if _is_surplus(study, trial, config.trials):
            trial.set_user_attr("surplus", True)
            raise TrialFailed("one more than --trials")
        try:
            return objective(trial)
        except KeyboardInterrupt:
            stopped.append(Stopped(130))
        except SystemExit as error:
            stopped.append(Stopped(int(error.code or 0)))
        raise stopped[0]

    def afterwards(study: optuna.Study, trial: FrozenTrial) -> None:
        if stopped:
            _enqueue(study, trial, _attempts(trial))
        elif trial.state == TrialState.FAIL and "surplus" not in trial.user_attrs:
            retry(study, trial, config)

    while True:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            optuna.storages.fail_stale_trials(study)
        trials = study.get_trials(deepcopy=False)
        first_attempts = sum("first_number" not in trial.user_attrs for trial in trials)
        states = {trial.state for trial in trials}
        if TrialState.WAITING in states or first_attempts < config.trials:
            catch = (TrialFailed, Stopped)
            study.optimize(guarded, n_trials=1, callbacks=[afterwards], catch=catch)
        elif TrialState.RUNNING in states:
            time.sleep(_POLL_SECONDS)
        else:
            return
        if stopped:
            raise stopped[0]


def retry(study: optuna.Study, trial: FrozenTrial, config: StudyConfig) -> None:
    """Has a trial that failed, or whose worker died, tried again, if it may be."""
    attempts = _attempts(trial) + 1
    if attempts <= config.retries:
        _enqueue(study, trial, attempts)


def _attempts(trial: FrozenTrial) -> int:
    return trial.user_attrs.get("attempts", 0)


def _enqueue(study: optuna.Study, trial: FrozenTrial, attempts: int) -> None:
    study.add_trial(
        optuna.create_trial(
            state=TrialState.WAITING,
            params=trial.params,
            distributions=trial.distributions,
            user_attrs={"first_number": first_number(trial), "attempts": attempts},
        )
    )


def _is_surplus(study: optuna.Study, trial: FrozenTrial | optuna.Trial, wanted: int) -> bool:
    """Whether two workers that each drew the last trial drew one too many, this one."""
    if "first_number" in trial.user_attrs:
        return False
    before = [
        other
        for other in study.get_trials(deepcopy=False)
        if other.number < trial.number and "first_number" not in other.user_attrs
    ]
    return len(before) >= wanted


def _pruner(kind: str) -> BasePruner:
    if kind == "none":
        return NopPruner()
    # The first validation is early in a warm-up or a cosine: it says little.
    return MedianPruner(n_startup_trials=_STARTUP_TRIALS, n_warmup_steps=1)

