"""Finds the complete checkpoints of a directory, file by file, before Orbax reads them.

Orbax restores a flipped bit without an error.
"""

import math
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hiertcn_jax.saving.checksums import CHECKSUMS_FILE, find_damage
from hiertcn_jax.saving.json_files import parse_json

SCHEMA_VERSION = 3
"""Version of a checkpoint's layout. 2 brought the checksums, 3 the optimizer's chain."""

READABLE_VERSIONS = (2, 3)
"""Schemas that this program can restore."""

DAMAGED_FOLDER = "damaged"
"""Folder inside the directory to which `set_aside` moves checkpoints."""

REPLACED = ".replaced"
"""Suffix of a checkpoint that another one is about to replace."""

_METRICS = "metrics/"
METRICS_FILE = "metrics/metadata"
"""In a checkpoint: its validation metric."""


class Survey(NamedTuple):
    """The state of a directory of checkpoints.

    Attributes:
      newest_whole: Step of the newest checkpoint that is complete and intact; None: there is none.
      damaged: By step, newest first, one line that names the file.
    """

    newest_whole: int | None
    damaged: dict[int, str]


def checkpoint_damage(folder: Path) -> str | None:
    """Describes the damage to a checkpoint's files in one line; None if it is intact."""
    return _old_schema(folder) or find_damage(folder)


def metrics_damage(folder: Path) -> str | None:
    """The same for the file with its validation metric only: fast, whatever the model's size."""
    return _old_schema(folder) or find_damage(folder, _METRICS)


def step_folders(directory: Path) -> dict[int, Path]:
    """The folders whose name is a step, newest first."""
    if not directory.is_dir():
        return {}
    folders = [path for path in directory.iterdir() if _is_step(path.name) and path.is_dir()]
    return {int(path.name): path for path in sorted(folders, key=lambda path: -int(path.name))}


def _is_step(name: str) -> bool:
    """Whether it is a step as we write it; 007 and \u0665 are not."""
    return name.isdecimal() and name == str(int(name))


def survey(directory: Path) -> Survey:
    """Checks the newest checkpoints until one is intact, the best, and the metrics of the others.

    The best is scored when the run ends; damage that is found only then has cost the whole run.
    """
    newest_whole, damaged = None, {}
    folders = step_folders(directory)
    best = _best_of(folders)
    for step, folder in folders.items():
        look = checkpoint_damage if newest_whole is None or step == best else metrics_damage
        damage = look(folder)
        if damage is not None:
            damaged[step] = damage
        elif newest_whole is None:
            newest_whole = step
    return Survey(newest_whole, damaged)


def worth_of(metrics: Mapping[str, Any]) -> float | None:
    """What the best checkpoint has most of; None if this one was not validated.

    Args:
      metrics: The JSON item `metrics` of a checkpoint.

    Raises:
      ValueError: The value is no number.
    """
    monitored = metrics.get("monitored")
    if monitored is None:
        return None
    if type(monitored) not in (int, float) or not -math.inf < monitored < math.inf:
        raise ValueError(f"monitored={monitored!r:.60}: must be a number or null")
    return -monitored if metrics.get("lower_is_better") is True else monitored


def _best_of(folders: Mapping[int, Path]) -> int | None:
    """Step of the best checkpoint, of those whose metrics can be read."""
    worth = {}
    for step, folder in folders.items():
        try:
            found = worth_of(dict(parse_json((folder / METRICS_FILE).read_text(encoding="utf-8"))))
        except (OSError, TypeError, ValueError):
            continue
        if found is not None:
            worth[step] = found
    return max(worth, key=lambda step: (worth[step], step), default=None)


def set_aside(directory: Path, step: int) -> Path:
    """Moves a checkpoint out of the way, without deleting it; returns its new path."""
    aside = directory / DAMAGED_FOLDER / str(step)
    aside.parent.mkdir(exist_ok=True)
    if aside.exists():
        shutil.rmtree(aside)
    os.rename(directory / str(step), aside)
    return aside


def put_back_replaced(directory: Path) -> None:
    """Finishes or undoes the replacement of a checkpoint that a killed run began.

    The old checkpoint gets its name back, unless the new one already has it.
    """
    for replaced in directory.glob(f"*{REPLACED}"):
        original = replaced.with_name(replaced.name.removesuffix(REPLACED))
        if original.exists():
            shutil.rmtree(replaced)
        else:
            os.rename(replaced, original)


def schema_difference(folder: Path, version: object) -> str | None:
    """One line if this program cannot read a checkpoint's schema; None if it can."""
    if type(version) is int and version in READABLE_VERSIONS:
        return None
    readable = " and ".join(map(str, READABLE_VERSIONS))
    return (
        f"{folder}: schema_version={version}: this program reads {readable}; use the one that "
        "wrote it"
    )


def _old_schema(folder: Path) -> str | None:
    """The same for a checkpoint written before checksums existed."""
    path = folder / "config" / "metadata"
    if (folder / CHECKSUMS_FILE).exists() or not path.is_file():
        return None
    try:
        config = parse_json(path.read_text(encoding="utf-8"))
        version = config["schema_version"]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return schema_difference(folder, version)
