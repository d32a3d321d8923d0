"""The flags of the runners, made from the fields of the frozen configs."""

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags

from data_pipelines.commands.settings_flags import define_flags, flag_lines, read_settings
from experiments.flags.place_flags import CLUSTER_FLAGS
from experiments.runs.files import whole_file
from hiertcn_jax import config as config_lib
from hiertcn_jax.config import EvalConfig, LossConfig, ModelConfig, OptimizerConfig, TrainConfig
from hiertcn_jax.models import MODELS
from hiertcn_jax.settings import Settings, fields_of, one_of

FLAGS = flags.FLAGS

_ALLOW_OLDER = "allow_older_checkpoint"


class RunConfig(NamedTuple):
    """The configs of one training run."""

    model: ModelConfig
    loss: LossConfig
    optimizer: OptimizerConfig
    train: TrainConfig
    evaluation: EvalConfig

    @staticmethod
    def kinds() -> tuple[type[Settings], ...]:
        """The classes of the configs."""
        return ModelConfig, LossConfig, OptimizerConfig, TrainConfig, EvalConfig


def define_config_flags() -> None:
    """Defines a flag for every field of `RunConfig`'s configs."""
    for kind in RunConfig.kinds():
        for field in fields_of(kind):
            if field.flag == "model":
                field = dataclasses.replace(field, choices=tuple(MODELS))
            define_flags([field])


def read_run_config() -> RunConfig:
    """All configs of a training run.

    Raises:
      flags.IllegalFlagValueError: A value is out of range, or two do not go together.
    """
    run = RunConfig(
        read_settings(ModelConfig),
        read_settings(LossConfig),
        read_settings(OptimizerConfig),
        read_settings(TrainConfig),
        read_settings(EvalConfig),
    )
    try:
        _require_together(run)
    except ValueError as error:
        raise flags.IllegalFlagValueError(f"flag --{error}") from error
    return run


def override(run: RunConfig, values: Mapping[str, Any]) -> RunConfig:
    """The run with some flags set otherwise.

    Args:
      run: The run.
      values: By flag name; values as JSON has them, or as typed on a command line.

    Raises:
      ValueError: There is no such flag, a value is out of range, or two do not go together.
    """
    left = dict(values)
    parts: list[Any] = []
    for config in run:
        changed = {
            field.name: field.from_typed(left.pop(field.flag))
            for field in fields_of(type(config))
            if field.flag in left
        }
        parts.append(dataclasses.replace(config, **changed))
    if left:
        raise ValueError(f"{next(iter(left))}={next(iter(left.values()))}: there is no such flag")
    overridden = RunConfig(*parts)
    one_of(MODELS, model=overridden.model.name)
    _require_together(overridden)
    return overridden


def _require_together(run: RunConfig) -> None:
    """Raises a ValueError where configs do not go together, whatever the catalogue."""
    given = bool(run.train.item_embeddings)
    config_lib.choose_item_mode(run.model, run.loss, rows=0, given=given)
    config_lib.require_even_lanes(run.train.data_parallelism, run.evaluation)


def define_train_flags() -> None:
    """The flags of `experiments.train`."""
    define_config_flags()
    flags.DEFINE_string("data_dir", None, "Directory that data_pipelines.prepare made.")
    flags.DEFINE_string("workdir", None, "Directory of the run; a run that is there goes on.")
    flags.DEFINE_enum(
        "synthetic",
        None,
        ["planted", "control"],
        "Where --data_dir does not exist yet, prepare this synthetic log there first.",
    )
    flags.DEFINE_bool(
        _ALLOW_OLDER,
        False,
        "Where the newest checkpoint is damaged, move it aside and go on from the one before.",
    )
    flags.mark_flags_as_required(["data_dir", "workdir"])


def save_flags(path: Path) -> None:
    """Writes every flag of the runners as a flagfile, with which the run can be repeated.

    Leave to use an older checkpoint is given for one start, and not written; nor is where processes
    meet.
    """
    own = [
        flag
        for module, module_flags in FLAGS.flags_by_module_dict().items()
        # Flags of the command itself are those of its file, under which absl has what is run.
        if module.startswith(("experiments", "hiertcn_jax")) or module == sys.argv[0]
        for flag in module_flags
        if flag.value is not None and flag.name not in (_ALLOW_OLDER, *CLUSTER_FLAGS)
    ]
    lines = sorted({flag.serialize() for flag in own})
    with whole_file(path) as aside:
        aside.write_text("\n".join(lines) + "\n", encoding="utf-8")


def run_lines(run: RunConfig) -> list[str]:
    """A flagfile's lines that say all configs of a run."""
    return [line for config in run for line in flag_lines(config)]
