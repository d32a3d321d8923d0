"""Base of the neural models: reading items, the item before an event, the prediction.

x_t = P e_{i_t}          embedding of item i_t; P where `projection_dim` asks for one
p_t = x_{t-1}            the newest item that the prediction of event t may see
u_t = (W o_t + b) / T    o_t: output of the model at t; W o_t + b of length 1 if normalised
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from hiertcn_jax.batch import FIRST_ITEM_ID, UNKNOWN_ID, Batch, EmbeddedItems, NextEvent
from hiertcn_jax.config import ModelConfig
from hiertcn_jax.layers import masking
from hiertcn_jax.layers.dense import Dense
from hiertcn_jax.layers.tcn import kept_tail
from hiertcn_jax.memory.terms import Terms, in_chunks, no_counts
from hiertcn_jax.models.context import MOMENTS, Context, moments
from hiertcn_jax.scoring.scores import Additions


class SequenceModel(nn.Module):
    """Base of the models: inputs, outputs, and how events are processed.

    A model has two halves, which it must define:

    - `take_items` puts the items of a segment into the carry, and returns what each event has
      *before* it. It has no parameters except those of `read_items`. `before_next` reads the same
      from a carry, for the event after the segment.
    - `run` makes the predictions, from what is before each event and what is known of the event,
    its
      `Context`. It never sees the event's item.

    So `__call__`, `predict` and `observe` are the same computation: over a segment, over one event
    without its item, and without the predictions.

    Attributes:
      config: Its settings; each model has its own class of settings.
    """

    config: ModelConfig

    def init_carry(self, b: int) -> Any:
        """The state of `b` lanes before a user's first event."""
        raise NotImplementedError

    def run(
        self, context: Context, before: Any, carry: Any, train: bool
    ) -> tuple[Float[Array, "b l d"], Any]:
        """The predictions of a segment, and the carry with the network's state after it.

        The only `nn.compact` method of a model: it creates the layers.

        Args:
          context: What is known of the events.
          before: What is before each of them, from `take_items` or `before_next`.
          carry: The network's state before the segment; the rest of the carry passes through.
          train: Turns on dropout.
        """
        raise NotImplementedError

    def take_items(
        self,
        context: Context,
        ids_bl: Int[Array, "b l"],
        items_blc: Float[Array, "b l c"],
        carry: Any,
    ) -> tuple[Any, Any]:
        """What is before each event of a segment, and the carry with the segment's items in it.

        Most models read only the last item before an event, `carry.last_bc`.
        """
        previous_blc, last_bc = previous_items(items_blc, carry.last_bc, context.events_b)
        return previous_blc, carry._replace(last_bc=last_bc)

    def before_next(self, carry: Any) -> Any:
        """What is before the next event of each lane, like `take_items` of one event."""
        return carry.last_bc[:, None]

    def setup(self) -> None:
        """Creates the layers that `read_items` and `additions` need."""
        if self.config.projection_dim:
            self.projection = Dense(
                self.config.projection_dim, use_bias=False, dtype=self.compute_dtype
            )
        if self.config.memory:
            self.terms = Terms(self.config.memory, self.config.memory_units)

    def __call__(
        self, batch: Batch, carry: Any, train: bool = False
    ) -> tuple[Float[Array, "b l d"], Any]:
        """Predictions for the events of a batch, and the lanes' state after them.

        Args:
          batch: With `EmbeddedItems`, see `Batch.with_embeddings`.
          carry: The lanes' state after the previous segment.
          train: Turns on dropout (rng `dropout`) and replacement by the unknown item (rng
            `unknown`).

        Returns:
          `u_bld`, float32: for each event the prediction made before it is seen. And the carry for
          the next segment. Values on padding are undefined, but finite.
        """
        batch = jax.tree.map(jnp.asarray, batch)
        context = Context.of_batch(batch)
        ids_bl, items_blc = self.read_items(batch, train)
        before, carry = self.take_items(context, ids_bl, items_blc, carry)
        u_bld, carry = self.run(context, before, carry, train)
        if self.config.memory and self.is_initializing():
            b, l, _ = u_bld.shape
            self.terms(no_counts(b, l), jnp.zeros((b, l, MOMENTS)), self.known(u_bld))
        return u_bld, carry

    def additions(self, batch: Batch, u_bld: Float[Array, "b l d"]) -> Additions | None:
        """Memory's additions to scores; None if the model has no terms of memory.

        Args:
          batch: With lists, see `Batch.memory_ids_blk`.
          u_bld: The predictions.

        Raises:
          ValueError: The batch has no lists, and the model needs them.
        """
        context = Context.of_batch(batch)
        if self.config.memory and batch.memory_counts_nkf is not None:
            return self._few_additions(context, batch, u_bld)
        lists = batch.memory_ids_blk, batch.memory_counts_blkf, batch.clock_blg
        return self._terms_at(context, lists, u_bld)

    def _few_additions(
        self, context: Context, batch: Batch, u_bld: Float[Array, "b l d"]
    ) -> Additions:
        """The additions of a batch in which few events have a list; the other events have none."""
        events_n: Any = batch.memory_events_n
        ids_blk: Any = batch.memory_ids_blk
        counts_nkf: Any = batch.memory_counts_nkf
        clock_blg: Any = batch.clock_blg
        b, l, k = ids_blk.shape

        def few(at_blz: Array) -> Array:
            return at_blz.reshape(b * l, at_blz.shape[-1]).at[events_n].get(mode="clip")

        known_ng = few(moments(jax.tree.map(jnp.asarray, context), clock_blg))
        values_nk = self.terms(counts_nkf, known_ng, few(self.known(u_bld)))
        values = jnp.zeros((b * l, k)).at[events_n].set(values_nk, mode="drop")
        return Additions(ids_blk, values.reshape(b, l, k))

    def next_additions(
        self, event: NextEvent, u_bd: Float[Array, "b d"], apart: bool = False
    ) -> Additions | None:
        """Memory's additions to the scores of each lane's next event; see `additions`.

        Args:
          event: With lists, see `NextEvent.memory_ids_bk`.
          u_bd: The predictions.
          apart: Values are what the additions are sums of: `memory.terms.Apart`.

        Raises:
          ValueError: The event has no lists, and the model needs them.
        """
        lists = jax.tree.map(
            lambda x: x[:, None], (event.memory_ids_bk, event.memory_counts_bkf, event.clock_bg)
        )
        context = Context.of_next_event(event)
        additions = self._terms_at(context, lists, u_bd[:, None], apart=apart)
        return jax.tree.map(lambda x: x[:, 0], additions)

    def _terms_at(
        self,
        context: Context,
        lists: tuple[Any, Any, Any],
        u_bld: Float[Array, "b l d"],
        apart: bool = False,
    ) -> Additions | None:
        """The additions for events, from memory's lists."""
        if not self.config.memory:
            return None
        ids_blk, counts_blkf, clock_blg = lists
        if ids_blk is None or counts_blkf is None or clock_blg is None:
            raise ValueError("memory_ids_blk: must be set for a model with terms of memory")
        known_blg = moments(jax.tree.map(jnp.asarray, context), clock_blg)
        known = known_blg, self.known(u_bld)
        if apart:
            return Additions(ids_blk, self.terms(counts_blkf, *known, apart=True))
        alone, params = self.terms.clone(parent=None), self.terms.variables["params"]

        def terms(*few: Array) -> Any:
            return alone.apply({"params": params}, *few)

        values = in_chunks(terms, counts_blkf, *known)
        return Additions(ids_blk, values)

    def known(self, u_bld: Float[Array, "b l d"]) -> Float[Array, "b l z"]:
        """The input of memory's weights besides the moment: the predictions."""
        return u_bld

    def predict(self, event: NextEvent, carry: Any) -> Float[Array, "b d"]:
        """The prediction for the next event of each lane, float32, without its item.

        Args:
          event: What is known of it.
          carry: The lanes' state after all events before it. It does not change: the event has not
            happened yet.
        """
        event = jax.tree.map(jnp.asarray, event)
        u_bld, _ = self.run(Context.of_next_event(event), self.before_next(carry), carry, False)
        return u_bld[:, 0]

    def observe(self, batch: Batch, carry: Any) -> Any:
        """The lanes' state after the events of a batch, of any length; see `__call__`."""
        return self(batch, carry)[1]

    @property
    def compute_dtype(self) -> jnp.dtype:
        """Type of the matrix products."""
        return jnp.dtype(self.config.dtype)

    @property
    def input_dim(self) -> int:
        """Width of an item as the model reads it."""
        return self.config.projection_dim or self.config.item_dim

    def read_items(
        self, batch: Batch, train: bool
    ) -> tuple[Int[Array, "b l"], Float[Array, "b l c"]]:
        """The items as inputs: their ids and embeddings.

        In training a share `unknown_rate` of them becomes the unknown item (rng `unknown`).

        Raises:
          ValueError: The batch's items have no embeddings.
        """
        if not isinstance(batch.items, EmbeddedItems):
            raise ValueError(
                f"items: a model looks items up in EmbeddedItems, got {type(batch.items).__name__};"
                " see Batch.with_embeddings"
            )
        ids_bl = batch.item_ids_bl
        if train and self.config.unknown_rate:
            replaced_bl = jax.random.bernoulli(
                self.make_rng("unknown"), self.config.unknown_rate, ids_bl.shape
            )
            ids_bl = jnp.where(replaced_bl & (ids_bl >= FIRST_ITEM_ID), UNKNOWN_ID, ids_bl)
        items_bld = jnp.take(batch.items.table_ud, ids_bl, axis=0).astype(self.compute_dtype)
        if not self.config.projection_dim:
            return ids_bl, items_bld
        return ids_bl, self.projection(items_bld)

    def with_start_token(
        self, previous_blc: Float[Array, "b l c"], starts_bl: Bool[Array, "b l"]
    ) -> Float[Array, "b l c"]:
        """The previous items, with a learned token where a sequence starts."""
        start_c = self.param("start_token", nn.initializers.zeros, (previous_blc.shape[-1],))
        return jnp.where(starts_bl[..., None], start_c.astype(previous_blc.dtype), previous_blc)

    def output(self, hidden_blc: Float[Array, "b l c"]) -> Float[Array, "b l d"]:
        """`u_bld`, float32, from the outputs of the network."""
        layer = Dense(self.config.item_dim, dtype=self.compute_dtype, name="output")
        u_bld = layer(hidden_blc).astype(jnp.float32)
        if self.config.normalize != "none":
            u_bld = masking.safe_l2_normalize(u_bld)
        return u_bld / self.config.temperature


def previous_items(
    items_blc: Float[Array, "b l c"], last_bc: Float[Array, "b c"], events_b: Int[Array, " b"]
) -> tuple[Float[Array, "b l c"], Float[Array, "b c"]]:
    """The item before each event, whoever's it was, and the segment's last item, for the next one.

    Args:
      items_blc: Items of the segment.
      last_bc: Last item of the previous segment.
      events_b: Events in the segment.
    """
    joined_bmc = jnp.concatenate([last_bc[:, None], items_blc], axis=1)
    return joined_bmc[:, :-1], kept_tail(joined_bmc, events_b, 1)[:, 0]
