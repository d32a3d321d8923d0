"""Files that are whole or not there, and errors of writing that say where."""

import contextlib
import fcntl
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

_PARTIAL = r"(\.\d+-[0-9a-f]{8})?\.partial"
"""After a file's name, in that of a file that becomes it; the first part was missing once."""


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path beside `path`, whose file becomes `path` at once where the block ends well.

    Its content is on the disk before it gets the name: otherwise a power loss could leave `path`
    empty, and lose what was there before. Several processes may write `path` at the same time: each
    writes a file of its own, and the last one stays. What killed processes left is removed.

    Raises:
      OSError: It cannot be written; `path` is named, and what was there stays.
    """
    with naming(path):
        _remove_abandoned(path)
        aside, lock = _open_aside(path)
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
    finally:
        os.close(lock)


def write_text(path: Path, text: str) -> None:
    """Writes a text file that is whole or not there.

    Raises:
      OSError: As for `whole_file`.
    """
    with whole_file(path) as aside:
        aside.write_text(text, encoding="utf-8")


def _open_aside(path: Path) -> tuple[Path, int]:
    """A new file beside `path`, and its descriptor, which is locked as long as it is open."""
    while True:
        aside = path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}.partial")
        lock = os.open(aside, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        # Some network disks have no locks: there nobody removes what he could not lock.
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        # Another process may have taken it for abandoned before it was locked.
        if aside.exists():
            return aside, lock
        os.close(lock)


def _remove_abandoned(path: Path) -> None:
    """Removes files beside `path` that killed processes left: those that no process has locked."""
    for name in os.listdir(path.parent):
        if not re.fullmatch(re.escape(path.name) + _PARTIAL, name):
            continue
        aside = path.with_name(name)
        with contextlib.suppress(OSError):
            lock = os.open(aside, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                aside.unlink()
            finally:
                os.close(lock)


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
        raise NotADirectoryError(f"{path}: is a file, not a directory to work in; give another")
    path.mkdir(parents=True, exist_ok=True)
