"""The optimizer, a chain of optax's transformations: AdamW, of the item table by rows or dense.

    clip            gradients of a larger global norm are scaled down to it, where this is asked for
    adam            Adam's step; in `rows` mode the moments of touched rows alone move (`lazy_rows`)
    decay           weight decay, decoupled as in AdamW, where this is asked for (`add_decay`)
    learning_rate   the schedule

In `rows` mode the gradient exists for the rows of a batch alone. Clipping counts those rows, only
they move, and the moments of the others stand still: the step costs nothing per catalogue item.
"""

import dataclasses
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Int

from hiertcn_jax.scoring.item_table import ItemTable
from hiertcn_jax.settings import Settings, setting

Schedule = Literal["constant", "step", "cosine"]


@dataclasses.dataclass(frozen=True)
class OptimizerConfig(Settings):
    """Adam and its learning rate over the steps."""

    learning_rate: float = setting(2e-3, "Learning rate of Adam, at its highest.", above=0)
    schedule: Schedule = setting(
        "cosine",
        "Learning rate over the steps. step multiplies it by decay_factor at each of "
        "decay_epochs; cosine lets it fall to final_rate of the highest at the last step.",
    )
    warmup_steps: int = setting(0, "Steps of linear rise from 0.", at_least=0)
    decay_epochs: tuple[int, ...] = setting((60, 120), "Epochs at which the step schedule drops.")
    decay_factor: float = setting(
        0.2,
        "The step schedule multiplies the learning rate by it.",
        above=0,
    )
    final_rate: float = setting(
        0.0,
        "Where the cosine ends, as a share of learning_rate.",
        at_least=0,
    )
    clip_norm: float = setting(
        0.0,
        "Gradients of a larger global norm are scaled down to it; 0 leaves them.",
        at_least=0,
    )
    weight_decay: float = setting(
        0.0,
        "Share of a weight that is taken off it in a step, times the learning rate (AdamW); of "
        "matrices and item embeddings, not of biases, norms, start tokens and states. In rows mode "
        "of the embeddings of a batch's items alone.",
        at_least=0,
    )
    adam_b1: float = setting(0.9, "Adam's decay of first moments.", at_least=0, below=1)
    adam_b2: float = setting(0.999, "Adam's decay of second moments.", at_least=0, below=1)
    adam_eps: float = setting(1e-8, "Adam's epsilon, added to the root of second moments.", above=0)


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


class Optimizer(NamedTuple):
    """Pure functions over parameters `{"model": tree, "items": ItemTable}`.

    Attributes:
      config: Adam's constants, the clipping norm, the weight decay.
      schedule: Learning rate at a step.
      rows: Whether the item table is updated by the rows of each batch.
    """

    config: OptimizerConfig
    schedule: optax.Schedule
    rows: bool

    def chain(self) -> optax.GradientTransformationExtraArgs:
        """The transformations.

        Its `update` needs the arguments `finite` and, in `rows` mode, `distinct_u`, see `update`.
        There gradients, updates and parameters have a row for each of `distinct_u`, and the state
        has one for each item.
        """
        config, off = self.config, optax.identity()
        adam = scale_by_adam_if_finite(config.adam_b1, config.adam_b2, config.adam_eps)
        return optax.named_chain(
            ("clip", optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else off),
            ("adam", lazy_rows(adam) if self.rows else adam),
            ("decay", add_decay(config.weight_decay) if config.weight_decay else off),
            ("learning_rate", optax.scale_by_learning_rate(self.schedule)),
        )

    def init(self, params: dict[str, Any]) -> optax.OptState:
        """Fresh moments."""
        return self.chain().init(params)

    def update(
        self,
        grads: dict[str, Any],
        state: optax.OptState,
        params: dict[str, Any],
        distinct_u: Int[Array, " u"] | None,
        finite: Bool[Array, ""],
    ) -> tuple[dict[str, Any], optax.OptState]:
        """One step; where the gradient is not finite, nothing moves but the count of steps.

        Args:
          grads: As `params`; in `rows` mode `grads["items"]` has a row for each of `distinct_u`.
          state: Of `init` or of the step before.
          params: `{"model", "items"}`.
          distinct_u: Rows of the table, each once, PADDING_ID for none; `rows` mode only.
          finite: Whether the step is done.

        Returns:
          The new parameters, and the new state.

        Raises:
          ValueError: `distinct_u` is missing in `rows` mode.
        """
        if not self.rows:
            updates, state = self.chain().update(grads, state, params, finite=finite)
            return _where(finite, optax.apply_updates(params, updates), params), state
        if distinct_u is None:
            raise ValueError("distinct_u: an optimizer of rows needs the rows of each batch")
        model, items = params["model"], params["items"]
        updates, state = self.chain().update(
            grads,
            state,
            {"model": model, "items": items.rows(distinct_u)},
            finite=finite,
            distinct_u=distinct_u,
        )
        moved = {
            "model": _where(finite, optax.apply_updates(model, updates["model"]), model),
            "items": _at_rows("add", items, distinct_u, updates["items"], finite),
        }
        return moved, state


def scale_by_adam_if_finite(
    b1: float, b2: float, eps: float
) -> optax.GradientTransformationExtraArgs:
    """`optax.scale_by_adam`, whose moments stand still where the argument `finite` is False.

    Its count of steps goes on. (`optax.apply_if_finite` would stop the count too, and with it the
    learning rate; look at the gradient alone, not at the loss; and let a bad step pass once there
    were many. docs/architecture.md compares the two.)

    The update is made of the moments that were chosen. Were it made of those before the choice, XLA
    would compute them twice, and copy the old ones.

    Args:
      b1: Decay of the first moments in a step.
      b2: Decay of the second moments.
      eps: Added to the root of the second moments.
    """
    adam = optax.scale_by_adam(b1, b2, eps)

    def update(
        grads: Any, state: Any, params: Any = None, *, finite: jax.Array, **_: Any
    ) -> tuple[Any, Any]:
        _, moved = adam.update(grads, state, params)
        mu, nu = _where(finite, moved.mu, state.mu), _where(finite, moved.nu, state.nu)
        updates = jax.tree.map(
            lambda m, n: m / (jnp.sqrt(n) + eps),
            optax.tree.bias_correction(mu, b1, moved.count),
            optax.tree.bias_correction(nu, b2, moved.count),
        )
        return updates, moved._replace(mu=mu, nu=nu)

    return optax.GradientTransformationExtraArgs(adam.init, update)


def lazy_rows(inner: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """`inner` over the rows of a batch alone: the state of all other rows stands still.

    So with Adam an item's moments do not decay over the steps that do not touch it ("lazy" Adam);
    the correction of their bias counts all steps.

    Args:
      inner: A transformation that treats each number by itself. Its state is kept for whole tables:
        each `ItemTable` in it has a row for every item.

    Returns:
      A transformation whose `update` takes gradients of the rows `distinct_u` of each `ItemTable`,
      and gives updates of the same. `distinct_u` names each row once; PADDING_ID fills it up, and
      nothing is kept of those rows.
    """
    inner = optax.with_extra_args_support(inner)

    def update(
        grads: Any, state: Any, params: Any = None, *, distinct_u: jax.Array, **extra: Any
    ) -> tuple[Any, Any]:
        touched = _over_tables(lambda table: table.rows(distinct_u), state)
        updates, moved = inner.update(grads, touched, params, **extra)
        return updates, _over_tables(
            lambda table, rows: _at_rows("set", table, distinct_u, rows), state, moved
        )

    return optax.GradientTransformationExtraArgs(inner.init, update)


def add_decay(rate: float) -> optax.GradientTransformation:
    """`optax.add_decayed_weights` of the parameters with two axes or more.

    These are the matrices of the layers, the embeddings of ages in attention, and the rows of the
    item table: in `rows` mode those of the batch, in `dense` mode all, in each step. Not decayed
    are biases (of items too), scales of norms, start tokens and start states, and a learned tau.

    Args:
      rate: Behind Adam, and before the learning rate: a parameter loses the share
        `learning_rate * rate` in a step (AdamW: Loshchilov and Hutter, ICLR 2019).
    """
    return optax.add_decayed_weights(
        rate, mask=lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params)
    )


def _at_rows(
    change: str,
    table: ItemTable,
    distinct_u: jax.Array,
    rows: ItemTable,
    where: jax.Array | bool = True,
) -> ItemTable:
    """The table with some rows changed; those for padding are written nowhere.

    Args:
      change: "set" or "add".
      table: The whole table.
      distinct_u: Which rows.
      rows: What they become, or what is added.
      where: Whether anything is changed.
    """
    # Out of range is dropped by the scatter. Each at its own place keeps the indices unique.
    beyond_u = table.input_vd.shape[0] + jnp.arange(distinct_u.shape[0])
    to_u = jnp.where(where & (distinct_u > 0), distinct_u, beyond_u)

    def scatter(old: jax.Array, new: jax.Array) -> jax.Array:
        return getattr(old.at[to_u], change)(new, mode="drop", unique_indices=True)

    return jax.tree.map(scatter, table, rows)


def _over_tables(function: Any, tree: Any, *others: Any) -> Any:
    """`function` of each `ItemTable`; what is no part of one is taken from the last tree."""

    def of_part(*parts: Any) -> Any:
        return function(*parts) if isinstance(parts[0], ItemTable) else parts[-1]

    return jax.tree.map(of_part, tree, *others, is_leaf=lambda part: isinstance(part, ItemTable))


def _where(finite: jax.Array, new: Any, old: Any) -> Any:
    return jax.tree.map(lambda new, old: jnp.where(finite, new, old), new, old)
