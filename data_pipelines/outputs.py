"""Tests outputs before the work starts, so that an unwritable one fails in the first second."""

import tempfile
from pathlib import Path

from data_pipelines.commands.os_errors import advice_about
from data_pipelines.directories import require_output, require_outside


def check_file(flag: str, path: Path) -> None:
    """Checks that a file can be written, and does no harm there.

    Args:
      flag: The flag that names it.
      path: The file; an existing one will be replaced.

    Raises:
      DataError: It would harm one of our directories, see `require_output`.
      OSError: Its directory is missing or not writable, or it is a directory itself.
    """
    require_output(flag, path)
    if path.is_dir():
        raise IsADirectoryError(f"{flag}={path}: is a directory, expected a file to write")
    if not path.absolute().parent.is_dir():
        raise FileNotFoundError(
            f"{flag}={path}: there is no directory {path.parent}; make it, or name another file"
        )
    _try(flag, path, path.absolute().parent)


def check_directory(flag: str, path: Path) -> None:
    """Checks that files can be written into a directory, which may not exist yet.

    Args:
      flag: The flag that names it.
      path: The directory.

    Raises:
      DataError: It is inside a directory where nothing may be written, see `require_outside`.
      OSError: It, or the directory that would contain it, is not writable, or is a file.
    """
    require_outside(flag, path)
    there = next(
        parent for parent in (path.absolute(), *path.absolute().parents) if parent.exists()
    )
    if not there.is_dir():
        raise NotADirectoryError(
            f"{flag}={path}: {there} is a file, not a directory; name another place"
        )
    _try(flag, path, there)


def _try(flag: str, path: Path, directory: Path) -> None:
    """Creates a file in a directory, without a name, or removes it at once."""
    try:
        tempfile.TemporaryFile(dir=directory).close()
    except OSError as error:
        reason = f"{error.strerror}{advice_about(error)}"
        raise OSError(f"{flag}={path}: cannot be written: {reason}") from error
