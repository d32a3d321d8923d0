"""The training step: jitted once per bucket; it donates the old state."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from hiertcn_jax.batch import Batch, GivenItems, RowItems, TableItems
from hiertcn_jax.config import ModelConfig
from hiertcn_jax.devices.distinct_items import resolve_items, with_distinct_rows
from hiertcn_jax.devices.mesh import Layout, replicated
from hiertcn_jax.learning.loss_config import LossConfig
from hiertcn_jax.learning.negatives import Source, sources_at_rows
from hiertcn_jax.learning.objective import event_loss, stream_keys
from hiertcn_jax.learning.optimizer import Optimizer
from hiertcn_jax.learning.train_state import TrainState, state_shardings
from hiertcn_jax.models import Model
from hiertcn_jax.models.queries import batch_queries

StepMetrics = dict[str, jax.Array]
TrainStep = Callable[[TrainState, Batch, Sequence[Source]], tuple[TrainState, StepMetrics]]


def make_train_step(
    model: Model,
    model_config: ModelConfig,
    loss_config: LossConfig,
    optimizer: Optimizer,
    seed: int,
    layout: Layout | None = None,
) -> TrainStep:
    """The jitted step `(state, batch, sources) -> (state, metrics)`; it donates the old state.

    Metrics are scalars that stay on the device: `loss_sum` and `weight` of the batch, its `events`,
    `grad_norm` before clipping, `learning_rate`, and `finite`.

    If the loss or the gradient is not finite, the step is skipped: `finite` is False, and
    parameters and moments do not change. The step is still counted, so that dropout, negatives and
    the learning rate of later steps do not depend on it. The carry still advances, because the next
    batch begins after this one's events. A lane whose new carry is not finite keeps its old one.

    Args:
      model: The model.
      model_config: Its config.
      loss_config: The loss.
      optimizer: The optimizer.
      seed: Seed of dropout and negatives.
      layout: Where state and batch are, if on several devices.
    """

    def step(
        state: TrainState, batch: Batch, sources: Sequence[Source]
    ) -> tuple[TrainState, StepMetrics]:
        keys = stream_keys(seed, state.step)
        items = state.params["items"]
        if layout is not None:
            batch = resolve_items(batch, layout)
            if optimizer.rows and isinstance(batch.items, TableItems):
                batch = with_distinct_rows(batch, layout)
        sources = sources_at_rows(sources, batch.items)
        distinct_u = None
        if isinstance(batch.items, RowItems):
            # Gradients are taken with respect to the batch's rows, never the whole table.
            distinct_u = batch.items.distinct_u
            items = items.rows(distinct_u)

        def objective(params: dict[str, Any]) -> tuple[jax.Array, tuple[jax.Array, jax.Array, Any]]:
            items = params["items"].with_given(batch.items)
            queries, carry = batch_queries(
                model,
                params["model"],
                batch.with_embeddings(items.input_vd),
                state.carry,
                train=True,
                rngs={name: keys[name] for name in ("dropout", "unknown")},
            )
            if isinstance(batch.items, GivenItems):
                # Padding and unknown are never scored, so scores give the table no gradient, and
                # no gradient of all the batch's rows has to be summed over devices.
                items = jax.lax.stop_gradient(items)
            loss_sum, weight = event_loss(
                queries, batch, items, sources, keys["negatives"], loss_config, model_config, layout
            )
            return loss_sum / jnp.maximum(weight, 1e-6), (loss_sum, weight, carry)

        (loss, (loss_sum, weight, carry)), grads = jax.value_and_grad(objective, has_aux=True)(
            {"model": state.params["model"], "items": items}
        )
        grad_norm = optax.tree.norm(grads)
        finite = jnp.isfinite(loss) & jnp.isfinite(grad_norm)
        params, opt_state = optimizer.update(
            grads, state.opt_state, state.params, distinct_u, finite
        )
        metrics = {
            "loss_sum": loss_sum,
            "weight": weight,
            "events": jnp.sum(batch.item_ids_bl > 0),
            "grad_norm": grad_norm,
            "learning_rate": jnp.asarray(optimizer.schedule(state.step), jnp.float32),
            "finite": finite,
        }
        carry = finite_lanes(carry, state.carry)
        state = TrainState(state.step + 1, params, opt_state, carry)
        if layout is not None:
            # Keep the sharding of the input, or the next step would compile again.
            state = jax.lax.with_sharding_constraint(state, state_shardings(state, layout))
            metrics = jax.lax.with_sharding_constraint(metrics, replicated(layout.mesh))
        return state, metrics

    return jax.jit(step, donate_argnums=0)


def finite_lanes(new: Any, old: Any) -> Any:
    """A carry with those lanes of `new` that are entirely finite, and of `old` otherwise.

    Args:
      new: Arrays whose first axis is `b`.
      old: Arrays of the same shapes.
    """
    finite_b = jnp.ones((), bool)
    for leaf in jax.tree.leaves(new):
        finite_b &= jnp.isfinite(leaf).all(axis=range(1, leaf.ndim))

    def choose(new: jax.Array, old: jax.Array) -> jax.Array:
        return jnp.where(finite_b.reshape(-1, *[1] * (new.ndim - 1)), new, old)

    return jax.tree.map(choose, new, old)
