"""Chooses the checkpoint from which a run resumes, and keeps its sizes."""

import dataclasses
from pathlib import Path
from typing import Any

from experiments.runs.config import TrainConfig
from hiertcn_jax.saving.checkpoint import CheckpointError
from hiertcn_jax.saving.checkpoint_damage import (
    put_back_replaced,
    set_aside,
    step_folders,
    survey,
)
from hiertcn_jax.saving.json_files import parse_json

_FITTED = ("lanes", "events", "sessions", "epochs")


def leave_whole(directory: Path, allow_older: bool) -> None:
    """Makes sure that the newest checkpoint is intact, so that a run can resume from it.

    Args:
      directory: The run's checkpoints.
      allow_older: Whether to move damaged ones to `directory/damaged`, and print that.

    Raises:
      CheckpointError: One is damaged and `allow_older` is not set, or none is intact.
    """
    put_back_replaced(directory)
    found = survey(directory)
    if not found.damaged:
        return
    damage, whole = next(iter(found.damaged.values())), found.newest_whole
    if whole is None:
        raise CheckpointError(
            f"{damage}; no checkpoint in {directory} is whole; train anew in another workdir"
        )
    if not allow_older:
        moves = "moves it away and " if next(iter(found.damaged)) < whole else ""
        raise CheckpointError(
            f"{damage}; --allow_older_checkpoint {moves}resumes from step {whole}"
        )
    for step, line in found.damaged.items():
        print(f"{line}; moved to {set_aside(directory, step)}")


def keep_sizes(train: TrainConfig, directory: Path) -> TrainConfig:
    """Gives sizes that flags leave open (`auto`) the values that the run had so far.

    So a run keeps its sizes when a later version of the program computes others.

    Args:
      train: The settings.
      directory: The run's checkpoints. An unreadable one changes nothing here; restoring it later
        reports the error.
    """
    open_fields = [name for name in _FITTED if getattr(train, name) == "auto"]
    if train.patience == "auto" and train.epochs == "auto" and not train.steps:
        open_fields.append("patience")
    saved = _newest_train_settings(directory)
    kept = {name: saved[name] for name in open_fields if type(saved.get(name)) is int}
    try:
        return dataclasses.replace(train, **kept)
    except ValueError:
        return train


def _newest_train_settings(directory: Path) -> dict[str, Any]:
    for folder in step_folders(directory).values():
        try:
            config = parse_json((folder / "config" / "metadata").read_text(encoding="utf-8"))
            return dict(config["train"])
        except (OSError, KeyError, TypeError, ValueError):
            return {}
    return {}
