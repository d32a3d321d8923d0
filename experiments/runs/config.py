"""All settings of a training run."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from experiments.judging.config import EvalConfig
from hiertcn_jax.batch import Bucket
from hiertcn_jax.config import ModelConfig
from hiertcn_jax.learning.item_mode import choose_item_mode
from hiertcn_jax.learning.loss_config import LossConfig
from hiertcn_jax.learning.optimizer import OptimizerConfig
from hiertcn_jax.models import model_config, models_with
from hiertcn_jax.scoring.metrics import METRICS, Metric
from hiertcn_jax.settings import Settings, fields_of, setting

HELP_TOPIC = "training"

FitOn = Literal["train", "train_valid"]
OrAuto = int | Literal["auto"]
"""A number, or `auto`: `experiments.runs.fitted_sizes` computes it from the log's counts."""
MONITOR_GROUPS = ("all", "first", "next")


@dataclasses.dataclass(frozen=True)
class TrainConfig(Settings):
    """Settings of the training itself."""

    epochs: OrAuto = setting(
        "auto",
        "Passes over the training events. auto: 10, or more on a small log, with early stopping "
        "(--patience).",
        at_least=1,
    )
    steps: int = setting(
        0,
        "Optimizer steps. Overrides --epochs; 0: --epochs decides.",
        at_least=0,
    )
    lanes: OrAuto = setting(
        "auto",
        "Lanes of a training batch, each reading one user at a time. auto: so many that an epoch "
        "has enough steps.",
        at_least=1,
    )
    events: OrAuto = setting(
        "auto",
        "Events of each lane in a training batch. auto: 32 or 64, by the size of the log.",
        at_least=1,
    )
    sessions: OrAuto = setting(
        "auto",
        "Most sessions of each lane in a training batch. auto: so many that nearly every slot for "
        "an event is used.",
        at_least=1,
    )
    data_parallelism: int = setting(
        1,
        "Devices that share the lanes, over all processes; must divide --lanes. With several "
        "processes, 1 means all of their devices.",
        at_least=1,
    )
    model_parallelism: int = setting(
        1,
        "Devices that share the rows of the item table, for each device of --data_parallelism.",
        at_least=1,
    )
    seed: int = setting(0, "Seed of parameters, order of users, dropout and negatives.", at_least=0)
    fit_on: FitOn = setting(
        "train", "Parts to train on. train_valid has no validation, and is for final tables."
    )
    monitor: str = setting(
        "all/mrr",
        "Validation metric that selects the best checkpoint, as group/metric.",
    )
    patience: OrAuto = setting(
        "auto",
        "Validations without improvement of --monitor before training stops. 0: never stop early. "
        "auto: 0 if --epochs or --steps is given.",
        at_least=0,
    )
    eval_every_epochs: float = setting(1.0, "Epochs between validations.", above=0)
    checkpoint_every_steps: int = setting(
        0,
        "Steps between checkpoints, besides those at validations. 0: only at validations.",
        at_least=0,
    )
    log_every_steps: int = setting(20, "Steps between lines of metrics.jsonl.", at_least=1)
    item_embeddings: str = setting(
        "",
        "File of item embeddings (.npy, float16 or float32, one row per item), which are then used "
        "as they are and not learned. Empty: they are learned.",
    )
    item_embedding_ids: str = setting(
        "",
        "The item of each row of --item_embeddings: .txt with one id per line, or .parquet with a "
        "column item_id.",
    )
    embedding_cache_mb: int = setting(
        1024,
        "MiB of memory for the rows of --item_embeddings of the most frequent items. Other rows "
        "are read from the file each time.",
        at_least=0,
    )
    max_bad_steps: int = setting(
        10,
        "Stop after this many steps in a row whose loss or gradient is not finite. Such steps are "
        "skipped. The run stops when it next reads metrics from the device.",
        at_least=1,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if bool(self.item_embeddings) != bool(self.item_embedding_ids):
            raise ValueError(
                f"item_embeddings={self.item_embeddings}: goes together with item_embedding_ids, "
                "the ids of its rows"
            )
        if self.lanes != "auto" and self.lanes % self.data_parallelism:
            raise ValueError(
                f"data_parallelism={self.data_parallelism}: must divide lanes={self.lanes}"
            )
        group, _, metric = self.monitor.partition("/")
        if group not in MONITOR_GROUPS or metric not in METRICS:
            raise ValueError(
                f"monitor={self.monitor}: must be group/metric with a group of "
                f"{', '.join(MONITOR_GROUPS)} and a metric of {', '.join(METRICS)}"
            )

    @property
    def bucket(self) -> Bucket:
        """The shape of a training batch.

        Raises:
          ValueError: A size of it is not fitted to a log yet.
        """
        return Bucket(*map(self.number, ("lanes", "events", "sessions")))

    def number(self, name: str) -> int:
        """The value of a field that may be `auto`.

        Raises:
          ValueError: It is `auto`.
        """
        value = getattr(self, name)
        if value == "auto":
            raise ValueError(f"{name}=auto: must be fitted to the log first")
        return value

    @property
    def monitored(self) -> Metric:
        """The metric of `monitor`."""
        return METRICS[self.monitor.partition("/")[2]]


class RunConfig(NamedTuple):
    """The settings of one training run.

    Attributes:
      model: The model's settings.
      loss: The loss and its negatives.
      optimizer: The optimizer's settings.
      train: The training's settings.
      evaluation: How it is scored.
      others: Settings that its model does not have, by name: a comparison gives all of its models
        the same flags, and each takes those that it has.
    """

    model: ModelConfig
    loss: LossConfig
    optimizer: OptimizerConfig
    train: TrainConfig
    evaluation: EvalConfig
    others: Mapping[str, Any] = MappingProxyType({})

    @property
    def configs(self) -> tuple[ModelConfig, LossConfig, OptimizerConfig, TrainConfig, EvalConfig]:
        """All configs."""
        return self.model, self.loss, self.optimizer, self.train, self.evaluation

    def hyperparameters(self) -> dict[str, bool | float | str]:
        """All settings by flag, as plain values for tables; those that are not set are left out."""
        values = {
            field.flag: getattr(config, field.name)
            for config in self.configs
            for field in fields_of(type(config))
        }
        values["model"] = self.model.name
        plain = {
            flag: value if isinstance(value, bool | int | float | str) else _typed_text(value)
            for flag, value in values.items()
            if value is not None
        }
        return {flag: value for flag, value in plain.items() if value != ""}

    def with_model(self, name: str) -> "RunConfig":
        """The run of another model, with the settings that it shares with this run.

        Raises:
          ValueError: There is no such model, or one of its settings is out of range.
        """
        shared = {**self.others, **self.model.to_dict()}
        del shared["name"]
        model = model_config(name, **shared)
        own = {field.name for field in fields_of(type(model))}
        others = {name: value for name, value in shared.items() if name not in own}
        return self._replace(model=model, others=others)

    def override(self, values: Mapping[str, Any]) -> "RunConfig":
        """The run with some settings changed.

        Args:
          values: By flag; values as in JSON, or as typed on a command line.

        Raises:
          ValueError: There is no such flag, the model has no such setting, a value is out of range,
            or two contradict each other.
        """
        left = dict(values)
        run = self.with_model(left.pop("model")) if "model" in left else self
        parts: list[Any] = []
        for config in run.configs:
            changed = {
                field.name: field.from_typed(left.pop(field.flag))
                for field in fields_of(type(config))
                if field.flag in left
            }
            parts.append(dataclasses.replace(config, **changed))
        for name, value in left.items():
            raise ValueError(f"{name}={value}: {absent_setting(name, run.model.name)}")
        run = RunConfig(*parts, others=run.others)
        run.require_together()
        return run

    def require_together(self) -> None:
        """Raises a ValueError if settings contradict each other, for any catalogue."""
        self.model.require_complete()
        given, shards = bool(self.train.item_embeddings), self.train.data_parallelism
        choose_item_mode(self.model, self.loss, rows=0, given=given)
        if self.evaluation.lanes % shards:
            raise ValueError(
                f"data_parallelism={shards}: must divide eval_lanes={self.evaluation.lanes}"
            )


def _typed_text(values: Any) -> str:
    """A tuple as it is typed: 128,128 or popularity:512."""
    pairs = (":".join(map(str, one)) if isinstance(one, tuple) else str(one) for one in values)
    return ",".join(pairs)


def absent_setting(name: str, model: str) -> str:
    """The error message for a setting that a model does not have."""
    models = models_with(name)
    if not models:
        return "there is no such flag"
    return f"{model} has no such setting, but {', '.join(models)}"
