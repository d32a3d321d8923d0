"""The terms of the score: memory's features of an item at an event, with learned weights.

    s(i at n) = <u_n, e_i> + b_i + sum_f w_f(z_n) phi_f(i, n),    w(z) = w0 + W z

phi are logarithms of the counts of `lists`, and 0 for every item that is not on the event's list.
z_n is what is known at n: the prediction u_n, whether the session starts, how far it has come, the
gap before it, hour and weekday. W starts at 0: the weights begin as those of a log-linear model,
and learn how they depend on z. That an item was seen counts against it on news and for it on music:
the signs are learned too.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

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


def no_counts(b: int, l: int) -> Float[Array, "b l k f"]:
    """Counts of the right width, to initialize parameters."""
    return jnp.zeros((b, l, 1, len(FEATURES)))


def columns_of(kinds: tuple[str, ...]) -> tuple[int, ...]:
    """The features that these kinds of memory use, in order."""
    return tuple(column for kind in KINDS if kind in kinds for column in COLUMNS[kind])


def logarithms(
    features: Float[Array, "*e k f"], kinds: tuple[str, ...] = KINDS
) -> Float[Array, "*e k g"]:
    """phi: features scaled to about 1, and 0 if nothing is known of an item.

    Counts of picks become log(1 + c / 0.1) / 4; age becomes 1 - log(1 + minutes) / 12, which falls
    from 1; shares in percent become log(1 + 2 p) / 2; counts of following become log(1 + n).

    Args:
      features: From `Memory.lists`.
      kinds: Leaves out the features of other kinds.
    """
    if set(kinds) != set(KINDS):
        # Slices: picking columns by index copies numbers one by one.
        spans = [COLUMNS[kind] for kind in KINDS if kind in kinds]
        features = jnp.concatenate([features[..., s.start : s.stop] for s in spans], -1)
    # One formula for all columns, so that it is a single pass over vectors.
    known_f, plain_f, slope_f, scale_f = _FORMULA[:, columns_of(kinds)]
    return (
        jnp.where(features > 0, known_f, 0)
        + plain_f * features
        + slope_f * jnp.log(1 + scale_f * features)
    )


class Apart(NamedTuple):
    """What the additions are sums of.

    Attributes:
      each: float32 [*e, k, w]. w_f phi_f of each feature that is used (`columns_of`).
      network: float32 [*e, k]. What the small network adds; None without one.
    """

    each: Any
    network: Any


class Terms(nn.Module):
    """Additions to the scores of the items on each event's list.

    Attributes:
      kinds: The memories to use, of `config.KINDS`.
      units: Units of a small network on phi and z, added to the linear form; 0: none.
    """

    kinds: tuple[str, ...]
    units: int = 0

    @nn.compact
    def __call__(
        self,
        features: Float[Array, "*e k f"],
        known: Float[Array, "*e g"],
        u: Float[Array, "*e d"],
        apart: bool = False,
    ) -> Any:
        """The additions, float32 [*e, k].

        Args:
          features: From `Memory.lists`.
          known: What is known of the moment (`models.context.moments`).
          u: The model's predictions; d may be 0.
          apart: Return what they are sums of: `Apart`.
        """
        phi = logarithms(features, self.kinds)
        z = jnp.concatenate([known, u.astype(jnp.float32)], axis=-1)
        width = phi.shape[-1]
        weights = self.param("weights", nn.initializers.constant(0.3), (width,))
        weights = weights + nn.Dense(
            width, use_bias=False, kernel_init=nn.initializers.zeros, name="by_moment"
        )(z)
        if apart:
            each = phi * weights[..., None, :]
            return Apart(each, self._network(phi, z) if self.units else None)
        values = jnp.einsum("...kf,...f->...k", phi, weights)
        return values + self._network(phi, z) if self.units else values

    def _network(self, phi: Float[Array, "*e k w"], z: Float[Array, "*e z"]) -> Array:
        """The additions of the small network, [*e, k]."""
        at_z = nn.Dense(self.units, name="units_of_moment")(z)[..., None, :]
        at_phi = nn.Dense(self.units, use_bias=False, name="units_of_counts")(phi)
        # Subtract the value for an item that is not on the list, so that such items have 0.
        hidden = nn.relu(at_phi + at_z) - nn.relu(at_z)
        out = self.param("out", nn.initializers.zeros, (self.units,))
        return hidden @ out
