"""The flags of a run that continues another one, and the settings that it takes from there."""

import dataclasses
from pathlib import Path
from typing import Any

from absl import flags

from data_pipelines.commands.settings_flags import read_fields
from experiments.runs.config import RunConfig
from experiments.runs.continuing import REPLAY_SHARE, config_of
from experiments.runs.restore import Restored
from hiertcn_jax.models import fields_of_models
from hiertcn_jax.saving.checkpoint import CheckpointError
from hiertcn_jax.settings import Settings, fields_of

HELP_TOPIC = "data and workdir"

FLAGS = flags.FLAGS


def define_continuing_flags() -> None:
    """Defines the flags."""
    flags.DEFINE_string(
        "continue_from",
        None,
        "Directory of a run to continue: starts from its best checkpoint, and learns what "
        "--data_dir has since (prepare --previous). Settings that are not given are those of that "
        "run, but --epochs is 1; the model's cannot change.",
    )
    define_replay_share("With --continue_from")


def define_replay_share(when: str) -> None:
    """Defines --replay_share.

    Args:
      when: When it has a meaning.
    """
    flags.DEFINE_float(
        "replay_share",
        REPLAY_SHARE,
        f"{when}: share of older events among those to learn.",
        lower_bound=0,
        upper_bound=0.99,
    )


def read_continue_from() -> Path | None:
    """The run to continue, if any."""
    return None if FLAGS.continue_from is None else Path(FLAGS.continue_from)


def continued_config(run: RunConfig, restored: Restored, workdir: Path) -> RunConfig:
    """The settings of a run that continues another one.

    Args:
      run: The settings of all flags.
      restored: The other run.
      workdir: Its directory, for messages.

    Returns:
      The other run's settings, with the flags that are given.

    Raises:
      CheckpointError: A setting of the model is given, and is not the other run's.
    """
    own = restored.config.to_dict()
    for field in fields_of_models():
        if not FLAGS[field.flag].present:
            continue
        (value,) = read_fields([field]).values()
        before = own.get(field.name)
        is_open = field.name == "item_mode" and value == "auto"
        if value != before and not is_open:
            raise CheckpointError(
                f"{field.flag}={value}: {workdir} has {before}, and a run goes on with its model; "
                "leave the flag out, or train anew"
            )
    mine = config_of(restored)
    return RunConfig(restored.config, *map(_with_flags, mine.configs[1:], run.configs[1:]))


def _with_flags(settings: Any, flagged: Settings) -> Any:
    given = {
        field.name: getattr(flagged, field.name)
        for field in fields_of(type(flagged))
        if FLAGS[field.flag].present
    }
    return dataclasses.replace(settings, **given)
