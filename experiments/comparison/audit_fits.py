"""Checks of the leakage audit on fits: they must not use held-out or later events."""

import itertools
from collections.abc import Callable, Iterable, Sequence

import jax
import numpy as np

from data_pipelines.histories.record import History
from experiments.comparison.alterations import AlteredHistories, as_known_at, changed, held_out
from experiments.comparison.audit_checks import Result, Target, judge, relative_difference
from experiments.comparison.scorers import EventIndex, Scorer, ranker_scorer
from experiments.judging.ranker_levels import RankerAtLevel
from experiments.judging.rankers import fitted_histories
from experiments.runs.assembly import assemble
from experiments.runs.config import RunConfig
from experiments.runs.data import Data
from experiments.runs.recall import last_counted
from experiments.runs.resolve import resolve
from hiertcn_jax.baselines import Ranker
from hiertcn_jax.batch import FIRST_ITEM_ID, LaneBatch
from hiertcn_jax.memory.levels import FITTED, Level

_REFITS = 10
"""Number of targets for which a ranker is fitted anew."""

_BATCHES = 200
"""Most training batches to compare."""


def check_ranker_fit(
    make: Callable[[], Ranker],
    data: Data,
    fit_on: str,
    level: Level,
    targets: Sequence[Target],
    tolerance: float,
) -> Result:
    """A fit on data with other held-out events gives the same scores."""
    score, refitted = (
        ranker_scorer(fit(make, source, fit_on, level))
        for source in (data, with_other_held_out(data, fit_on))
    )
    return _compare(((score, refitted, target) for target in targets), tolerance)


def check_causal(
    make: Callable[[], Ranker],
    data: Data,
    fit_on: str,
    level: Level,
    targets: Sequence[Target],
    tolerance: float,
) -> Result:
    """A fit on what was known at an event's time gives that event the same scores.

    At a level other than `fitted`, what the level says was known then.
    """
    ranker, rows = fit(make, data, fit_on, level), data.vocabulary.size
    score = ranker_scorer(ranker)

    def as_known(target: Target) -> Scorer:
        time = ranker.known_at(target.time) if isinstance(ranker, RankerAtLevel) else target.time
        known = AlteredHistories(
            data.histories, lambda user, history: as_known_at(history, time, rows, user)
        )
        refitted = fit(make, data._replace(histories=known), fit_on, level)
        if isinstance(ranker, RankerAtLevel) and isinstance(refitted, RankerAtLevel):
            # The clock of `static` stops at the end of the log as it is.
            refitted.frozen_at = ranker.frozen_at
        return ranker_scorer(refitted)

    return _compare(((score, as_known(target), target) for target in targets[:_REFITS]), tolerance)


def check_batches(run: RunConfig, data: Data) -> Result:
    """Data with other held-out events gives the same training batches and counts of items."""
    fit_on, other = run.train.fit_on, with_other_held_out(data, run.train.fit_on)
    one_run = resolve(run, data)
    batches = min(one_run.plan.steps_per_epoch, _BATCHES)
    loaders = (assemble(resolved).loader for resolved in (one_run, resolve(one_run.config, other)))
    pairs = itertools.islice(zip(*loaders, strict=True), batches)
    counts_v = np.zeros(data.vocabulary.size, np.int64)
    for history in fitted_histories(other, fit_on):
        np.add.at(counts_v, history.item_ids_n, 1)
    counts_v[:FIRST_ITEM_ID] = 0
    passed, events = np.array_equal(counts_v, data.counts_v(fit_on)), 0
    for one, two in pairs:
        events += int(one.info.target_bl.sum())
        passed = passed and _equal(one, two)
    return Result(passed, events, None)


def with_other_held_out(data: Data, fit_on: str) -> Data:
    """The data with other items and times in everything that is not fitted on."""
    cut = data.cut(last_counted(fit_on))

    def alter(user: int, history: History) -> History:
        mask_n = held_out(history, fit_on, cut)
        return changed(history, mask_n, mask_n, data.vocabulary.size, user)

    return data._replace(histories=AlteredHistories(data.histories, alter))


def fit(make: Callable[[], Ranker], data: Data, fit_on: str, level: Level = FITTED) -> Ranker:
    """A ranker, fitted on what counts at a level."""
    ranker = make()
    ranker.fit(fitted_histories(data, fit_on, level))
    return ranker


def _compare(cases: Iterable[tuple[Scorer, Scorer, Target]], tolerance: float) -> Result:
    differences = []
    for one, other, target in cases:
        asked = [EventIndex(0, target.event)]
        scores = (score(target.histories[:1], asked) for score in (one, other))
        differences.append(relative_difference(*scores))
    return judge(differences, tolerance)


def _equal(one: LaneBatch, other: LaneBatch) -> bool:
    """Whether two batches are equal, on the device's side and on the host's."""
    sides = [jax.tree.leaves((element.batch, vars(element.info))) for element in (one, other)]
    return all(np.array_equal(a, b) for a, b in zip(*sides, strict=True))
