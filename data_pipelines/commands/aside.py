"""Creates directories that appear complete or not at all."""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from data_pipelines.directories import kind_of
from data_pipelines.errors import DataError


def require_vacant(directory: Path) -> None:
    """Checks that a directory does not exist, or is empty.

    Raises:
      DataError: It is a file, or a directory that is not empty.
    """
    if directory.is_dir():
        if any(directory.iterdir()):
            kind = kind_of(directory)
            found = "is not empty" if kind is None else f"is not empty: it holds {kind.value}"
            raise DataError(f"{directory}: {found}; give another output_dir, or remove it")
    elif directory.exists():
        raise DataError(f"{directory}: is a file, expected a directory to make")


@contextlib.contextmanager
def written_aside(directory: Path) -> Iterator[Path]:
    """Yields a new directory beside `directory`, and renames it to `directory` on success.

    On an error it removes everything. A process that is killed outright leaves the temporary
    directory, whose name starts with a dot, but never a partial `directory`. The next call for the
    same `directory` removes such leftovers.

    Raises:
      DataError: `directory` exists and is not empty.
      OSError: It cannot be written.
    """
    require_vacant(directory)
    made = [parent for parent in directory.absolute().parents if not parent.exists()]
    beside = directory.absolute().with_name(f"{_prefix(directory)}{os.getpid()}")
    _remove_abandoned(directory)
    beside.mkdir(parents=True)
    lock = os.open(beside, os.O_RDONLY)
    try:
        # The system releases the lock when this process ends, however it ends. Some network disks
        # have no locks; there, nobody can lock the leftovers, so nobody removes them.
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield beside
        require_vacant(directory)
        beside.replace(directory)
    except BaseException as error:
        shutil.rmtree(beside, ignore_errors=True)
        with contextlib.suppress(OSError):
            for parent in made:
                parent.rmdir()
        if isinstance(error, OSError) and _is_of(error, beside):
            raise _named(error, directory) from error
        raise
    finally:
        os.close(lock)


def _is_of(error: OSError, beside: Path) -> bool:
    """Whether an error is of what is written: it names a file there, or none."""
    return error.filename is None or str(error.filename).startswith(str(beside))


def _named(error: OSError, directory: Path) -> OSError:
    if error.errno is None:  # numpy says how many values it could not write.
        return OSError(f"{directory}: cannot be written: {error}")
    return OSError(error.errno, error.strerror, str(directory))


def _prefix(directory: Path) -> str:
    return f".{directory.name}.partial-"


def _remove_abandoned(directory: Path) -> None:
    """Removes leftovers of killed processes: directories that no process has locked."""
    parent = directory.absolute().parent
    names = os.listdir(parent) if parent.is_dir() else []
    for name in names:
        path = parent / name
        suffix = name.removeprefix(_prefix(directory))
        if suffix == name or not suffix.isdigit() or path.is_symlink() or not path.is_dir():
            continue
        lock = os.open(path, os.O_RDONLY)
        # Locking fails while another process writes the directory.
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path)
        os.close(lock)
