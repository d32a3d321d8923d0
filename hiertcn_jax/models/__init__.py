"""Neural models behind one protocol, by name.

Each is a Linen module with `init_carry(b) -> carry`. The carry is the state of each lane after the
events so far: the state that a user has when served.

    predict(next_event, carry) -> u_bd           the prediction for an event before it happens
    observe(batch, carry) -> carry               the state after the events of a batch
    __call__(batch, carry) -> (u_bld, carry)     both, at every event of a batch
"""

import functools
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

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
        """The state of `b` lanes before a user's first event."""

    def init(self, rngs: Any, batch: Batch, carry: Any) -> Any:
        """The variables."""

    def apply(self, variables: Any, event: Any, carry: Any, **kwargs: Any) -> Any:
        """`__call__` with these variables; `method="predict"` or `"observe"` for those."""

    def __hash__(self) -> int:
        """Equal models share their compiled steps."""


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
