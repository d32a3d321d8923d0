"""What the neural models share: reading items, the item before an event, the prediction.

x_t = P e_{i_t}          embedding of item i_t; P where `projection_dim` asks for one
p_t = x_{t-1}            the newest item that the prediction of event t may see
u_t = (W o_t + b) / T    o_t: output of the model at t; W o_t + b of length 1 if normalised
"""

from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from hiertcn_jax.batch import FIRST_ITEM_ID, PADDING_ID, UNKNOWN_ID, Batch
from hiertcn_jax.config import ModelConfig
from hiertcn_jax.layers import masking
from hiertcn_jax.layers.dense import Dense
from hiertcn_jax.layers.tcn import kept_tail


class SequenceModel(nn.Module):
    """Base of the models: the ends where embeddings come in and predictions go out.

    Attributes:
      config: See `ModelConfig`.
      widths: The fields of the config that are the model's own widths.
    """

    config: ModelConfig
    widths: ClassVar[tuple[str, ...]] = ()

    def init_carry(self, b: int) -> Any:
        """The state of `b` lanes in front of a user's first event."""
        raise NotImplementedError

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
          ValueError: The batch has no `item_table_ud`.
        """
        if batch.item_table_ud is None:
            raise ValueError("item_table_ud: must be set for the model to look items up")
        ids_bl = batch.item_ids_bl
        if train and self.config.unknown_rate:
            replaced_bl = jax.random.bernoulli(
                self.make_rng("unknown"), self.config.unknown_rate, ids_bl.shape
            )
            ids_bl = jnp.where(replaced_bl & (ids_bl >= FIRST_ITEM_ID), UNKNOWN_ID, ids_bl)
        items_bld = jnp.take(batch.item_table_ud, ids_bl, axis=0).astype(self.compute_dtype)
        if not self.config.projection_dim:
            return ids_bl, items_bld
        projection = Dense(
            self.config.projection_dim, use_bias=False, dtype=self.compute_dtype, name="projection"
        )
        return ids_bl, projection(items_bld)

    def with_start_token(
        self, previous_blc: Float[Array, "b l c"], starts_bl: Bool[Array, "b l"]
    ) -> Float[Array, "b l c"]:
        """The items before, with a learned token where a sequence starts."""
        start_c = self.param("start_token", nn.initializers.zeros, (previous_blc.shape[-1],))
        return jnp.where(starts_bl[..., None], start_c.astype(previous_blc.dtype), previous_blc)

    def predict(self, hidden_blc: Float[Array, "b l c"]) -> Float[Array, "b l d"]:
        """`u_bld`, float32, from the outputs of the model."""
        output = Dense(self.config.item_dim, dtype=self.compute_dtype, name="output")
        u_bld = output(hidden_blc).astype(jnp.float32)
        if self.config.normalize != "none":
            u_bld = masking.safe_l2_normalize(u_bld)
        return u_bld / self.config.temperature


def events_in_row(batch: Batch) -> Int[Array, " b"]:
    """Events of each lane in this row; what is behind them is padding."""
    return jnp.sum(batch.item_ids_bl != PADDING_ID, axis=1)


def previous_items(
    items_blc: Float[Array, "b l c"], last_bc: Float[Array, "b c"], events_b: Int[Array, " b"]
) -> tuple[Float[Array, "b l c"], Float[Array, "b c"]]:
    """The item before each event, whosever it was, and the last item of the row for the next one.

    Args:
      items_blc: Items of the row.
      last_bc: Last item of the row before.
      events_b: Events in the row.
    """
    joined_bmc = jnp.concatenate([last_bc[:, None], items_blc], axis=1)
    return joined_bmc[:, :-1], kept_tail(joined_bmc, events_b, 1)[:, 0]
