"""What a leakage audit looks at: scores must not move when what they may not know is altered."""

import itertools
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from data_pipelines.histories.record import History, Split
from experiments.alterations import (
    AlteredHistories,
    as_known_at,
    changed,
    held_out,
    sessions_of,
    without,
)
from experiments.data import Data
from experiments.flags import RunConfig
from experiments.rankers import fitted_histories
from experiments.scorers import Place, Scorer, ranker_scorer
from experiments.setup import assemble
from hiertcn_jax.baselines import Ranker
from hiertcn_jax.batch import FIRST_ITEM_ID, LaneBatch

FROZEN_CHECKS = ("own_later_events", "others_held_out_events", "others_later_events")

_OTHERS = 4
"""Other users that stand beside a target's."""

_REFITS = 10
"""Targets that a ranker is fitted for anew."""

_BATCHES = 200
"""Training batches that are compared at most."""


class Target(NamedTuple):
    """An event that is scored.

    Attributes:
      user: Index of its user's history.
      event: Its index in the history.
      time: Seconds.
      histories: Its user's history, then those of some other users.
    """

    user: int
    event: int
    time: int
    histories: list[History]


class Result(NamedTuple):
    """What a check found.

    Attributes:
      passed: None where there was nothing to check.
      events: Events checked, those for which there was something to alter.
      difference: The greatest difference of a score, relative to the greatest score; None where no
        scores are compared.
    """

    passed: bool | None
    events: int
    difference: float | None


def sample_targets(data: Data, split: Split, number: int, seed: int) -> list[Target]:
    """A known event of a session of `split` of each of `number` users, or of all that have one."""
    rng = np.random.default_rng(seed)
    users = range(len(data.histories))
    found: list[tuple[int, int, History]] = []
    for user in rng.permutation(len(users)).tolist():
        (history,) = data.histories.__getitems__([user])
        scored_n = history.session_splits[sessions_of(history)] == split
        places = np.flatnonzero(scored_n & (history.item_ids >= FIRST_ITEM_ID))
        if len(places):
            found.append((user, int(rng.choice(places)), history))
        if len(found) >= max(number, _OTHERS + 1):
            break
    targets = []
    for at, (user, event, history) in enumerate(found[:number]):
        ring = found[at + 1 :] + found[:at]
        others = [other for _, _, other in ring[:_OTHERS]]
        targets.append(Target(user, event, int(history.times[event]), [history, *others]))
    return targets


def check_frozen(
    score: Scorer, targets: Sequence[Target], fit_on: str, rows: int, tolerance: float
) -> dict[str, Result]:
    """Alters what lies outside an event's knowledge, by changing and by deleting it.

    Args:
      score: The model; its fit stays as it is.
      targets: The events.
      fit_on: What the model was fitted on; the rest of other users is held out.
      rows: `v`, rows of the item table.
      tolerance: Greatest difference that is rounding.
    """
    found: dict[str, list[float]] = {check: [] for check in FROZEN_CHECKS}
    for number, target in enumerate(targets):
        place = [Place(0, target.event)]
        base_nv = score(target.histories, place)
        for check in FROZEN_CHECKS:
            histories = range(len(target.histories))
            masks = [_out_of_sight(check, target, at, fit_on) for at in histories]
            if any(mask_n.any() for mask_n in masks):
                variants = (_changed(target, masks, rows, number), _deleted(target, masks))
                scores = (score(variant, place) for variant in variants)
                found[check].append(max(relative_difference(base_nv, s_nv) for s_nv in scores))
    return {check: _result(values, tolerance) for check, values in found.items()}


def _out_of_sight(check: str, target: Target, at: int, fit_on: str) -> np.ndarray:
    """Bool [n]. Events of the history at place `at` that the target must not know, itself too."""
    history = target.histories[at]
    if (check == "own_later_events") != (at == 0):
        return np.zeros(len(history.times), bool)
    if check == "own_later_events":
        return np.arange(len(history.times)) >= target.event
    if check == "others_held_out_events":
        return held_out(history, fit_on)
    return history.times >= target.time


def _changed(target: Target, masks: list[np.ndarray], rows: int, seed: int) -> list[History]:
    """Other items and times there; the target keeps its time, which is known when it is scored."""
    altered = []
    for at, (history, mask_n) in enumerate(zip(target.histories, masks, strict=True)):
        altered.append(changed(history, mask_n, _but(target, at, mask_n), rows, seed))
    return altered


def _deleted(target: Target, masks: list[np.ndarray]) -> list[History]:
    """Without these events, but for the target, and without users that have no other."""
    altered = [
        without(history, _but(target, at, mask_n))
        for at, (history, mask_n) in enumerate(zip(target.histories, masks, strict=True))
    ]
    return [history for history in altered if len(history.times)]


def _but(target: Target, at: int, mask_n: np.ndarray) -> np.ndarray:
    return mask_n & ~((at == 0) & (np.arange(len(mask_n)) == target.event))


def check_start_state(score: Scorer, targets: Sequence[Target], tolerance: float) -> Result:
    """Users' first events score the same behind other users as from a fresh carry."""
    histories = [target.histories[0] for target in targets]
    together_nv = score(histories, [Place(at, 0) for at in range(len(histories))])
    differences = [
        relative_difference(score([history], [Place(0, 0)]), row_v[None])
        for history, row_v in zip(histories, together_nv, strict=True)
    ]
    return _result(differences, tolerance)


def check_ranker_fit(
    make: Callable[[], Ranker], data: Data, fit_on: str, targets: Sequence[Target], tolerance: float
) -> Result:
    """A fit on data with other held-out events gives the same scores."""
    score, refitted = (
        ranker_scorer(fit(make, source, fit_on))
        for source in (data, with_other_held_out(data, fit_on))
    )
    return _compare(((score, refitted, target) for target in targets), tolerance)


def check_causal(
    make: Callable[[], Ranker], data: Data, fit_on: str, targets: Sequence[Target], tolerance: float
) -> Result:
    """A fit on what was known at an event's time gives that event the same scores."""
    score, rows = ranker_scorer(fit(make, data, fit_on)), data.vocabulary.size

    def as_known(target: Target) -> Scorer:
        known = AlteredHistories(
            data.histories, lambda user, history: as_known_at(history, target.time, rows, user)
        )
        return ranker_scorer(fit(make, data._replace(histories=known), fit_on))

    return _compare(((score, as_known(target), target) for target in targets[:_REFITS]), tolerance)


def check_batches(run: RunConfig, data: Data) -> Result:
    """Data with other held-out events gives the same training batches and counts of items."""
    fit_on, other = run.train.fit_on, with_other_held_out(data, run.train.fit_on)
    parts = assemble(run, data)
    batches = min(parts.plan.steps_per_epoch, _BATCHES)
    pairs = itertools.islice(zip(parts.loader, assemble(run, other).loader, strict=True), batches)
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
    """The data with other items and times in all that is not fitted on."""

    def alter(user: int, history: History) -> History:
        mask_n = held_out(history, fit_on)
        return changed(history, mask_n, mask_n, data.vocabulary.size, user)

    return data._replace(histories=AlteredHistories(data.histories, alter))


def fit(make: Callable[[], Ranker], data: Data, fit_on: str) -> Ranker:
    """A ranker, fitted."""
    ranker = make()
    ranker.fit(fitted_histories(data, fit_on))
    return ranker


def relative_difference(one: np.ndarray, other: np.ndarray) -> float:
    """Greatest difference, relative to the greatest; huge where one is infinite or NaN."""
    differ = one != other
    if not differ.any():
        return 0.0
    if not np.isfinite([one[differ], other[differ]]).all():
        return sys.float_info.max
    greatest = max(np.abs(scores[np.isfinite(scores)]).max() for scores in (one, other))
    return float(np.abs(one[differ] - other[differ]).max() / greatest)


def _compare(cases: Iterable[tuple[Scorer, Scorer, Target]], tolerance: float) -> Result:
    differences = []
    for one, other, target in cases:
        place = [Place(0, target.event)]
        scores = (score(target.histories[:1], place) for score in (one, other))
        differences.append(relative_difference(*scores))
    return _result(differences, tolerance)


def _result(differences: list[float], tolerance: float) -> Result:
    worst = max(differences, default=0.0)
    return Result(worst <= tolerance if differences else None, len(differences), worst)


def _equal(one: LaneBatch, other: LaneBatch) -> bool:
    """Whether two batches hold the same, on the device's side and on the host's."""
    sides = [jax.tree.leaves((element.batch, vars(element.info))) for element in (one, other)]
    return all(np.array_equal(a, b) for a, b in zip(*sides, strict=True))
