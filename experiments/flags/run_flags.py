"""The flags of the runners, made from the fields of the frozen configs."""

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
from experiments.flags.place_flags import CLUSTER_FLAGS
from experiments.judging.config import EvalConfig
from experiments.runs.config import RunConfig, TrainConfig, absent_setting
from experiments.runs.files import write_text
from hiertcn_jax.learning.loss_config import LossConfig
from hiertcn_jax.learning.optimizer import OptimizerConfig
from hiertcn_jax.models import MODELS, fields_of_models
from hiertcn_jax.settings import fields_of

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


def define_config_flags() -> None:
    """Defines a flag for every setting of a run, of whichever model."""
    for field in fields_of_models():
        # Which models there are is known where all of them are.
        choices = tuple(MODELS) if field.name == "name" else field.choices
        default = "hiertcn" if field.name == "name" else field.default
        define_flags([dataclasses.replace(field, choices=choices, default=default)])
    for kind in (LossConfig, OptimizerConfig, TrainConfig, EvalConfig):
        define_flags(fields_of(kind))


def read_run_config() -> RunConfig:
    """All settings of a training run.

    Raises:
      flags.IllegalFlagValueError: A value is out of range, or two do not go together.
    """
    kind = MODELS[FLAGS.model].config
    own = {field.name for field in fields_of(kind)}
    given = read_fields(fields_of_models())
    others = [field for field in fields_of_models() if field.name not in own]
    try:
        for field in others:
            field.check(given[field.name])
        run = RunConfig(
            flagged(kind, {name: value for name, value in given.items() if name in own}),
            read_settings(LossConfig),
            read_settings(OptimizerConfig),
            read_settings(TrainConfig),
            read_settings(EvalConfig),
            {field.name: given[field.name] for field in others},
        )
        run.require_together()
    except ValueError as error:
        raise flags.IllegalFlagValueError(f"flag --{error}") from error
    return run


def require_own_flags(run: RunConfig, arguments: Sequence[str]) -> None:
    """Checks that what is typed is meant for the run's model.

    Files of flags serve several models, and comparisons give all of theirs the same flags: there
    each model takes what it has.

    Args:
      run: The run.
      arguments: The command line, flagfiles by their names.

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
    """The synthetic log to make, where --data_dir does not exist yet.

    Flagfiles may name one too. That makes it in the quickstart's own directory alone: in another
    one a mistyped --data_dir would train on a log that nobody asked for.

    Args:
      arguments: The command line, flagfiles by their names.

    Returns:
      Its variant; None: nothing is to be made.

    Raises:
      flags.IllegalFlagValueError: There is no such directory, and nobody asks for a log there.
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
    """The flags of `experiments.train`."""
    define_config_flags()
    flags.DEFINE_string("data_dir", None, "Directory that data_pipelines.prepare made.")
    flags.DEFINE_string("workdir", None, "Directory of the run; a run that is there goes on.")
    flags.DEFINE_enum(
        "synthetic",
        None,
        ["planted", "control"],
        "Where --data_dir does not exist yet, make this synthetic log there first. In a flagfile "
        f"this holds for {QUICKSTART_DATA} alone.",
    )
    flags.DEFINE_bool(
        _ALLOW_OLDER,
        False,
        "Where the newest checkpoint is damaged, move it aside and go on from the one before.",
    )
    flags.mark_flags_as_required(["data_dir", "workdir"])


def save_flags(path: Path, run: RunConfig | None = None) -> None:
    """Writes the flags of a runner as a flagfile, with which the run can be repeated.

    Leave to use an older checkpoint is given for one start, and not written; nor is where processes
    meet.

    Args:
      path: The file.
      run: The settings of the one run that there is; None: those of the flags, for all models.
    """
    own = [
        flag
        for module, module_flags in FLAGS.flags_by_module_dict().items()
        # Flags of the command itself are those of its file, under which absl has what is run.
        if module.startswith(("experiments", "hiertcn_jax")) or module == sys.argv[0]
        for flag in module_flags
        if flag.value is not None and flag.name not in (_ALLOW_OLDER, *CLUSTER_FLAGS)
    ]
    if run is not None:
        own = [flag for flag in own if flag.name not in _SETTINGS]
    lines = {flag.serialize() for flag in own} | set(run_lines(run) if run else ())
    write_text(path, "\n".join(sorted(lines)) + "\n")


def run_lines(run: RunConfig) -> list[str]:
    """A flagfile's lines that say all settings of a run."""
    return [line for config in run.configs for line in flag_lines(config)]
