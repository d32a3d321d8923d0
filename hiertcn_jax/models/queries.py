"""What a model asks of the items at the events of a batch: the one place where queries are made."""

from typing import Any

from hiertcn_jax.batch import Batch
from hiertcn_jax.models import Model
from hiertcn_jax.scoring.scores import Queries


def batch_queries(
    model: Model, params: Any, batch: Batch, carry: Any, **options: Any
) -> tuple[Queries, Any]:
    """The queries [b, l, ..] of a batch, and the new carry. Training and evaluation both ask here.

    A model has vectors alone. What a term of the score adds to the scores of some items enters
    here, as the queries' additions: losses, ranks, lists and top-k take them from there.

    Args:
      model: The model.
      params: Its parameters.
      batch: The batch, with the rows that its ids point into.
      carry: The state of its lanes.
      **options: Of the model's call.
    """
    u_bld, carry = model.apply({"params": params}, batch, carry, **options)
    return Queries(u_bld), carry
