"""The steps of training and evaluation: jitted once per bucket, the state donated."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from hiertcn_jax.batch import PADDING_ID, Batch
from hiertcn_jax.config import LossConfig, ModelConfig
from hiertcn_jax.devices.distinct_items import with_distinct_rows, with_listed_rows
from hiertcn_jax.devices.mesh import LANES, ROWS, Layout, lane_shardings, replicated
from hiertcn_jax.learning.negatives import Source, sources_at_rows
from hiertcn_jax.learning.objective import event_loss, stream_keys
from hiertcn_jax.learning.optimizer import Optimizer
from hiertcn_jax.learning.train_state import TrainState, state_shardings
from hiertcn_jax.models import Model
from hiertcn_jax.scoring.chunk_ranks import RankCounts, RankState, rank_chunk
from hiertcn_jax.scoring.item_table import ItemTable, scoring_rows
from hiertcn_jax.scoring.ranks import list_counts, rank_counts

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
    """The jitted step `(state, batch, sources) -> (state, metrics)`; the old state is donated.

    Metrics are scalars that stay on the device: `loss_sum` and `weight` of the batch, `events` in
    it, `grad_norm` before clipping, `learning_rate`, and `finite`.

    Where the loss or the gradient is not finite, the step is skipped: `finite` is False, and
    parameters and moments are those of before. It is still counted, so that dropout, negatives and
    the learning rate of later steps do not depend on it. The carry goes on, since the lanes do: the
    next batch begins behind this one's events. A lane whose new carry is not finite keeps its old.

    Args:
      model: The model.
      model_config: Its config.
      loss_config: The loss.
      optimizer: The optimizer.
      seed: Of dropout and negatives.
      layout: Where state and batch lie, if on several devices.
    """

    def step(
        state: TrainState, batch: Batch, sources: Sequence[Source]
    ) -> tuple[TrainState, StepMetrics]:
        keys = stream_keys(seed, state.step)
        items = state.params["items"]
        if layout is not None:
            batch = with_listed_rows(batch, layout)
            if optimizer.rows and batch.distinct_u is None:
                batch = with_distinct_rows(batch, layout)
        distinct_u = batch.distinct_u
        sources = sources_at_rows(sources, batch)
        if optimizer.rows:
            # Gradients are taken with respect to the batch's rows, never to the whole table.
            items = items.rows(distinct_u)

        def objective(params: dict[str, Any]) -> tuple[jax.Array, tuple[jax.Array, jax.Array, Any]]:
            items = params["items"].with_given(batch)
            u_bld, carry = model.apply(
                {"params": params["model"]},
                batch.replace(item_table_ud=items.input_vd),
                state.carry,
                train=True,
                rngs={name: keys[name] for name in ("dropout", "unknown")},
            )
            if batch.item_table_ud is not None:
                # Padding and unknown are never scored: nothing of the table learns by its scores,
                # and no gradient as large as the batch's rows has to be added up over devices.
                items = jax.lax.stop_gradient(items)
            loss_sum, weight = event_loss(
                u_bld, batch, items, sources, keys["negatives"], loss_config, model_config, layout
            )
            return loss_sum / jnp.maximum(weight, 1e-6), (loss_sum, weight, carry)

        (loss, (loss_sum, weight, carry)), grads = jax.value_and_grad(objective, has_aux=True)(
            {"model": state.params["model"], "items": items}
        )
        grad_norm = optax.tree.norm(grads)
        finite = jnp.isfinite(loss) & jnp.isfinite(grad_norm)
        params, opt_state = optimizer.update(
            grads, state.opt_state, state.params, state.step, distinct_u, finite
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
            # As it came: the next step takes it, and is not compiled again.
            state = jax.lax.with_sharding_constraint(state, state_shardings(state, layout))
            metrics = jax.lax.with_sharding_constraint(metrics, replicated(layout.mesh))
        return state, metrics

    return jax.jit(step, donate_argnums=0)


def finite_lanes(new: Any, old: Any) -> Any:
    """A carry with the lanes of `new` that are finite throughout, and those of `old` elsewhere.

    Args:
      new: Arrays whose first axis is `b`.
      old: Likewise.
    """
    finite_b = jnp.ones((), bool)
    for leaf in jax.tree.leaves(new):
        finite_b &= jnp.isfinite(leaf).all(axis=range(1, leaf.ndim))

    def choose(new: jax.Array, old: jax.Array) -> jax.Array:
        return jnp.where(finite_b.reshape(-1, *[1] * (new.ndim - 1)), new, old)

    return jax.tree.map(choose, new, old)


EvalStep = Callable[[dict[str, Any], Batch, Any], tuple[jax.Array, Any]]


def make_eval_step(model: Model, layout: Layout | None = None) -> EvalStep:
    """The jitted `(params, batch, carry) -> (u_bld, carry)`; the old carry is donated.

    Args:
      model: The model.
      layout: Where parameters and batch lie, if on several devices.
    """

    def step(params: dict[str, Any], batch: Batch, carry: Any) -> tuple[jax.Array, Any]:
        if layout is not None:
            batch = with_listed_rows(batch, layout)
        items = params["items"].with_given(batch)
        batch = batch.replace(item_table_ud=items.input_vd)
        out = model.apply({"params": params["model"]}, batch, carry)
        if layout is not None:
            out = jax.lax.with_sharding_constraint(out, lane_shardings(out, layout.mesh))
        return out

    return jax.jit(step, donate_argnums=2)


class ChunkSteps(NamedTuple):
    """What ranks over a catalogue that is not on the device, jitted.

    Attributes:
      rows: From the embeddings of a chunk, [c, d] of any type, to what scores are made of.
      rank: `rank_chunk`; the old state is donated.
    """

    rows: Callable[[Any], jax.Array]
    rank: Callable[..., RankState]


def make_chunk_steps(model_config: ModelConfig) -> ChunkSteps:
    """The steps over a catalogue that comes by in chunks.

    Args:
      model_config: `normalize` is read.
    """

    def rows(rows_cd: Float[Array, "c d"]) -> jax.Array:
        items = ItemTable(rows_cd.astype(jnp.float32), None, None)
        return scoring_rows(items, model_config)[0]

    return ChunkSteps(jax.jit(rows), jax.jit(rank_chunk, donate_argnums=0))


RankStep = Callable[..., RankCounts]


def make_rank_step(model_config: ModelConfig, chunk: int, layout: Layout | None = None) -> RankStep:
    """The jitted `(items, u_bld, places_n, target_n, seen_nk) -> RankCounts`.

    On several devices n lies over the mesh axis `data`, as the lanes do: each device ranks events
    of its own lanes, and places are those among its own lanes' events. No row leaves its device.

    Args:
      model_config: `normalize` is read.
      chunk: Catalogue rows scored at once.
      layout: Where table and lanes lie, if on several devices.
    """

    def step(
        items: ItemTable,
        u_bld: Float[Array, "b l d"],
        places_n: Int[Array, " n"],
        target_n: Int[Array, " n"],
        seen_nk: Int[Array, "n k"] | None,
    ) -> RankCounts:
        u_nd = jnp.take(u_bld.reshape(-1, u_bld.shape[-1]), places_n, axis=0)
        table_vd, bias_v = scoring_rows(items, model_config)
        whole_rows = None if layout is None else layout.rows
        return rank_counts(u_nd, target_n, table_vd, bias_v, chunk, seen_nk, whole_rows)

    if layout is None:
        return jax.jit(step)
    return jax.jit(
        jax.shard_map(
            step,
            mesh=layout.mesh,
            in_specs=(ROWS, LANES, LANES, LANES, LANES),
            out_specs=LANES,
            check_vma=False,
        )
    )


def make_list_step(model_config: ModelConfig, layout: Layout | None = None) -> RankStep:
    """The jitted `(items, ids_nk, rows_nkd, u_bld, places_n) -> RankCounts` within lists of items.

    `ids_nk` are rows of `items`: an event's target, then what was shown beside it; PADDING_ID is
    none. In `given` mode `rows_nkd` are their embeddings, else None. On several devices events and
    places are as for `make_rank_step`.

    Args:
      model_config: `normalize` is read.
      layout: Where table and lanes lie, if on several devices.
    """

    def pick(u_bld: Float[Array, "b l d"], places_n: Int[Array, " n"]) -> Float[Array, "n d"]:
        return jnp.take(u_bld.reshape(-1, u_bld.shape[-1]), places_n, axis=0)

    pick_own = pick
    if layout is not None:
        pick_own = jax.shard_map(
            pick, mesh=layout.mesh, in_specs=(LANES, LANES), out_specs=LANES, check_vma=False
        )

    def step(
        items: ItemTable,
        ids_nk: Int[Array, "n k"],
        rows_nkd: Float[Array, "n k d"] | None,
        u_bld: Float[Array, "b l d"],
        places_n: Int[Array, " n"],
    ) -> RankCounts:
        if rows_nkd is None:
            rows_nkd, bias_nk = scoring_rows(items, model_config, ids_nk)
        else:
            given = ItemTable(rows_nkd.astype(jnp.float32), None, None)
            rows_nkd, bias_nk = scoring_rows(given, model_config)
        counts = list_counts(pick_own(u_bld, places_n), rows_nkd, bias_nk, ids_nk != PADDING_ID)
        if layout is None:
            return counts
        return jax.lax.with_sharding_constraint(counts, lane_shardings(counts, layout.mesh))

    return jax.jit(step)
