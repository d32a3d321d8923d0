"""Which checkpoints of a directory are whole: looked at file by file, before Orbax reads them.

Orbax restores a flipped bit without a word.
"""

import os
import shutil
from pathlib import Path
from typing import NamedTuple

from hiertcn_jax.saving.checksums import CHECKSUMS_FILE, find_damage
from hiertcn_jax.saving.json_files import parse_json

SCHEMA_VERSION = 3
"""Of the layout of a checkpoint. 2 brought the checksums, 3 the optimizer's chain."""

READABLE_VERSIONS = (2, 3)
"""Schemas that this program restores."""

DAMAGED_FOLDER = "damaged"
"""Where `set_aside` puts checkpoints, below the directory."""

REPLACED = ".replaced"
"""Behind a step in the name of a checkpoint whose place another one is about to take."""

_METRICS = "metrics/"


class Survey(NamedTuple):
    """What lies in a directory of checkpoints.

    Attributes:
      newest_whole: Step of the newest checkpoint that is whole; None where there is none.
      damaged: By step, newest first, one line that names the file.
    """

    newest_whole: int | None
    damaged: dict[int, str]


def checkpoint_damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint's files, in one line; None if it is whole."""
    return _old_schema(folder) or find_damage(folder)


def metrics_damage(folder: Path) -> str | None:
    """The same of what decides which checkpoint is the best: quick, whatever the model's size."""
    return _old_schema(folder) or find_damage(folder, _METRICS)


def step_folders(directory: Path) -> dict[int, Path]:
    """The folders with a step's name, newest first."""
    if not directory.is_dir():
        return {}
    folders = [path for path in directory.iterdir() if _is_step(path.name) and path.is_dir()]
    return {int(path.name): path for path in sorted(folders, key=lambda path: -int(path.name))}


def _is_step(name: str) -> bool:
    """Whether a step is written like this: 007 is nobody's checkpoint, and neither is \u0665."""
    return name.isdecimal() and name == str(int(name))


def survey(directory: Path) -> Survey:
    """Looks at the newest checkpoints until one is whole, and at the metrics of the others."""
    newest_whole, damaged = None, {}
    for step, folder in step_folders(directory).items():
        look = checkpoint_damage if newest_whole is None else metrics_damage
        damage = look(folder)
        if damage is not None:
            damaged[step] = damage
        elif newest_whole is None:
            newest_whole = step
    return Survey(newest_whole, damaged)


def set_aside(directory: Path, step: int) -> Path:
    """Moves a checkpoint out of the way, without loss; returns where to."""
    aside = directory / DAMAGED_FOLDER / str(step)
    aside.parent.mkdir(exist_ok=True)
    if aside.exists():
        shutil.rmtree(aside)
    os.rename(directory / str(step), aside)
    return aside


def put_back_replaced(directory: Path) -> None:
    """Ends what a run that was killed had begun: the checkpoint of a step replaced by another.

    What was to be replaced gets its name back, unless the other one has it already.
    """
    for replaced in directory.glob(f"*{REPLACED}"):
        place = replaced.with_name(replaced.name.removesuffix(REPLACED))
        if place.exists():
            shutil.rmtree(replaced)
        else:
            os.rename(replaced, place)


def schema_difference(folder: Path, version: object) -> str | None:
    """One line if this program cannot read a checkpoint's schema."""
    if type(version) is int and version in READABLE_VERSIONS:
        return None
    readable = " and ".join(map(str, READABLE_VERSIONS))
    return (
        f"{folder}: schema_version={version}: this program reads {readable}; use the one that "
        "wrote it"
    )


def _old_schema(folder: Path) -> str | None:
    """The same of a checkpoint from before there were checksums."""
    path = folder / "config" / "metadata"
    if (folder / CHECKSUMS_FILE).exists() or not path.is_file():
        return None
    try:
        config = parse_json(path.read_text(encoding="utf-8"))
        version = config["schema_version"]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return schema_difference(folder, version)
