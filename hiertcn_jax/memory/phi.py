"""The logarithms of memory's features, scaled to about 1: phi of the terms of the score.

They are numpy or JAX, whichever the features are, so that servers without JAX have the same ones.
"""

from typing import Any

import numpy as np

from hiertcn_jax.memory.config import KINDS
from hiertcn_jax.memory.lists import AGE, FEATURES, LAST, OWN, SESSION

_PICKS_EACH = 0.1
"""Added to a count before its logarithm, in picks; well below 1."""

COLUMNS = {
    "world": range(AGE + 1),
    "followers": range(LAST, OWN),
    "own": range(OWN, OWN + 4),
}
"""The features of each kind of memory."""


def _formula() -> np.ndarray:
    """float32 [4, f]. phi = [0] * (x > 0) + [1] * x + [2] * log(1 + [3] * x) of a feature x."""
    formula = np.zeros((4, len(FEATURES)), np.float32)
    formula[2, :AGE], formula[3, :AGE] = 1 / 4, 1 / _PICKS_EACH
    formula[:, AGE] = 1, 0, -1 / 12, 60
    for first, count in ((LAST, SESSION - 1), (SESSION, OWN - 1)):
        formula[2, first:count], formula[3, first:count] = 1 / 2, 2
        formula[2:, count] = 1
    formula[2:, OWN] = 1
    formula[1, OWN + 1 :] = 1
    return formula


_FORMULA = _formula()


def columns_of(kinds: tuple[str, ...]) -> tuple[int, ...]:
    """The features that these kinds of memory use, in order."""
    return tuple(column for kind in KINDS if kind in kinds for column in COLUMNS[kind])


def logarithms(features: Any, kinds: tuple[str, ...] = KINDS) -> Any:
    """phi: features scaled to about 1, and 0 if nothing is known of an item.

    Counts of picks become log(1 + c / 0.1) / 4; age becomes 1 - log(1 + minutes) / 12, which falls
    from 1; shares in percent become log(1 + 2 p) / 2; counts of following become log(1 + n).

    Args:
      features: float32 [*e, k, f], from `Memory.lists`; an array of numpy or JAX.
      kinds: Leaves out the features of other kinds.

    Returns:
      float32 [*e, k, w], of the same library.
    """
    xp = features.__array_namespace__()
    if set(kinds) != set(KINDS):
        # Slices: picking columns by index copies numbers one by one.
        spans = [COLUMNS[kind] for kind in KINDS if kind in kinds]
        features = xp.concatenate([features[..., s.start : s.stop] for s in spans], -1)
    # One formula for all columns, so that it is a single pass over vectors.
    known_f, plain_f, slope_f, scale_f = _FORMULA[:, columns_of(kinds)]
    return (
        xp.where(features > 0, known_f, 0)
        + plain_f * features
        + slope_f * xp.log(1 + scale_f * features)
    )
