"""Files that are whole or not there, and errors of writing that say where."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path beside `path`, whose file becomes `path` at once where the block ends well.

    Raises:
      OSError: It cannot be written; `path` is named, and what was there stays.
    """
    aside = path.with_name(path.name + ".partial")
    try:
        with naming(path):
            yield aside
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
