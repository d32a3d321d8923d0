"""Steps with a loss or gradient that is not finite: too many, and what is known of the last."""

from typing import Any

import numpy as np
import optax

from experiments.data import Data
from hiertcn_jax.train_step import StepMetrics

_NAMED_USERS = 20
"""Users that the message names; the others are counted."""


class NonFiniteError(ValueError):
    """The run does not go on, since its steps were skipped; the message is one line."""


class BadStepsError(Exception):
    """Too many steps in a row were skipped.

    Args:
      step: The last of them.
      in_row: How many they were.
      metrics: Its metrics.
      user_bs: The users of its batch, as in `BatchInfo`.
    """

    def __init__(self, step: int, in_row: int, metrics: StepMetrics, user_bs: np.ndarray) -> None:
        super().__init__(f"step {step}")
        self.step, self.in_row, self.metrics, self.user_bs = step, in_row, metrics, user_bs

    def explain(self, data: Data, params: Any) -> NonFiniteError:
        """What there is to say about it.

        Args:
          data: Of the batch.
          params: The parameters, which the skipped steps did not move.
        """
        metrics = self.metrics
        loss = float(metrics["loss_sum"]) / max(float(metrics["weight"]), 1e-6)
        users = data.user_ids(np.unique(self.user_bs[self.user_bs >= 0]))
        named = ", ".join(users[:_NAMED_USERS])
        if len(users) > _NAMED_USERS:
            named += f" and {len(users) - _NAMED_USERS} more"
        return NonFiniteError(
            f"step {self.step}: loss or gradient not finite in {self.in_row} steps in a row "
            f"(max_bad_steps={self.in_row}), which moved no parameter: loss {loss:.6g}, gradient "
            f"norm {float(metrics['grad_norm']):.6g}, parameter norm "
            f"{float(optax.tree.norm(params)):.6g}, learning rate "
            f"{float(metrics['learning_rate']):.6g}; users of the batch: {named}"
        )
