"""Adam over the model's parameters and the item table, dense or lazy.

In `rows` mode the gradient exists for the rows of a batch alone. Their Adam moments are lazy: only
touched rows move, and a row's moments do not decay over the steps that do not touch it. The step
then costs nothing per catalogue item. Clipping by global norm counts the touched rows.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from hiertcn_jax.config import OptimizerConfig
from hiertcn_jax.embedding import ItemTable


def learning_rate_schedule(
    config: OptimizerConfig, total_steps: int, steps_per_epoch: int
) -> optax.Schedule:
    """Learning rate at each step.

    Args:
      config: See `OptimizerConfig`.
      total_steps: Where the cosine ends.
      steps_per_epoch: Steps of one pass, for the `step` schedule.
    """
    peak, warmup = config.learning_rate, config.warmup_steps
    if config.schedule == "constant":
        after = optax.constant_schedule(peak)
    elif config.schedule == "step":
        drops = {
            max(epoch * steps_per_epoch - warmup, 0): config.decay_factor
            for epoch in config.decay_epochs
        }
        after = optax.piecewise_constant_schedule(peak, drops)
    else:
        after = optax.cosine_decay_schedule(peak, max(total_steps - warmup, 1), config.final_rate)
    if not warmup:
        return after
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), after], [warmup])


class LazyAdamState(NamedTuple):
    """Moments of every row of the item table; those of untouched rows stand still.

    Attributes:
      mu: First moments, as the table.
      nu: Second moments, as the table.
    """

    mu: ItemTable
    nu: ItemTable


class OptimizerState(NamedTuple):
    """State of both optimizers.

    Attributes:
      dense: optax's, of the model's parameters, and of the item table in `dense` mode.
      rows: The item table's in `rows` mode, otherwise None.
    """

    dense: Any
    rows: LazyAdamState | None


class Optimizer(NamedTuple):
    """Pure functions over parameters `{"model": tree, "items": ItemTable}`.

    Attributes:
      config: Adam's constants and the clipping norm.
      schedule: Learning rate at a step.
      rows: Whether the item table is updated lazily, by rows.
    """

    config: OptimizerConfig
    schedule: optax.Schedule
    rows: bool

    def _adam(self) -> optax.GradientTransformation:
        config = self.config
        return optax.adam(self.schedule, config.adam_b1, config.adam_b2, config.adam_eps)

    def init(self, params: dict[str, Any]) -> OptimizerState:
        """Fresh moments."""
        if not self.rows:
            return OptimizerState(self._adam().init(params), None)
        zeros = jax.tree.map(jnp.zeros_like, params["items"])
        return OptimizerState(
            self._adam().init(params["model"]),
            LazyAdamState(zeros, jax.tree.map(jnp.zeros_like, zeros)),
        )

    def update(
        self,
        grads: dict[str, Any],
        state: OptimizerState,
        params: dict[str, Any],
        step: Int[Array, ""],
        distinct_u: Int[Array, " u"] | None,
    ) -> tuple[dict[str, Any], OptimizerState]:
        """One step.

        Args:
          grads: As `params`; in `rows` mode `grads["items"]` has a row for each of `distinct_u`.
          state: Of `init` or of the step before.
          params: `{"model", "items"}`.
          step: Steps done before this one.
          distinct_u: Rows of the table, each once, PADDING_ID for none; `rows` mode only.
        """
        if self.config.clip_norm:
            clip = optax.clip_by_global_norm(self.config.clip_norm)
            grads, _ = clip.update(grads, clip.init(grads))
        if not self.rows:
            updates, dense = self._adam().update(grads, state.dense, params)
            return optax.apply_updates(params, updates), OptimizerState(dense, None)
        updates, dense = self._adam().update(grads["model"], state.dense, params["model"])
        model = optax.apply_updates(params["model"], updates)
        items, rows = self._update_rows(
            grads["items"], state.rows, params["items"], step, distinct_u
        )
        return {"model": model, "items": items}, OptimizerState(dense, rows)

    def _update_rows(
        self,
        grads: ItemTable,
        state: LazyAdamState,
        items: ItemTable,
        step: jax.Array,
        distinct_u: jax.Array,
    ) -> tuple[ItemTable, LazyAdamState]:
        """Adam on the touched rows; the filling of `distinct_u` is written nowhere."""
        config = self.config
        rows = items.input_vd.shape[0]
        # Out of range is dropped by the scatter. Each at its own place keeps the indices unique.
        places_u = jnp.arange(distinct_u.shape[0])
        to_u = jnp.where(distinct_u > 0, distinct_u, rows + places_u)
        count = step + 1
        rate = self.schedule(step)

        def one(table: jax.Array, mu: jax.Array, nu: jax.Array, grad: jax.Array) -> tuple:
            new_mu = config.adam_b1 * jnp.take(mu, distinct_u, axis=0) + (1 - config.adam_b1) * grad
            new_nu = (
                config.adam_b2 * jnp.take(nu, distinct_u, axis=0) + (1 - config.adam_b2) * grad**2
            )
            mu_hat = new_mu / (1 - config.adam_b1**count)
            nu_hat = new_nu / (1 - config.adam_b2**count)
            new = jnp.take(table, distinct_u, axis=0) - rate * mu_hat / (
                jnp.sqrt(nu_hat) + config.adam_eps
            )
            return tuple(
                old.at[to_u].set(rows_u, mode="drop", unique_indices=True)
                for old, rows_u in ((table, new), (mu, new_mu), (nu, new_nu))
            )

        done = [
            None if table is None else one(table, mu, nu, grad)
            for table, mu, nu, grad in zip(items, state.mu, state.nu, grads, strict=True)
        ]
        table, mu, nu = (
            ItemTable(*(None if parts is None else parts[index] for parts in done))
            for index in range(3)
        )
        return table, LazyAdamState(mu, nu)
