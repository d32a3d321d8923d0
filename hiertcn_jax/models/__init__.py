"""Neural models behind one protocol, by name.

Each is a Linen module with `init_carry(b) -> carry` and `__call__(batch, carry) -> (u_bld, carry)`,
where `u_bld` at an event is the prediction made before it, and `carry` the state of each lane
behind the row: the state that a user has when served.
"""

import functools
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax

from hiertcn_jax.batch import Batch
from hiertcn_jax.config import ModelConfig
from hiertcn_jax.models.common import SequenceModel
from hiertcn_jax.models.flat_gru import FlatGRU
from hiertcn_jax.models.flat_tcn import FlatTCN
from hiertcn_jax.models.hiergru import HierGRU
from hiertcn_jax.models.hiertcn import HierTCN
from hiertcn_jax.models.sasrec import SASRec


@runtime_checkable
class Model(Protocol):
    """What the trainer, the evaluation and streaming ask of a model."""

    def init_carry(self, b: int) -> Any:
        """The state of `b` lanes in front of a user's first event."""

    def init(self, rngs: Any, batch: Batch, carry: Any) -> Any:
        """The variables."""

    def apply(
        self, variables: Any, batch: Batch, carry: Any, **kwargs: Any
    ) -> tuple[jax.Array, Any]:
        """`__call__` with these variables."""


MODELS: dict[str, Callable[[ModelConfig], SequenceModel]] = {
    "hiertcn": HierTCN,
    "hiergru": HierGRU,
    "gru_session": FlatGRU,
    "gru_user": functools.partial(FlatGRU, whole_history=True),
    "tcn_session": FlatTCN,
    "tcn_user": functools.partial(FlatTCN, whole_history=True),
    "sasrec": SASRec,
}


def build(config: ModelConfig) -> SequenceModel:
    """The model of `config.name`.

    Raises:
      ValueError: There is no model of that name.
    """
    if config.name not in MODELS:
        raise ValueError(f"model={config.name}: must be one of {', '.join(MODELS)}")
    return MODELS[config.name](config)
