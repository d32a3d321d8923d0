"""Files that are whole or not there, and errors of writing that say where."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path beside `path`, whose file becomes `path` at once where the block ends well.

    Its content is on the disk before it gets the name: otherwise a power loss could leave `path`
    empty, and lose what was there before.

    Raises:
      OSError: It cannot be written; `path` is named, and what was there stays.
    """
    aside = path.with_name(path.name + ".partial")
    try:
        with naming(path):
            yield aside
            with aside.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(aside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """An OSError in the block names `path`: that of a full disk names none by itself."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def make_workdir(path: Path) -> None:
    """Makes a directory to work in, where there is none.

    Raises:
      OSError: It cannot be made, or is a file.
    """
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(f"{path}: is a file, not a directory to work in")
    path.mkdir(parents=True, exist_ok=True)
