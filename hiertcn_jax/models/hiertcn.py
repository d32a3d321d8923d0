"""HierTCN: a GRU over sessions, a TCN within a session.

You, Wang, Pal, Eksombatchai, Rosenberg, Leskovec: Hierarchical Temporal Convolutional Networks for
Dynamic Recommender Systems, WWW 2019 (arXiv 1904.04381). For sessions m of events x_{m,1..n_m}:

    s_m      = AGG(x_{m,1..n_m})
    h_0      = learned start state
    h_m      = GRU(h~_{m-1}, s_m)
    h~_m     = h_m * exp(-gap_{m+1} / tau)
    u_{m,t}  = TCN([start, x_{m,1}, ..., x_{m,t-1}] + h~_{m-1} beside each)

With `session_progress` the TCN's input also has V relu(W q + b), q from `models.context.progress`.

The GRU does not need the TCN's output: a scan runs over the s session slots of a segment, then the
TCN processes all its events at once.
"""

import dataclasses
from typing import ClassVar, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from hiertcn_jax.batch import FIRST_ITEM_ID
from hiertcn_jax.layers import masking, pooling
from hiertcn_jax.layers.dense import Dense
from hiertcn_jax.layers.dropout import Dropout
from hiertcn_jax.layers.gru import SessionGRU, SessionGRUConfig
from hiertcn_jax.layers.pooling import Pooling
from hiertcn_jax.layers.tcn import TCN, TCNConfig, init_tails, receptive_field
from hiertcn_jax.models.common import SequenceModel
from hiertcn_jax.models.context import Context, progress
from hiertcn_jax.settings import setting

HELP_TOPIC = "model hiertcn"

PROGRESS_UNITS = 64
"""Hidden units between a session's progress and the TCN's inputs."""


@dataclasses.dataclass(frozen=True)
class HierTCNConfig(SessionGRUConfig, TCNConfig):
    """The settings of HierTCN."""

    widths: ClassVar[tuple[str, ...]] = ("gru_dim", "tcn_channels")

    name: Literal["hiertcn"] = "hiertcn"
    pooling: Pooling = setting(
        "mean",
        "How HierTCN pools a session into one vector: mean, max or last of its known items.",
    )
    session_progress: bool = setting(
        False,
        "Let HierTCN's TCN read how far the session has come, and the hours between it and the "
        "previous session.",
    )

    @property
    def reads(self) -> str:
        """See `ModelConfig.reads`."""
        return f"the session's last {receptive_field(self)} events and all earlier sessions"


class HierTCNCarry(NamedTuple):
    """The state of each lane after a segment; one lane of it is a user's state in serving.

    Attributes:
      state_bh: GRU state of all layers, concatenated and decayed, as the current session reads it.
      pool: Statistic of the current session, which the GRU reads when the next one starts.
      last_bc: Embedding of the last event's item, the TCN's next input.
      tails: Last inputs of each convolution.
    """

    state_bh: Float[Array, "b h"]
    pool: pooling.PoolState
    last_bc: Float[Array, "b c"]
    tails: tuple[Float[Array, "b _ _"], ...]


class Before(NamedTuple):
    """The earlier items that the predictions of a segment read.

    Attributes:
      previous_blc: The item before each event.
      ended: Statistic of the session before each session slot of the segment, [b, s].
    """

    previous_blc: Float[Array, "b l c"]
    ended: pooling.PoolState


class HierTCN(SequenceModel):
    """Predicts every event from the user's earlier sessions and the current session so far.

    Attributes:
      config: Its settings.
    """

    config: HierTCNConfig

    def init_carry(self, b: int) -> HierTCNCarry:
        """The state of `b` lanes before a user's first event.

        All zeros: a user's first session uses the learned start states anyway.
        """
        config = self.config
        return HierTCNCarry(
            state_bh=jnp.zeros((b, config.gru_layers * config.gru_dim)),
            pool=pooling.PoolState(jnp.zeros((b, self.input_dim)), jnp.zeros(b)),
            last_bc=jnp.zeros((b, self.input_dim), self.compute_dtype),
            tails=init_tails(config, b),
        )

    def take_items(
        self,
        context: Context,
        ids_bl: Int[Array, "b l"],
        items_blc: Float[Array, "b l c"],
        carry: HierTCNCarry,
    ) -> tuple[Before, HierTCNCarry]:
        """The last item before each event and the session before each slot; both after the segment.

        See `SequenceModel.take_items`.
        """
        previous_blc, carry = super().take_items(context, ids_bl, items_blc, carry)
        how, starts_session_bs = self.config.pooling, context.starts_session_bs
        slots = pooling.pool_slots(
            how,
            items_blc.astype(jnp.float32),
            masking.session_members(
                context.session_bl, ids_bl >= FIRST_ITEM_ID, starts_session_bs.shape[1]
            ),
        )
        continued = pooling.combine(how, carry.pool, jax.tree.map(lambda x: x[:, 0], slots))
        first = jax.tree.map(
            lambda fresh, more: jnp.where(
                starts_session_bs[:, 0].reshape((-1,) + (1,) * (more.ndim - 1)),
                fresh[:, 0],
                more,
            ),
            slots,
            continued,
        )
        # Slot j holds the session that ended where slot j starts; the carry's for slot 0.
        ended = jax.tree.map(
            lambda kept, one, rest: jnp.concatenate(
                [kept[:, None], one[:, None], rest[:, 1:]], axis=1
            ),
            carry.pool,
            first,
            slots,
        )
        used_b = jnp.where(context.events_b > 0, 1 + jnp.max(context.session_bl, axis=1), 0)
        running = jax.tree.map(
            lambda x: jax.vmap(lambda of_slots, used: of_slots[used])(x, used_b), ended
        )
        before = Before(previous_blc, jax.tree.map(lambda x: x[:, :-1], ended))
        return before, carry._replace(pool=running)

    def before_next(self, carry: HierTCNCarry) -> Before:
        """The last item, and the current session, which ends if the next event starts one."""
        ended = jax.tree.map(lambda x: x[:, None], carry.pool)
        return Before(super().before_next(carry), ended)

    @nn.compact
    def run(
        self, context: Context, before: Before, carry: HierTCNCarry, train: bool
    ) -> tuple[Float[Array, "b l d"], HierTCNCarry]:
        """The predictions of a segment; see `SequenceModel.run`."""
        config = self.config
        previous_blc = self.with_start_token(before.previous_blc, context.position_bl == 0)
        inputs_blc = Dense(config.tcn_channels[0], dtype=self.compute_dtype, name="join_item")(
            previous_blc
        )

        state_bh, state_blc = self._long_term(context, before, carry)
        inputs_blc += state_blc
        if config.session_progress:
            inputs_blc += self._progress(context)
        inputs_blc = Dropout(config.input_dropout)(inputs_blc, train)
        hidden_blc, tails = TCN(config, name="tcn")(
            inputs_blc, carry.tails, context.position_bl, context.events_b, train
        )
        return self.output(hidden_blc), carry._replace(state_bh=state_bh, tails=tails)

    def _progress(self, context: Context) -> Float[Array, "b l c"]:
        """What the session's progress adds to the TCN's inputs; 0 before training."""
        units_blp = nn.relu(
            Dense(PROGRESS_UNITS, dtype=self.compute_dtype, name="progress_units")(
                progress(context)
            )
        )
        return Dense(
            self.config.tcn_channels[0],
            use_bias=False,
            dtype=self.compute_dtype,
            kernel_init=nn.initializers.zeros,
            name="join_progress",
        )(units_blp)

    def _long_term(
        self, context: Context, before: Before, carry: HierTCNCarry
    ) -> tuple[Float[Array, "b h"], Float[Array, "b l c"]]:
        """The GRU's state after the segment, and its part of each event's TCN input."""
        config = self.config
        state_bh, state_bsh = SessionGRU(config, name="gru")(
            carry.state_bh,
            pooling.pooled(config.pooling, before.ended),
            context.starts_session_bs,
            context.starts_user_bs,
            context.gap_hours_bs,
        )
        state_bsc = Dense(
            config.tcn_channels[0], use_bias=False, dtype=self.compute_dtype, name="join_state"
        )(state_bsh)
        sessions = context.starts_session_bs.shape[1]
        session_bls = jax.nn.one_hot(context.session_bl, sessions, dtype=self.compute_dtype)
        state_blc = jnp.einsum(
            "bls,bsc->blc", session_bls, state_bsc, precision=jax.lax.Precision.HIGHEST
        )
        return state_bh, state_blc
