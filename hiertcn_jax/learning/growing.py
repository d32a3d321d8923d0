"""The state of a run that continues another one on a log with more items."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import optax

from hiertcn_jax.batch import FIRST_ITEM_ID
from hiertcn_jax.learning.train_state import TrainState
from hiertcn_jax.scoring.item_table import ItemTable


class NewItems(NamedTuple):
    """What is known of the items that a run has no rows for yet.

    Attributes:
      new_n: int64. Row of a new item, for each pair with a neighbour that has a learned row.
      old_n: int64. Row of the neighbour.
      weight_n: float64. How near they are.
      counts_v: int64 [v]. Fitted events of every row.
    """

    new_n: np.ndarray
    old_n: np.ndarray
    weight_n: np.ndarray
    counts_v: np.ndarray


def continued_state(fresh: TrainState, old: TrainState, new: NewItems) -> TrainState:
    """The state of `old` with rows for more items, before its first step.

    Model parameters, rows and Adam's moments are those of `old`, and Adam's count of steps, so that
    moments keep their scale. Carries, the run's count of steps and so its learning rate start anew.

    A new row is the mean of its neighbours' rows, and as in `fresh` without any. Its bias is what a
    line through the learned biases over the logarithm of counts gives. Its first moments are 0, and
    its second ones are the mean over learned rows: with 0, its first steps would be too long.

    Args:
      fresh: A state for all items.
      old: A state for the first of them.
      new: What is known of the others.
    """
    adam, fresh_adam = old.opt_state["adam"], fresh.opt_state["adam"]
    items: ItemTable = old.params["items"]
    grown = _grown_table(items, fresh.params["items"], new)
    mu = _with_rows(adam.mu["items"], fresh_adam.mu["items"], lambda table: 0.0)
    nu = _with_rows(
        adam.nu["items"], fresh_adam.nu["items"], lambda table: table[FIRST_ITEM_ID:].mean(0)
    )
    moments = adam._replace(mu={**adam.mu, "items": mu}, nu={**adam.nu, "items": nu})
    opt_state: optax.OptState = fresh.opt_state | {"adam": moments}
    params = {**old.params, "items": grown}
    return TrainState(fresh.step, params, opt_state, fresh.carry)


def _with_rows(old: ItemTable, fresh: ItemTable, of_new: Any) -> ItemTable:
    """The rows of `old`, and for the others of `fresh` what `of_new` makes of a table of `old`."""

    def grow(table: Any, wanted: Any) -> Any:
        if table is None:
            return None
        rows = len(wanted) - len(table)
        if not rows:
            return table
        value = jnp.broadcast_to(jnp.asarray(of_new(table), table.dtype), (rows, *table.shape[1:]))
        return jnp.concatenate([table, value])

    return ItemTable(*(grow(table, wanted) for table, wanted in zip(old, fresh, strict=True)))


def _grown_table(old: ItemTable, fresh: ItemTable, new: NewItems) -> ItemTable:
    rows, learned = len(fresh.input_vd), len(old.input_vd)
    if rows == learned:
        return old
    sum_v = np.zeros(rows)
    np.add.at(sum_v, new.new_n, new.weight_n)
    share_n = (new.weight_n / sum_v[new.new_n]).astype(np.float32)

    def by_neighbours(table: Any, start: Any) -> Any:
        values, learned_rows = np.array(start, np.float32), np.asarray(table, np.float32)
        values[:learned] = learned_rows
        values[new.new_n] = 0
        np.add.at(values, new.new_n, share_n[:, None] * learned_rows[new.old_n])
        return jnp.asarray(values, table.dtype)

    return ItemTable(
        by_neighbours(old.input_vd, fresh.input_vd),
        None if old.output_vd is None else by_neighbours(old.output_vd, fresh.output_vd),
        None if old.bias_v is None else _grown_bias(old.bias_v, new.counts_v),
    )


def _grown_bias(bias_v: Any, counts_v: np.ndarray) -> Any:
    learned = len(bias_v)
    values = np.zeros(len(counts_v), np.float32)
    values[:learned] = np.asarray(bias_v)
    log_v = np.log(np.maximum(counts_v, 1))
    x, y = log_v[FIRST_ITEM_ID:learned], values[FIRST_ITEM_ID:learned]
    spread = x.var()
    slope = ((x - x.mean()) * (y - y.mean())).mean() / spread if spread > 0 else 0.0
    values[learned:] = y.mean() + slope * (log_v[learned:] - x.mean())
    return jnp.asarray(values, bias_v.dtype)
