"""The terms of the score: memory's features of an item at an event, with learned weights.

    s(i at n) = <u_n, e_i> + b_i + sum_f w_f(z_n) phi_f(i, n),    w(z) = w0 + W z

phi are logarithms of the counts of `lists`, and 0 for every item that is not on the event's list.
z_n is what is known at n: the prediction u_n, whether the session starts, how far it has come, the
gap before it, hour and weekday. W starts at 0: the weights begin as those of a log-linear model,
and learn how they depend on z. That an item was seen counts against it on news and for it on music:
the signs are learned too.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from hiertcn_jax.memory.lists import FEATURES
from hiertcn_jax.memory.phi import logarithms

_CHUNK_NUMBERS = 1 << 19
"""Features in a chunk on CPUs: 2 MB. With half a MB or 8 MB a step took up to a third longer."""


def no_counts(b: int, l: int) -> Float[Array, "b l k f"]:
    """Counts of the right width, to initialize parameters."""
    return jnp.zeros((b, l, 1, len(FEATURES)))


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


def in_chunks(
    terms: Callable[..., Array],
    features_blkf: Float[Array, "b l k f"],
    known_blg: Float[Array, "b l g"],
    u_blz: Float[Array, "b l z"],
) -> Float[Array, "b l k"]:
    """`terms` for a few events of each lane at a time, on CPUs; their gradients compute phi again.

    phi has k f numbers for an event, more than anything else in a step. Kept for the gradient it
    would be written to memory and read again, which takes longer than the logarithms. A chunk of it
    stays in a core's cache.

    Args:
      terms: Takes features, what is known of the moment, and predictions, of the same events.
      features_blkf: From `Memory.lists`; has no gradient.
      known_blg: What is known of the moment.
      u_blz: The predictions.
    """
    b, l, k, f = features_blkf.shape
    if l == 1:
        return terms(features_blkf, known_blg, u_blz)
    terms = jax.checkpoint(terms)
    most = max(_CHUNK_NUMBERS // max(b * k * f, 1), 1)
    events = max(n for n in range(1, max(min(l, most), 1) + 1) if l % n == 0)
    if jax.default_backend() != "cpu" or events == l:
        return terms(features_blkf, known_blg, u_blz)

    def chunks(x_blz: Array) -> Array:
        return jnp.moveaxis(x_blz.reshape(b, l // events, events, x_blz.shape[-1]), 1, 0)

    def chunk(_: None, x: tuple[Array, Array, Array]) -> tuple[None, Array]:
        start, known, u = x
        features = jax.lax.dynamic_slice_in_dim(features_blkf, start, events, axis=1)
        return None, terms(features, known, u)

    starts = jnp.arange(0, l, events)
    _, values = jax.lax.scan(chunk, None, (starts, chunks(known_blg), chunks(u_blz)))
    return jnp.moveaxis(values, 0, 1).reshape(b, l, k)
