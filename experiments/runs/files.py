"""Writes files that are complete or absent, and names the file in errors."""

import contextlib
import fcntl
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

_PARTIAL = r"(\.\d+-[0-9a-f]{8})?\.partial"
"""Suffix of a temporary file; files of earlier versions lack the first part."""


_RUST_ERROR = re.compile(r"\(os error (\d+)\)")


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`, and renames it to `path` on success.

    The content is on disk before the file gets its name: otherwise a power loss could leave `path`
    empty, and lose the old content. Several processes may write `path` at the same time: each
    writes its own file, and the last one stays. Leftovers of killed processes are removed.

    Raises:
      OSError: It cannot be written; the error names `path`, whose old content stays.
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
    """Writes a text file that is complete or absent.

    Raises:
      OSError: As for `whole_file`.
    """
    with whole_file(path) as aside:
        aside.write_text(text, encoding="utf-8")


def _open_aside(path: Path) -> tuple[Path, int]:
    """A new file beside `path`, and its descriptor, which is locked while it is open."""
    while True:
        aside = path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}.partial")
        lock = os.open(aside, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        # Some network disks have no locks. There nobody can lock a leftover, so nobody removes it.
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        # Another process may have removed it as abandoned, before it was locked.
        if aside.exists():
            return aside, lock
        os.close(lock)


def _remove_abandoned(path: Path) -> None:
    """Removes leftovers of killed processes beside `path`: files that no process has locked."""
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
    """Adds `path` to an error of the system in the block; that of a full disk has no file name.

    Polars raises errors of its own, or an OSError without a number, with Rust's text.
    """
    try:
        yield
    except Exception as error:
        number = error.errno if isinstance(error, OSError) else None
        if number is None and (of_rust := _RUST_ERROR.search(str(error))):
            number = int(of_rust[1])
        if number is not None:
            raise OSError(number, os.strerror(number), str(path)) from error
        if isinstance(error, OSError):
            raise OSError(None, error.strerror or str(error), str(path)) from error
        raise


@contextlib.contextmanager
def kept_if_used(path: Path, *says_nothing: str) -> Iterator[None]:
    """Makes a directory to work in, and removes it again if the block fails and leaves it empty.

    Directories that were there before stay.

    Args:
      path: The directory.
      says_nothing: Names of files that the block makes before it works. Alone they are of no use,
        and are removed too.

    Raises:
      OSError: It cannot be created, or is a file.
    """
    absolute = path.absolute()
    made = [inside for inside in (absolute, *absolute.parents) if not inside.exists()]
    there = {name for name in says_nothing if (path / name).exists()}
    make_workdir(path)
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            found = set(os.listdir(path))
            if found <= set(says_nothing):
                for name in found - there:
                    (path / name).unlink()
            for directory in made:
                directory.rmdir()
        raise


def make_workdir(path: Path) -> None:
    """Creates a directory to work in, if it does not exist.

    Raises:
      OSError: It cannot be created, or is a file.
    """
    inside = path.absolute()
    for parent in (inside, *inside.parents):
        if parent.exists() and not parent.is_dir():
            which = "is a file" if parent == inside else f"{parent} is a file"
            raise NotADirectoryError(f"{path}: {which}, not a directory to work in; give another")
    with naming(path):
        path.mkdir(parents=True, exist_ok=True)
