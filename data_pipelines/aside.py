"""Directories that appear whole or not at all."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from data_pipelines.errors import DataError


def require_vacant(directory: Path) -> None:
    """Checks that a directory does not exist, or is empty.

    Raises:
      DataError: There is something in its place.
    """
    if directory.is_dir():
        if any(directory.iterdir()):
            raise DataError(f"{directory}: is not empty; give another output_dir, or remove it")
    elif directory.exists():
        raise DataError(f"{directory}: is a file, expected a directory to make")


@contextlib.contextmanager
def written_aside(directory: Path) -> Iterator[Path]:
    """A new directory beside `directory`, which it becomes where the block ends well.

    Where it does not, everything made is removed. A process that is killed outright can leave the
    directory beside, whose name starts with a dot; never a part of `directory`.

    Raises:
      DataError: `directory` exists and is not empty.
      OSError: It cannot be written.
    """
    require_vacant(directory)
    made = [parent for parent in directory.absolute().parents if not parent.exists()]
    beside = directory.absolute().with_name(f".{directory.name}.partial-{os.getpid()}")
    beside.mkdir(parents=True)
    try:
        yield beside
        require_vacant(directory)
        beside.replace(directory)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        with contextlib.suppress(OSError):
            for parent in made:
                parent.rmdir()
        raise
