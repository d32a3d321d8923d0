"""Adam over the model's parameters and the item table, dense or lazy.

In `rows` mode the gradient exists for the rows of a batch alone. Their Adam moments are lazy: only
touched rows move, and a row's moments do not decay over the steps that do not touch it. The step
then costs nothing per catalogue item. Clipping by global norm counts the touched rows.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Int

from hiertcn_jax.config import OptimizerConfig
from hiertcn_jax.scoring.item_table import ItemTable


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

    def _adam(self) -> optax.GradientTransformationExtraArgs:
        return optax.chain(_steady_adam(self.config), optax.scale_by_learning_rate(self.schedule))

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
        finite: Bool[Array, ""],
    ) -> tuple[dict[str, Any], OptimizerState]:
        """One step; where the gradient is not finite, nothing moves but the count of steps.

        Args:
          grads: As `params`; in `rows` mode `grads["items"]` has a row for each of `distinct_u`.
          state: Of `init` or of the step before.
          params: `{"model", "items"}`.
          step: Steps done before this one.
          distinct_u: Rows of the table, each once, PADDING_ID for none; `rows` mode only.
          finite: Whether the step is done.
        """
        if self.config.clip_norm:
            clip = optax.clip_by_global_norm(self.config.clip_norm)
            grads, _ = clip.update(grads, clip.init(grads))
        if not self.rows:
            params, dense = self._update_dense(grads, state.dense, params, finite)
            return params, OptimizerState(dense, None)
        model, dense = self._update_dense(grads["model"], state.dense, params["model"], finite)
        if state.rows is None or distinct_u is None:
            raise ValueError("distinct_u: an optimizer of rows needs the rows of each batch")
        items, rows = self._update_rows(
            grads["items"], state.rows, params["items"], step, distinct_u, finite
        )
        return {"model": model, "items": items}, OptimizerState(dense, rows)

    def _update_dense(
        self, grads: Any, state: Any, params: Any, finite: jax.Array
    ) -> tuple[Any, Any]:
        """Adam on a tree."""
        updates, state = self._adam().update(grads, state, params, finite=finite)
        return _where(finite, optax.apply_updates(params, updates), params), state

    def _update_rows(
        self,
        grads: ItemTable,
        state: LazyAdamState,
        items: ItemTable,
        step: jax.Array,
        distinct_u: jax.Array,
        finite: jax.Array,
    ) -> tuple[ItemTable, LazyAdamState]:
        """Adam on the touched rows; the filling of `distinct_u` is written nowhere."""
        config, count = self.config, step + 1
        rows = items.input_vd.shape[0]
        # Out of range is dropped by the scatter. Each at its own place keeps the indices unique.
        moves_u = finite & (distinct_u > 0)
        to_u = jnp.where(moves_u, distinct_u, rows + jnp.arange(distinct_u.shape[0]))

        def gather(tree: ItemTable) -> ItemTable:
            return tree.rows(distinct_u)

        def scatter(tree: ItemTable, rows_u: ItemTable) -> ItemTable:
            return jax.tree.map(
                lambda old, new: old.at[to_u].set(new, mode="drop", unique_indices=True),
                tree,
                rows_u,
            )

        b1, b2 = config.adam_b1, config.adam_b2
        mu = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, gather(state.mu), grads)
        nu = jax.tree.map(lambda n, g: b2 * n + (1 - b2) * g**2, gather(state.nu), grads)
        rate = self.schedule(step)

        def move(row: jax.Array, m: jax.Array, n: jax.Array) -> jax.Array:
            step_size = jnp.sqrt(n / (1 - b2**count)) + config.adam_eps
            return row - rate * (m / (1 - b1**count)) / step_size

        moved = jax.tree.map(move, gather(items), mu, nu)
        return scatter(items, moved), LazyAdamState(scatter(state.mu, mu), scatter(state.nu, nu))


def _steady_adam(config: OptimizerConfig) -> optax.GradientTransformationExtraArgs:
    """`optax.scale_by_adam`, whose moments stand still where the argument `finite` is False.

    The step is made of the moments that were chosen. Were it made of those before the choice, XLA
    would compute them twice, and copy the old ones.
    """
    adam = optax.scale_by_adam(config.adam_b1, config.adam_b2, config.adam_eps)

    def update(
        grads: Any, state: Any, params: Any = None, *, finite: jax.Array, **_: Any
    ) -> tuple[Any, Any]:
        _, moved = adam.update(grads, state, params)
        mu, nu = _where(finite, moved.mu, state.mu), _where(finite, moved.nu, state.nu)
        updates = jax.tree.map(
            lambda m, n: m / (jnp.sqrt(n) + config.adam_eps),
            optax.tree.bias_correction(mu, config.adam_b1, moved.count),
            optax.tree.bias_correction(nu, config.adam_b2, moved.count),
        )
        return updates, moved._replace(mu=mu, nu=nu)

    return optax.GradientTransformationExtraArgs(adam.init, update)


def _where(finite: jax.Array, new: Any, old: Any) -> Any:
    return jax.tree.map(lambda new, old: jnp.where(finite, new, old), new, old)
