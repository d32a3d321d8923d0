"""Outputs are tried before the work: what cannot be written is refused in the first second."""

import tempfile
from pathlib import Path

from data_pipelines.directories import require_output, require_outside


def check_file(flag: str, path: Path) -> None:
    """Checks that a file can be written, and does no harm there.

    Args:
      flag: The flag that names it.
      path: The file; one that is there will be replaced.

    Raises:
      DataError: It would harm a directory of ours, see `require_output`.
      OSError: Its directory is missing or cannot be written, or it is a directory itself.
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
    """Checks that files can be written into a directory, which is made later where it is missing.

    Args:
      flag: The flag that names it.
      path: The directory.

    Raises:
      DataError: It lies where nothing may be written, see `require_outside`.
      OSError: It, or the directory in which it would be made, cannot be written, or is a file.
    """
    require_outside(flag, path)
    there = next(
        parent for parent in (path.absolute(), *path.absolute().parents) if parent.exists()
    )
    if not there.is_dir():
        raise NotADirectoryError(f"{flag}={path}: {there} is a file, not a directory")
    _try(flag, path, there)


def _try(flag: str, path: Path, directory: Path) -> None:
    """Makes a file in a directory; it has no name, or loses it at once."""
    try:
        tempfile.TemporaryFile(dir=directory).close()
    except OSError as error:
        raise OSError(f"{flag}={path}: cannot be written: {error.strerror}") from error
