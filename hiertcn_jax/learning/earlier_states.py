"""Converts train states that earlier versions saved.

By the `schema_version` of a checkpoint:

    2    `opt_state` was a pair: `dense`, of the model's parameters, and in `dense` mode of the item
         table; and `rows`, of the item table in `rows` mode
"""

from typing import Any, NamedTuple

from hiertcn_jax.learning.train_state import TrainState
from hiertcn_jax.saving.checkpoint import EarlierState


class _Moments(NamedTuple):
    mu: Any
    nu: Any


class _OptimizerState(NamedTuple):
    dense: tuple[Any, Any]
    rows: _Moments | None


def earlier_states(state: TrainState, rows: bool) -> dict[int, EarlierState]:
    """The forms in which earlier versions saved a state, by schema version.

    Args:
      state: A state of this version, or the shapes of one.
      rows: Whether its optimizer updates by rows.
    """
    adam, rate = state.opt_state["adam"], state.opt_state["learning_rate"]
    moments = None
    if rows:
        moments = _Moments(adam.mu["items"], adam.nu["items"])
        adam = adam._replace(mu=adam.mu["model"], nu=adam.nu["model"])

    def back(saved: Any) -> TrainState:
        (adam, rate), moments = saved.opt_state
        if rows:
            adam = adam._replace(
                mu={"model": adam.mu, "items": moments.mu},
                nu={"model": adam.nu, "items": moments.nu},
            )
        # The step returns an OrderedDict; another type would compile the step again.
        opt_state = state.opt_state | {"adam": adam, "learning_rate": rate}
        return saved._replace(opt_state=opt_state)

    return {2: EarlierState(state._replace(opt_state=_OptimizerState((adam, rate), moments)), back)}
