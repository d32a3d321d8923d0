"""The flags of the runners, made from the frozen configs.

Each field of a config is a flag of its name, with the field's default and the text of the config's
docstring. Where a name alone would be ambiguous it is changed by `_FLAG_NAMES`.
"""

import dataclasses
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

from absl import flags

from experiments.flags.place_flags import CLUSTER_FLAGS
from experiments.runs.files import whole_file
from hiertcn_jax import config as config_lib
from hiertcn_jax.config import EvalConfig, LossConfig, ModelConfig, OptimizerConfig, TrainConfig
from hiertcn_jax.models import MODELS

FLAGS = flags.FLAGS

ConfigT = TypeVar("ConfigT")

_FLAG_NAMES = {
    (ModelConfig, "name"): "model",
    (LossConfig, "name"): "loss",
    (EvalConfig, "lanes"): "eval_lanes",
    (EvalConfig, "events"): "eval_events",
    (EvalConfig, "sessions"): "eval_sessions",
}

_CHOICES = {
    (ModelConfig, "name"): tuple(MODELS),
    (ModelConfig, "pooling"): config_lib.POOLINGS,
    (ModelConfig, "gap_decay"): config_lib.GAP_DECAYS,
    (ModelConfig, "normalize"): config_lib.NORMALIZE,
    (ModelConfig, "item_mode"): config_lib.ITEM_MODES,
    (ModelConfig, "hiergru_feed"): config_lib.HIERGRU_FEEDS,
    (ModelConfig, "dtype"): config_lib.DTYPES,
    (LossConfig, "name"): config_lib.LOSSES,
    (OptimizerConfig, "schedule"): config_lib.SCHEDULES,
    (TrainConfig, "fit_on"): config_lib.FIT_ON,
    (EvalConfig, "mask_seen"): config_lib.MASK_SEEN,
}

_ALLOW_OLDER = "allow_older_checkpoint"


class RunConfig(NamedTuple):
    """The configs of one training run."""

    model: ModelConfig
    loss: LossConfig
    optimizer: OptimizerConfig
    train: TrainConfig
    evaluation: EvalConfig


def define_config_flags(*configs: type) -> None:
    """Defines a flag for every field of these config classes."""
    for config in configs:
        helps = _attribute_docs(config)
        for field in dataclasses.fields(config):
            _define(config, field, helps[field.name])


def read_config(config: type[ConfigT]) -> ConfigT:
    """The config that the parsed flags ask for.

    Raises:
      flags.IllegalFlagValueError: A value is out of range.
    """
    values: dict[str, Any] = {}
    for field in dataclasses.fields(config):  # type: ignore[arg-type]
        value: Any = FLAGS[flag_name(config, field.name)].value
        if field.name == "negatives":
            value = parse_negatives(value)
        elif isinstance(field.default, tuple):
            value = _whole_numbers(flag_name(config, field.name), value)
        values[field.name] = value
    try:
        return config(**values)
    except ValueError as error:
        raise flags.IllegalFlagValueError(f"flag --{_renamed(config, str(error))}") from error


def read_run_config() -> RunConfig:
    """All configs of a training run.

    Raises:
      flags.IllegalFlagValueError: A value is out of range, or two do not go together.
    """
    run = RunConfig(
        read_config(ModelConfig),
        read_config(LossConfig),
        read_config(OptimizerConfig),
        read_config(TrainConfig),
        read_config(EvalConfig),
    )
    try:
        _require_item_mode(run)
        config_lib.require_even_lanes(run.train.data_parallelism, run.evaluation)
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
    parts: list[Any] = []
    left = dict(values)
    for config in run:
        changes = {}
        for field in dataclasses.fields(config):
            name = flag_name(type(config), field.name)
            if name in left:
                changes[field.name] = _as_field(type(config), field, left.pop(name))
        parts.append(dataclasses.replace(config, **changes))
    if left:
        raise ValueError(f"{next(iter(left))}={next(iter(left.values()))}: there is no such flag")
    overridden = RunConfig(*parts)
    if overridden.model.name not in MODELS:
        raise ValueError(f"model={overridden.model.name}: must be one of {', '.join(MODELS)}")
    _require_item_mode(overridden)
    config_lib.require_even_lanes(overridden.train.data_parallelism, overridden.evaluation)
    return overridden


def _require_item_mode(run: RunConfig) -> None:
    """Raises a ValueError where the item mode does not go with the rest, whatever the catalogue."""
    given = bool(run.train.item_embeddings)
    config_lib.choose_item_mode(run.model, run.loss, rows=0, given=given)


def _whole_numbers(flag: str, items: list[str]) -> tuple[int, ...]:
    try:
        return tuple(int(item) for item in items)
    except ValueError as error:
        raise flags.IllegalFlagValueError(
            f"flag --{flag}={','.join(items)}: must be whole numbers"
        ) from error


def _as_field(config: type, field: dataclasses.Field, value: Any) -> Any:
    """A JSON value, or a flag's text, as a field holds it.

    Raises:
      ValueError: It cannot be.
    """
    if isinstance(field.default, tuple) and isinstance(value, str | list | tuple):
        items = value.split(",") if isinstance(value, str) else list(value)
        if field.name == "negatives":
            value = parse_negatives([str(item) for item in items if item])
        else:
            value = _whole_numbers(flag_name(config, field.name), [str(item) for item in items])
    elif isinstance(field.default, float) and type(value) is int:
        value = float(value)
    config.require_types({field.name: value})  # type: ignore[attr-defined]
    return value


def define_train_flags() -> None:
    """The flags of `experiments.train`."""
    define_config_flags(ModelConfig, LossConfig, OptimizerConfig, TrainConfig, EvalConfig)
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
        if module.startswith("experiments") or module == sys.argv[0]
        for flag in module_flags
        if flag.value is not None and flag.name not in (_ALLOW_OLDER, *CLUSTER_FLAGS)
    ]
    lines = sorted({flag.serialize() for flag in own})
    with whole_file(path) as aside:
        aside.write_text("\n".join(lines) + "\n", encoding="utf-8")


def flag_lines(run: RunConfig) -> list[str]:
    """A flagfile's lines that say all configs of a run."""
    lines = []
    for config in run:
        for field in dataclasses.fields(config):
            name, value = flag_name(type(config), field.name), getattr(config, field.name)
            if isinstance(value, bool):
                lines.append(f"--{name}" if value else f"--no{name}")
            elif isinstance(value, tuple):
                lines.append(f"--{name}={','.join(_as_text(item) for item in value)}")
            else:
                lines.append(f"--{name}={value}")
    return lines


def _as_text(item: Any) -> str:
    """An item of a list flag as it is typed."""
    return f"{item[0]}:{item[1]}" if isinstance(item, tuple) else str(item)


def parse_negatives(items: list[str]) -> tuple[tuple[str, int], ...]:
    """`["popularity:2048", "in_batch:512"]` as (source, count) pairs.

    Raises:
      flags.IllegalFlagValueError: An item has no count.
    """
    pairs = []
    for item in items:
        source, _, count = item.partition(":")
        if not count.isdecimal():
            raise flags.IllegalFlagValueError(
                f"flag --negatives={item}: expected source:count, such as popularity:2048"
            )
        pairs.append((source, int(count)))
    return tuple(pairs)


def flag_name(config: type, field: str) -> str:
    """The flag of a config's field."""
    return _FLAG_NAMES.get((config, field), field)


def _renamed(config: type, message: str) -> str:
    field, _, rest = message.partition("=")
    return f"{flag_name(config, field)}={rest}"


def _attribute_docs(config: type) -> dict[str, str]:
    """The text of each field in the "Attributes:" of a config's docstring."""
    _, _, attributes = (config.__doc__ or "").partition("Attributes:\n")
    docs = {}
    for names, text in re.findall(
        r"^      (\w[\w, ]*): (.*(?:\n {8}.*)*)", attributes, flags=re.MULTILINE
    ):
        for name in names.split(", "):
            docs[name] = " ".join(text.replace("`", "").split())
    return docs


def _define(config: type, field: dataclasses.Field, text: str) -> None:
    name, default = flag_name(config, field.name), cast(Any, field.default)
    choices = _CHOICES.get((config, field.name))
    if field.name == "negatives":
        text += f" As source:count, of {', '.join(config_lib.NEGATIVE_SOURCES)}."
        flags.DEFINE_list(name, [f"{source}:{count}" for source, count in default], text)
    elif choices is not None:
        flags.DEFINE_enum(name, default, choices, text)
    elif isinstance(default, bool):
        flags.DEFINE_bool(name, default, text)
    elif isinstance(default, int):
        flags.DEFINE_integer(name, default, text)
    elif isinstance(default, float):
        flags.DEFINE_float(name, default, text)
    elif isinstance(default, tuple):
        flags.DEFINE_list(name, [str(item) for item in default], text)
    else:
        flags.DEFINE_string(name, default, text)
