"""The jitted ranking steps: over a table on the devices, over chunks of a file, within lists.

Equal arguments give the same step, which is compiled once for all evaluations of a process.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from hiertcn_jax.config import ModelConfig
from hiertcn_jax.devices.mesh import LANES, ROWS, Layout, lane_shardings
from hiertcn_jax.scoring.chunk_ranks import RankCounts, Ranking, RankState, rank_chunk
from hiertcn_jax.scoring.item_table import ItemTable
from hiertcn_jax.scoring.keys import item_keys
from hiertcn_jax.scoring.metrics import TOP
from hiertcn_jax.scoring.ranks import list_counts, rank
from hiertcn_jax.scoring.scores import Keys, Queries


class ChunkSteps(NamedTuple):
    """Jitted functions that rank over a catalogue that is not on the device.

    Attributes:
      keys: Maps the embeddings of a chunk, [c, d] of any type, to its keys.
      rank: `rank_chunk`; it donates the old state.
    """

    keys: Callable[[Any], Keys]
    rank: Callable[..., RankState]


@functools.lru_cache(maxsize=16)
def make_chunk_steps(model_config: ModelConfig) -> ChunkSteps:
    """The steps over a catalogue that is read in chunks.

    Args:
      model_config: Uses `normalize`.
    """

    def keys(rows_cd: Float[Array, "c d"]) -> Keys:
        return item_keys(ItemTable(rows_cd.astype(jnp.float32), None, None), model_config)

    return ChunkSteps(jax.jit(keys), jax.jit(rank_chunk, donate_argnums=0))


RankStep = Callable[..., Ranking]
ListStep = Callable[..., RankCounts]


@functools.lru_cache(maxsize=16)
def make_rank_step(model_config: ModelConfig, chunk: int, layout: Layout | None = None) -> RankStep:
    """The jitted function from items and events to their `Ranking`, with lists of `TOP`.

    Its arguments: items, queries, places_n, target_n, seen_nk, and known_from_v (`Keys.known_from`,
    or None). The queries are those of a batch, [b, l]; n of its events are ranked.

    On several devices n is sharded over the mesh axis `data`, like the lanes: each device ranks
    events of its own lanes, and places are indices among these. No row leaves its device.

    Args:
      model_config: Uses `normalize`.
      chunk: Catalogue rows scored at once.
      layout: Where table and lanes are, if on several devices.
    """

    def step(
        items: ItemTable,
        queries: Queries,
        places_n: Int[Array, " n"],
        target_n: Int[Array, " n"],
        seen_nk: Int[Array, "n k"] | None,
        known_from_v: Int[Array, " v"] | None = None,
    ) -> Ranking:
        keys = item_keys(items, model_config)._replace(known_from=known_from_v)
        whole_rows = None if layout is None else layout.rows
        return rank(queries.pick(places_n), keys, target_n, chunk, seen_nk, whole_rows, TOP)

    if layout is None:
        return jax.jit(step)
    on_devices: RankStep = jax.shard_map(
        step,
        mesh=layout.mesh,
        in_specs=(ROWS, LANES, LANES, LANES, LANES, ROWS),
        out_specs=LANES,
        check_vma=False,
    )
    return jax.jit(lambda *of_events, known_from_v=None: on_devices(*of_events, known_from_v))


@functools.lru_cache(maxsize=16)
def make_list_step(model_config: ModelConfig, layout: Layout | None = None) -> ListStep:
    """The jitted `(items, ids_nk, rows_nkd, queries, places_n) -> RankCounts` within lists.

    `ids_nk` are rows of `items`: an event's target, then the other shown items; PADDING_ID is none.
    In `given` mode `rows_nkd` are their embeddings, else None. On several devices events and places
    are as for `make_rank_step`.

    Args:
      model_config: Uses `normalize`.
      layout: Where table and lanes are, if on several devices.
    """
    pick_own = Queries.pick
    if layout is not None:
        pick_own = jax.shard_map(
            Queries.pick,
            mesh=layout.mesh,
            in_specs=(LANES, LANES),
            out_specs=LANES,
            check_vma=False,
        )

    def step(
        items: ItemTable,
        ids_nk: Int[Array, "n k"],
        rows_nkd: Float[Array, "n k d"] | None,
        queries: Queries,
        places_n: Int[Array, " n"],
    ) -> RankCounts:
        if rows_nkd is None:
            keys = item_keys(items, model_config, ids_nk)
        else:
            given = ItemTable(rows_nkd.astype(jnp.float32), None, None)
            keys = item_keys(given, model_config)
        counts = list_counts(pick_own(queries, places_n), keys, ids_nk)
        if layout is None:
            return counts
        return jax.lax.with_sharding_constraint(counts, lane_shardings(counts, layout.mesh))

    return jax.jit(step)
