"""Chooses which rows of the item table a training step uses, and checks that the configs agree."""

import dataclasses

from hiertcn_jax.config import ModelConfig
from hiertcn_jax.learning.loss_config import LossConfig

DENSE_ITEMS = 100_000
"""Up to this many items `dense` mode is as fast as `rows` (docs/performance.md)."""


def choose_item_mode(
    model: ModelConfig, loss: LossConfig, rows: int, given: bool = False
) -> ModelConfig:
    """Replaces the item mode `auto` by `dense`, `rows` or `given`.

    Args:
      model: The model's config.
      loss: The loss; cross_entropy needs all items.
      rows: `v`, rows of the item table.
      given: Whether there are given embeddings. They have no biases: `item_bias` becomes False.

    Raises:
      ValueError: The mode contradicts the embeddings, the model or the loss.
    """
    if given:
        if model.item_mode not in ("auto", "given"):
            raise ValueError(
                f"item_mode={model.item_mode}: must be given or auto with item_embeddings"
            )
        model = dataclasses.replace(model, item_mode="given", item_bias=False)
        require_compatible(model, loss)
        return model
    if model.item_mode == "given":
        raise ValueError("item_mode=given: needs item_embeddings")
    require_compatible(model, loss)
    if model.item_mode != "auto":
        return model
    rows_are_quicker = rows > DENSE_ITEMS and loss.name != "cross_entropy"
    return dataclasses.replace(model, item_mode="rows" if rows_are_quicker else "dense")


def require_compatible(model: ModelConfig, loss: LossConfig) -> None:
    """Raises a ValueError if a model and a loss contradict each other."""
    if model.item_mode in ("rows", "given") and loss.name == "cross_entropy":
        raise ValueError(
            f"item_mode={model.item_mode}: a batch has some rows of the table, and the loss "
            "cross_entropy needs all; sampled_softmax does not"
        )
    if model.item_mode == "given" and not model.tied_output:
        raise ValueError("tied_output=False: given embeddings allow no second table")
