"""Flags of the commands that train, made from the fields of the frozen configs."""

import dataclasses
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from data_pipelines.commands.settings_flags import (
    define_flags,
    flag_lines,
    flagged,
    read_fields,
    read_settings,
)
from data_pipelines.synthetic import Variant
from experiments.flags.device_flags import CLUSTER_FLAGS
from experiments.judging.config import EvalConfig
from experiments.runs.config import RunConfig, TrainConfig, absent_setting
from experiments.runs.files import write_text
from hiertcn_jax.learning.loss_config import LossConfig
from hiertcn_jax.learning.optimizer import OptimizerConfig
from hiertcn_jax.models import MODELS, fields_of_models, models_with
from hiertcn_jax.settings import fields_of

HELP_TOPIC = "data and workdir"

FLAGS = flags.FLAGS

_ALLOW_OLDER = "allow_older_checkpoint"

QUICKSTART_DATA = Path("data/synthetic")
"""The --data_dir of quickstart.flags."""

_SETTINGS = frozenset(
    field.flag
    for fields in (
        fields_of_models(),
        *map(fields_of, (LossConfig, OptimizerConfig, TrainConfig, EvalConfig)),
    )
    for field in fields
)
"""The flags of `define_config_flags`."""


def define_config_flags(values: flags.FlagValues = FLAGS) -> None:
    """Defines a flag for every setting of a run, of whichever model."""
    for field in fields_of_models():
        # Only here are all models known.
        choices = tuple(MODELS) if field.name == "name" else field.choices
        default = "hiertcn" if field.name == "name" else field.default
        said = dataclasses.replace(field.setting, help=field.setting.help + _of_models(field.name))
        field = dataclasses.replace(field, choices=choices, default=default, setting=said)
        define_flags([field], values)
    for kind in (LossConfig, OptimizerConfig, TrainConfig, EvalConfig):
        define_flags(fields_of(kind), values)


def _of_models(name: str) -> str:
    """The end of a setting's help: which models have it, unless all do."""
    models = models_with(name)
    return "" if len(models) == len(MODELS) else f" Models: {', '.join(models)}."


def read_run_config(values: flags.FlagValues = FLAGS) -> RunConfig:
    """All settings of a training run.

    Raises:
      flags.IllegalFlagValueError: A value is out of range, or two contradict each other.
    """
    kind = MODELS[values.model].config
    own = {field.name for field in fields_of(kind)}
    given = read_fields(fields_of_models(), values)
    others = [field for field in fields_of_models() if field.name not in own]
    try:
        for field in others:
            field.check(given[field.name])
        run = RunConfig(
            flagged(kind, {name: value for name, value in given.items() if name in own}),
            read_settings(LossConfig, values),
            read_settings(OptimizerConfig, values),
            read_settings(TrainConfig, values),
            read_settings(EvalConfig, values),
            {field.name: given[field.name] for field in others},
        )
        run.require_together()
    except ValueError as error:
        raise flags.IllegalFlagValueError(f"flag --{error}") from error
    return run


def require_own_flags(run: RunConfig, arguments: Sequence[str]) -> None:
    """Checks that the flags on the command line apply to the run's model.

    Flagfiles serve several models, and comparisons give all models the same flags; there each model
    takes those that it has.

    Args:
      run: The run.
      arguments: The command line, with flagfiles by name.

    Raises:
      flags.IllegalFlagValueError: A setting that the model does not have is changed.
    """
    typed = _typed(arguments)
    for field in fields_of_models():
        changed = run.others.get(field.name, field.default) != field.default
        if changed and typed & {field.flag, f"no{field.flag}"}:
            raise flags.IllegalFlagValueError(
                f"flag --{field.flag}: {absent_setting(field.name, run.model.name)}"
            )


def read_synthetic(arguments: Sequence[str]) -> Variant | None:
    """The synthetic log to make if --data_dir does not exist yet.

    Flagfiles may name one too, but only for the quickstart's own directory. Elsewhere a mistyped
    --data_dir would train on a log that nobody asked for.

    Args:
      arguments: The command line, with flagfiles by name.

    Returns:
      Its variant; None: do not make one.

    Raises:
      flags.IllegalFlagValueError: There is no such directory, and no log was asked for.
    """
    variant, directory = FLAGS.synthetic, Path(FLAGS.data_dir)
    if variant is None or directory.exists():
        return None
    if "synthetic" not in _typed(arguments) and directory != QUICKSTART_DATA:
        raise flags.IllegalFlagValueError(
            f"flag --data_dir={directory}: there is no such directory; name a prepared log, or add "
            f"--synthetic={variant} to the command line to make a synthetic log there"
        )
    return variant


def _typed(arguments: Sequence[str]) -> set[str]:
    """The names of the flags on a command line."""
    return {match[1] for word in arguments if (match := re.match(r"--?(\w+)", word))}


def define_train_flags() -> None:
    """Defines the flags of `experiments.train`."""
    define_config_flags()
    flags.DEFINE_string("data_dir", None, "Prepared directory, from data_pipelines.prepare.")
    flags.DEFINE_string(
        "workdir", None, "Directory of the run. If it already holds a run, the run resumes."
    )
    flags.DEFINE_enum(
        "synthetic",
        None,
        ["planted", "control"],
        "If --data_dir does not exist yet, make this synthetic log there first. In a flagfile "
        f"this applies only to {QUICKSTART_DATA}.",
    )
    flags.DEFINE_bool(
        _ALLOW_OLDER,
        False,
        "If the newest checkpoint is damaged, move it aside and resume from the one before it.",
    )
    flags.mark_flags_as_required(["data_dir", "workdir"])


def save_flags(path: Path, run: RunConfig | None = None) -> None:
    """Writes the flags of a command as a flagfile that repeats the run.

    Leaves out --allow_older_checkpoint, which is for one start, and the flags of processes.

    Args:
      path: The file.
      run: The settings of the run, if there is only one; None: those of the flags, for all models.
    """
    own = [
        flag
        for module, module_flags in FLAGS.flags_by_module_dict().items()
        # absl lists a command's own flags under the path of its file.
        if module.startswith(("experiments", "hiertcn_jax")) or module == sys.argv[0]
        for flag in module_flags
        if flag.value is not None and flag.name not in (_ALLOW_OLDER, *CLUSTER_FLAGS)
    ]
    if run is not None:
        own = [flag for flag in own if flag.name not in _SETTINGS]
    lines = {flag.serialize() for flag in own} | set(run_lines(run) if run else ())
    write_text(path, "\n".join(sorted(lines)) + "\n")


def run_lines(run: RunConfig) -> list[str]:
    """Lines of a flagfile with all settings of a run."""
    return [line for config in run.configs for line in flag_lines(config)]
