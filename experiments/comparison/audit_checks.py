"""Checks of the leakage audit: altering what a model must not know must not change its scores."""

import sys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from data_pipelines.histories.record import History, Split
from experiments.comparison.alterations import (
    changed,
    held_out,
    sessions_of,
    without,
)
from experiments.comparison.scorers import EventIndex, Scorer
from experiments.runs.data import Data
from hiertcn_jax.batch import FIRST_ITEM_ID

FROZEN_CHECKS = ("own_later_events", "others_held_out_events", "others_later_events")

_OTHERS = 4
"""Number of other users beside a target's."""


class Target(NamedTuple):
    """A scored event.

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
    """The result of a check.

    Attributes:
      passed: None if there was nothing to check.
      events: Number of events checked, those with something to alter.
      difference: The greatest difference of a score, relative to the greatest score; None if no
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
        index_n = np.flatnonzero(scored_n & (history.item_ids >= FIRST_ITEM_ID))
        if len(index_n):
            found.append((user, int(rng.choice(index_n)), history))
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
    """Changes, and then deletes, everything that an event's prediction must not use.

    Args:
      score: The model; its fit does not change.
      targets: The events.
      fit_on: The part that the model was fitted on; the rest of other users is held out.
      rows: `v`, rows of the item table.
      tolerance: Greatest difference that counts as rounding.
    """
    found: dict[str, list[float]] = {check: [] for check in FROZEN_CHECKS}
    for number, target in enumerate(targets):
        base_nv = score(target.histories, [EventIndex(0, target.event)])
        for check in FROZEN_CHECKS:
            histories = range(len(target.histories))
            masks = [_out_of_sight(check, target, at, fit_on) for at in histories]
            if any(mask_n.any() for mask_n in masks):
                gone = int(masks[0][: target.event].sum())
                variants = (
                    (_changed(target, masks, rows, number), EventIndex(0, target.event)),
                    (_deleted(target, masks), EventIndex(0, target.event - gone)),
                )
                scores = (score(altered, [index]) for altered, index in variants)
                found[check].append(max(relative_difference(base_nv, s_nv) for s_nv in scores))
    return {check: judge(values, tolerance) for check, values in found.items()}


def _out_of_sight(check: str, target: Target, at: int, fit_on: str) -> np.ndarray:
    """Bool [n]. Events of history number `at` that the target must not know, including itself.

    For the user's own events time decides: all that happened later, wherever they are in the
    history. Of those at the same time, the ones after the target.
    """
    history = target.histories[at]
    if (check == "own_later_events") != (at == 0):
        return np.zeros(len(history.times), bool)
    if check == "own_later_events":
        stands_later_n = np.arange(len(history.times)) >= target.event
        return stands_later_n | (history.times > target.time)
    if check == "others_held_out_events":
        return held_out(history, fit_on)
    return history.times >= target.time


def _changed(target: Target, masks: list[np.ndarray], rows: int, seed: int) -> list[History]:
    """Other items and times in the masks; the target keeps its time, which is known beforehand."""
    altered = []
    for at, (history, mask_n) in enumerate(zip(target.histories, masks, strict=True)):
        altered.append(changed(history, mask_n, _but(target, at, mask_n), rows, seed))
    return altered


def _deleted(target: Target, masks: list[np.ndarray]) -> list[History]:
    """Without the masked events, except the target, and without users who have no other."""
    altered = [
        without(history, _but(target, at, mask_n))
        for at, (history, mask_n) in enumerate(zip(target.histories, masks, strict=True))
    ]
    return [history for history in altered if len(history.times)]


def _but(target: Target, at: int, mask_n: np.ndarray) -> np.ndarray:
    return mask_n & ~((at == 0) & (np.arange(len(mask_n)) == target.event))


def check_start_state(score: Scorer, targets: Sequence[Target], tolerance: float) -> Result:
    """Users' first events score the same after other users as from a fresh carry."""
    histories = [target.histories[0] for target in targets]
    together_nv = score(histories, [EventIndex(at, 0) for at in range(len(histories))])
    differences = [
        relative_difference(score([history], [EventIndex(0, 0)]), row_v[None])
        for history, row_v in zip(histories, together_nv, strict=True)
    ]
    return judge(differences, tolerance)


def relative_difference(one: np.ndarray, other: np.ndarray) -> float:
    """Greatest difference, relative to the greatest value; huge if one is infinite or NaN."""
    differ = one != other
    if not differ.any():
        return 0.0
    if not np.isfinite([one[differ], other[differ]]).all():
        return sys.float_info.max
    greatest = max(np.abs(scores[np.isfinite(scores)]).max() for scores in (one, other))
    return float(np.abs(one[differ] - other[differ]).max() / greatest)


def judge(differences: list[float], tolerance: float) -> Result:
    """The result of a check, from the difference of each event."""
    worst = max(differences, default=0.0)
    return Result(worst <= tolerance if differences else None, len(differences), worst)
