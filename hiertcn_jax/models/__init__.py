"""All neural models, by name, with one protocol.

Each is a Linen module with `init_carry(b) -> carry`. The carry is the state of each lane after the
events so far, which is also a user's state in serving.

    predict(next_event, carry) -> u_bd           the prediction for an event before it happens
    observe(batch, carry) -> carry               the state after the events of a batch
    __call__(batch, carry) -> (u_bld, carry)     both, at every event of a batch

Imports: batch, config, devices, layers, memory, scoring, settings.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

from hiertcn_jax.batch import Batch
from hiertcn_jax.config import ModelConfig
from hiertcn_jax.models.common import SequenceModel
from hiertcn_jax.models.esasrec import ESASRec, ESASRecConfig
from hiertcn_jax.models.flat_gru import FlatGRU, FlatGRUConfig
from hiertcn_jax.models.flat_tcn import FlatTCN, FlatTCNConfig
from hiertcn_jax.models.hiergru import HierGRU, HierGRUConfig
from hiertcn_jax.models.hiertcn import HierTCN, HierTCNConfig
from hiertcn_jax.models.hstu import HSTU, HSTUConfig
from hiertcn_jax.models.memory import MemoryModel, MemoryModelConfig
from hiertcn_jax.models.sasrec import SASRec, SASRecConfig
from hiertcn_jax.settings import Field, fields_of, one_of


@runtime_checkable
class Model(Protocol):
    """The interface that training, evaluation and streaming need."""

    def init_carry(self, b: int) -> Any:
        """The state of `b` lanes before a user's first event."""

    def init(self, rngs: Any, batch: Batch, carry: Any) -> Any:
        """The variables."""

    def apply(self, variables: Any, event: Any, carry: Any, **kwargs: Any) -> Any:
        """Applies `__call__` with these variables, or `method="predict"` or `"observe"`."""

    def __hash__(self) -> int:
        """Equal models share their compiled steps."""


class Kind(NamedTuple):
    """A kind of model.

    Attributes:
      module: The Linen module, made with its config.
      config: The class of its settings.
    """

    module: Callable[[Any], SequenceModel]
    config: type[ModelConfig]


MODELS = {
    "hiertcn": Kind(HierTCN, HierTCNConfig),
    "hiergru": Kind(HierGRU, HierGRUConfig),
    "gru_session": Kind(FlatGRU, FlatGRUConfig),
    "gru_user": Kind(FlatGRU, FlatGRUConfig),
    "tcn_session": Kind(FlatTCN, FlatTCNConfig),
    "tcn_user": Kind(FlatTCN, FlatTCNConfig),
    "sasrec": Kind(SASRec, SASRecConfig),
    "esasrec": Kind(ESASRec, ESASRecConfig),
    "hstu": Kind(HSTU, HSTUConfig),
    "memory": Kind(MemoryModel, MemoryModelConfig),
}


def build(config: ModelConfig) -> SequenceModel:
    """The model of a config.

    Raises:
      ValueError: There is no model of its name.
    """
    one_of(MODELS, model=config.name)
    return MODELS[config.name].module(config)


def fields_of_models() -> tuple[Field, ...]:
    """The settings of all models, each once; models that share a name share the setting."""
    fields = {field.name: field for kind in MODELS.values() for field in fields_of(kind.config)}
    return tuple(fields.values())


def models_with(name: str) -> tuple[str, ...]:
    """The models that have a setting."""
    return tuple(
        model
        for model, kind in MODELS.items()
        if name in (field.name for field in fields_of(kind.config))
    )


def model_config(name: str = "hiertcn", **shared: Any) -> ModelConfig:
    """The config of a model, from settings that several models share.

    >>> model_config("gru_user", gru_dim=64, attention_dim=32).gru_dim
    64

    Args:
      name: The model.
      **shared: Settings by name; those that only other models have are ignored.

    Raises:
      ValueError: There is no such model, no model has such a setting, or one is out of range.
    """
    one_of(MODELS, model=name)
    kind = MODELS[name].config
    own = {field.name for field in fields_of(kind)}
    for setting, value in shared.items():
        if not models_with(setting):
            raise ValueError(f"{setting}={value}: is no setting of a model")
    return kind(name=name, **{k: value for k, value in shared.items() if k in own})
