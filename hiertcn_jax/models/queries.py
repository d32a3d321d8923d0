"""Makes the queries of a model at an event; nothing else makes queries.

A model only has vectors. Terms that add to the scores of some items enter here, as the queries'
additions: losses, ranks, lists and top-k use them from there.
"""

from typing import Any

from hiertcn_jax.batch import Batch, NextEvent
from hiertcn_jax.models import Model
from hiertcn_jax.scoring.scores import Queries


def batch_queries(
    model: Model, params: Any, batch: Batch, carry: Any, **options: Any
) -> tuple[Queries, Any]:
    """The queries [b, l, ..] at the events of a batch, and the new carry.

    Training and evaluation both use this. In training, items of additions are ids like those of the
    batch; in an evaluation, rows of the whole table.

    Args:
      model: The model.
      params: Its parameters.
      batch: The batch, with the rows that its ids refer to.
      carry: The state of its lanes.
      **options: Options of the model's call.
    """
    u_bld, carry = model.apply({"params": params}, batch, carry, **options)
    return Queries(u_bld, model.apply({"params": params}, batch, u_bld, method="additions")), carry


def next_queries(model: Model, params: Any, event: NextEvent, carry: Any) -> Queries:
    """The queries [b, ..] at events that have not happened, with the additions of their lists.

    Args:
      model: The model.
      params: Its parameters.
      event: Facts about the events, one per lane.
      carry: The state of the lanes.
    """
    u_bd = model.apply({"params": params}, event, carry, method="predict")
    return Queries(u_bd, model.apply({"params": params}, event, u_bd, method="next_additions"))
