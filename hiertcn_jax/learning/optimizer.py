"""The optimizer, a chain of optax transformations: AdamW, with the item table by rows or dense.

    clip            scales gradients with a larger global norm down to it, if configured
    adam            Adam's step; in `rows` mode only touched rows' moments change (`lazy_rows`)
    decay           weight decay, decoupled as in AdamW, if configured (`add_decay`)
    learning_rate   the schedule

In `rows` mode gradients exist only for the rows of a batch. Clipping counts those rows, only they
change, and the moments of the others stay the same: the step costs nothing per catalogue item.
"""

import dataclasses
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Int

from hiertcn_jax.scoring.item_table import ItemTable
from hiertcn_jax.settings import Settings, setting

HELP_TOPIC = "optimizer and learning rate"

Schedule = Literal["constant", "step", "cosine"]


@dataclasses.dataclass(frozen=True)
class OptimizerConfig(Settings):
    """Adam and its learning rate over the steps."""

    learning_rate: float = setting(4e-3, "Peak learning rate of Adam.", above=0)
    schedule: Schedule = setting(
        "cosine",
        "Learning rate over the steps: constant; step, which multiplies it by --decay_factor at "
        "each of --decay_epochs; or cosine, down to --final_rate of the peak at the last step.",
    )
    warmup_steps: int = setting(
        0, "Steps over which the learning rate rises linearly from 0.", at_least=0
    )
    decay_epochs: tuple[int, ...] = setting(
        (60, 120), "Epochs at which the step schedule lowers the learning rate."
    )
    decay_factor: float = setting(
        0.2,
        "Factor by which the step schedule multiplies the learning rate.",
        above=0,
    )
    final_rate: float = setting(
        0.0,
        "Where the cosine schedule ends, as a share of --learning_rate.",
        at_least=0,
    )
    clip_norm: float = setting(
        0.0,
        "Gradients with a larger global norm are scaled down to it. 0: no clipping.",
        at_least=0,
    )
    weight_decay: float = setting(
        0.0,
        "Weight decay: each step takes this share, times the learning rate, off a weight (AdamW). "
        "Applies to matrices and item embeddings, not to biases, norms, start tokens and states. "
        "In rows mode only to the embeddings of the batch's items.",
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
      config: The schedule's settings.
      total_steps: Where the cosine ends.
      steps_per_epoch: Steps per epoch, for the `step` schedule.
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
        """The chain of transformations.

        Its `update` needs the arguments `finite` and, in `rows` mode, `distinct_u`, see `update`.
        There gradients, updates and parameters have one row for each of `distinct_u`, and the state
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
        """The initial state."""
        return self.chain().init(params)

    def update(
        self,
        grads: dict[str, Any],
        state: optax.OptState,
        params: dict[str, Any],
        distinct_u: Int[Array, " u"] | None,
        finite: Bool[Array, ""],
    ) -> tuple[dict[str, Any], optax.OptState]:
        """One step. If the gradient is not finite, only the count of steps changes.

        Args:
          grads: As `params`; in `rows` mode `grads["items"]` has one row for each of `distinct_u`.
          state: From `init` or the previous step.
          params: `{"model", "items"}`.
          distinct_u: Rows of the table, each once, PADDING_ID for none; `rows` mode only.
          finite: Whether to apply the step.

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
    """`optax.scale_by_adam`, but the moments do not change if the argument `finite` is False.

    Its count of steps still increases. (`optax.apply_if_finite` would stop the count too, and with
    it the learning rate; it checks only the gradient, not the loss; and after many bad steps it
    lets one pass. docs/architecture.md compares the two.)

    The update is computed from the moments after this choice. Otherwise XLA would compute the
    moments twice, and copy the old ones.

    Args:
      b1: Decay of the first moments per step.
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
    """Applies `inner` to the rows of a batch only; the state of all other rows does not change.

    So with Adam an item's moments do not decay in steps that do not touch it ("lazy" Adam); their
    bias correction counts all steps.

    Args:
      inner: A transformation that treats each number separately. Its state covers whole tables:
        each `ItemTable` in it has a row for every item.

    Returns:
      A transformation whose `update` takes gradients of the rows `distinct_u` of each `ItemTable`,
      and returns updates of the same rows. `distinct_u` has each row once; PADDING_ID fills it up,
      and results for those entries are dropped.
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
    """`optax.add_decayed_weights` for parameters with two axes or more.

    These are the layers' matrices, the embeddings of ages in attention, and the rows of the item
    table: in each step those of the batch in `rows` mode, all of them in `dense` mode. Not decayed:
    biases (items' too), scales of norms, start tokens and start states, and a learned tau.

    Args:
      rate: Comes after Adam and before the learning rate: a step takes the share
        `learning_rate * rate` off a parameter (AdamW: Loshchilov and Hutter, ICLR 2019).
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
    """The table with some rows changed. Entries for padding are not written.

    Args:
      change: "set" or "add".
      table: The whole table.
      distinct_u: The rows to change.
      rows: Their new values, or what to add.
      where: Whether to change anything.
    """
    # The scatter drops out-of-range indices. Each entry gets its own, so indices stay unique.
    beyond_u = table.input_vd.shape[0] + jnp.arange(distinct_u.shape[0])
    to_u = jnp.where(where & (distinct_u > 0), distinct_u, beyond_u)

    def scatter(old: jax.Array, new: jax.Array) -> jax.Array:
        return getattr(old.at[to_u], change)(new, mode="drop", unique_indices=True)

    return jax.tree.map(scatter, table, rows)


def _over_tables(function: Any, tree: Any, *others: Any) -> Any:
    """Applies `function` to each `ItemTable`; other leaves come from the last tree."""

    def of_part(*parts: Any) -> Any:
        return function(*parts) if isinstance(parts[0], ItemTable) else parts[-1]

    return jax.tree.map(of_part, tree, *others, is_leaf=lambda part: isinstance(part, ItemTable))


def _where(finite: jax.Array, new: Any, old: Any) -> Any:
    return jax.tree.map(lambda new, old: jnp.where(finite, new, old), new, old)
