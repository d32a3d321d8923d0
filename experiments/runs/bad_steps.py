"""Handles steps whose loss or gradient is not finite: stops a run after too many."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.runs.data import Data
from hiertcn_jax.learning.train_step import StepMetrics

_NAMED_USERS = 20
"""How many users the message names; the others are counted."""


class NonFiniteError(ValueError):
    """The run stops, because too many steps were skipped; the message is one line."""


class BadStepsError(Exception):
    """Too many steps in a row were skipped.

    Args:
      step: The last of them.
      in_row: How many; more than `most` if this start set a lower limit than the previous one.
      most: `max_bad_steps`.
      metrics: Metrics of the last.
      user_bs: The users of its batch, as in `BatchInfo`; with several processes, this one's.
    """

    def __init__(
        self, step: int, in_row: int, most: int, metrics: StepMetrics, user_bs: np.ndarray
    ) -> None:
        super().__init__(f"step {step}")
        self.step, self.in_row, self.most = step, in_row, most
        self.metrics, self.user_bs = metrics, user_bs

    def explain(self, data: Data, params: Any) -> NonFiniteError:
        """Builds the error message.

        Args:
          data: The data of the batch.
          params: The parameters, which the skipped steps did not change.
        """
        metrics = self.metrics
        loss = float(metrics["loss_sum"]) / max(float(metrics["weight"]), 1e-6)
        users = data.user_ids(np.unique(self.user_bs[self.user_bs >= 0]))
        named = ", ".join(users[:_NAMED_USERS])
        if len(users) > _NAMED_USERS:
            named += f" and {len(users) - _NAMED_USERS} more"
        return NonFiniteError(
            f"step {self.step}: loss or gradient not finite in {self.in_row} steps in a row "
            f"(max_bad_steps={self.most}), which moved no parameter: loss {loss:.6g}, gradient "
            f"norm {float(metrics['grad_norm']):.6g}, parameter norm "
            f"{finite_norm(params):.6g}, learning rate "
            f"{float(metrics['learning_rate']):.6g}; users of the batch: {named}. "
            "Lower learning_rate, set clip_norm, or look at the events of these users"
        )


@jax.jit
def _scaled_norm(tree: Any) -> tuple[jax.Array, jax.Array]:
    """The largest absolute value, and the L2 norm of all values divided by it."""
    largest = jnp.max(jnp.stack([jnp.max(jnp.abs(leaf)) for leaf in jax.tree.leaves(tree)]))
    unit = jnp.where(largest > 0, largest, 1)
    return largest, optax.tree.norm(jax.tree.map(lambda leaf: leaf / unit, tree))


def finite_norm(tree: Any) -> float:
    """The L2 norm over all arrays. No square overflows, so it is finite if the values are.

    Args:
      tree: Arrays of floats.
    """
    largest, norm = map(float, _scaled_norm(tree))
    return largest * norm
