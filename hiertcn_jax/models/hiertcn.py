"""HierTCN: a GRU over sessions, a TCN within a session.

You, Wang, Pal, Eksombatchai, Rosenberg, Leskovec: Hierarchical Temporal Convolutional Networks for
Dynamic Recommender Systems, WWW 2019 (arXiv 1904.04381). For sessions m of events x_{m,1..n_m}:

    s_m      = AGG(x_{m,1..n_m})
    h_0      = learned start state
    h_m      = GRU(h~_{m-1}, s_m)
    h~_m     = h_m * exp(-gap_{m+1} / tau)
    u_{m,t}  = TCN([start, x_{m,1}, ..., x_{m,t-1}] + h~_{m-1} beside each)

The GRU does not wait for the TCN: a scan over the s session slots of a row, then the TCN over all
its events at once.
"""

from typing import ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from hiertcn_jax.batch import FIRST_ITEM_ID, Batch
from hiertcn_jax.layers import masking, pooling
from hiertcn_jax.layers.dense import Dense
from hiertcn_jax.layers.dropout import Dropout
from hiertcn_jax.layers.gru import SessionGRU
from hiertcn_jax.layers.tcn import TCN, init_tails
from hiertcn_jax.models.common import SequenceModel, events_in_row, previous_items


class HierTCNCarry(NamedTuple):
    """The state of each lane behind a row; one lane of it is a user's state when served.

    Attributes:
      state_bh: GRU state of all layers side by side, decayed, as the running session reads it.
      pool: Statistic of the running session, which the GRU reads when the next one starts.
      last_bc: Embedding of the last event's item, the TCN's next input.
      tails: Last inputs of each convolution.
    """

    state_bh: Float[Array, "b h"]
    pool: pooling.PoolState
    last_bc: Float[Array, "b c"]
    tails: tuple[Float[Array, "b _ _"], ...]


class HierTCN(SequenceModel):
    """Predicts every event from the user's sessions before and the running session so far.

    Attributes:
      config: See `ModelConfig`.
    """

    widths: ClassVar[tuple[str, ...]] = ("gru_dim", "tcn_channels")

    def init_carry(self, b: int) -> HierTCNCarry:
        """The state of `b` lanes in front of a user's first event.

        All zeros: a user's first session takes the learned start states itself.
        """
        config = self.config
        return HierTCNCarry(
            state_bh=jnp.zeros((b, config.gru_layers * config.gru_dim)),
            pool=pooling.PoolState(jnp.zeros((b, self.input_dim)), jnp.zeros(b)),
            last_bc=jnp.zeros((b, self.input_dim), self.compute_dtype),
            tails=init_tails(config, b),
        )

    @nn.compact
    def __call__(
        self, batch: Batch, carry: HierTCNCarry, train: bool = False
    ) -> tuple[Float[Array, "b l d"], HierTCNCarry]:
        """Predictions for the events of a batch.

        Args:
          batch: With `item_table_ud` set.
          carry: The lanes' state behind the row before.
          train: Turns on dropout (rng `dropout`) and unknown replacement (rng `unknown`).

        Returns:
          `u_bld`, float32: at each event the prediction made before it is seen. And the carry for
          the next row. What stands on padding is undefined, but finite.
        """
        config = self.config
        batch = jax.tree.map(jnp.asarray, batch)
        events_b = events_in_row(batch)
        ids_bl, items_blc = self.read_items(batch, train)
        previous_blc, last_bc = previous_items(items_blc, carry.last_bc, events_b)
        previous_blc = self.with_start_token(previous_blc, batch.position_bl == 0)

        inputs_blc = Dense(config.tcn_channels[0], dtype=self.compute_dtype, name="join_item")(
            previous_blc
        )
        state_bh, pool, context_blc = self._context(batch, carry, items_blc, ids_bl, events_b)
        inputs_blc = Dropout(config.input_dropout)(inputs_blc + context_blc, train)
        hidden_blc, tails = TCN(config, name="tcn")(
            inputs_blc, carry.tails, batch.position_bl, events_b, train
        )
        return self.predict(hidden_blc), HierTCNCarry(state_bh, pool, last_bc, tails)

    def _context(
        self,
        batch: Batch,
        carry: HierTCNCarry,
        items_blc: jax.Array,
        ids_bl: jax.Array,
        events_b: jax.Array,
    ) -> tuple[jax.Array, pooling.PoolState, jax.Array]:
        """Long-term state behind the row, running statistic, and the TCN's input from the state."""
        config = self.config
        sessions = batch.starts_session_bs.shape[1]
        slots = pooling.pool_slots(
            config.pooling,
            items_blc.astype(jnp.float32),
            masking.session_members(batch.session_bl, ids_bl >= FIRST_ITEM_ID, sessions),
        )
        continued = pooling.combine(
            config.pooling, carry.pool, jax.tree.map(lambda x: x[:, 0], slots)
        )
        first = jax.tree.map(
            lambda fresh, more: jnp.where(
                batch.starts_session_bs[:, 0].reshape((-1,) + (1,) * (more.ndim - 1)),
                fresh[:, 0],
                more,
            ),
            slots,
            continued,
        )
        # Slot j of `before` is the session that ended where slot j starts; the carry's for slot 0.
        before = jax.tree.map(
            lambda kept, one, rest: jnp.concatenate(
                [kept[:, None], one[:, None], rest[:, 1:]], axis=1
            ),
            carry.pool,
            first,
            slots,
        )
        used_b = jnp.where(events_b > 0, 1 + jnp.max(batch.session_bl, axis=1), 0)
        pool = jax.tree.map(lambda x: jax.vmap(lambda row, used: row[used])(x, used_b), before)

        state_bh, state_bsh = SessionGRU(config, name="gru")(
            carry.state_bh,
            pooling.pooled(config.pooling, before)[:, :-1],
            batch.starts_session_bs,
            batch.starts_user_bs,
            batch.gap_hours_bs,
        )
        context_bsc = Dense(
            config.tcn_channels[0], use_bias=False, dtype=self.compute_dtype, name="join_state"
        )(state_bsh)
        session_bls = jax.nn.one_hot(batch.session_bl, sessions, dtype=self.compute_dtype)
        context_blc = jnp.einsum(
            "bls,bsc->blc", session_bls, context_bsc, precision=jax.lax.Precision.HIGHEST
        )
        return state_bh, pool, context_blc
