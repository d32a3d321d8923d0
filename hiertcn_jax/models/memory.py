"""Memory's terms alone: a log-linear model of counts, without a sequence network.

    s(i at n) = b_i + sum_f w_f(z_n) phi_f(i, n),     w(z) = w0 + W z

phi and w are those of `memory.terms`, which any model may have. z_n describes the moment:
the position in the session, the gap before it, hour and weekday. It learns nothing about sequences
and embeds no item: predictions are 0, and rows of the item table are never read. Compare other
models with `--memory` with this one, to see what the network adds.
"""

import dataclasses
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from hiertcn_jax.config import ModelConfig
from hiertcn_jax.memory.config import KINDS
from hiertcn_jax.models.common import SequenceModel
from hiertcn_jax.models.context import Context


@dataclasses.dataclass(frozen=True)
class MemoryModelConfig(ModelConfig):
    """The settings of the terms: `memory` and `memory_units`, and those of the items."""

    name: Literal["memory"] = "memory"

    @property
    def reads(self) -> str:
        """See `ModelConfig.reads`."""
        return "counts of earlier events"

    def require_complete(self) -> None:
        """Raises a ValueError if no memory is named: nothing would be scored."""
        if not self.memory:
            raise ValueError(f"memory=: the model memory needs one or more of {', '.join(KINDS)}")


class MemoryCarry(NamedTuple):
    """Nothing: memory's lists come with the batch."""


class MemoryModel(SequenceModel):
    """Scores items only by memory's counts.

    Attributes:
      config: Its settings.
    """

    config: MemoryModelConfig

    def init_carry(self, b: int) -> MemoryCarry:
        """The state of `b` lanes: none."""
        del b
        return MemoryCarry()

    def take_items(
        self,
        context: Context,
        ids_bl: Int[Array, "b l"],
        items_blc: Float[Array, "b l c"],
        carry: MemoryCarry,
    ) -> tuple[None, MemoryCarry]:
        """Ignores the items."""
        del context, ids_bl, items_blc
        return None, carry

    def before_next(self, carry: MemoryCarry) -> None:
        """Ignores the items."""

    def run(
        self, context: Context, before: Any, carry: MemoryCarry, train: bool
    ) -> tuple[Float[Array, "b l d"], MemoryCarry]:
        """Predictions of 0.

        Raises:
          ValueError: The config names no memory.
        """
        del before, train
        self.config.require_complete()
        return jnp.zeros((*context.position_bl.shape, self.config.item_dim)), carry

    def known(self, u_bld: Float[Array, "b l d"]) -> Float[Array, "b l 0"]:
        """Leaves out the predictions: weights learn only from the moment."""
        return u_bld[..., :0]
