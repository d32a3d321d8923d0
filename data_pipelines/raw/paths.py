"""Expands paths, patterns and directories to the files of a log: each once, in natural order."""

import glob
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from data_pipelines.errors import DataError

_COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".zip")


def expand_paths(paths: Sequence[str]) -> list[Path]:
    """The files that paths, patterns and directories name, in their order.

    Files of a pattern or a directory are in natural order: part-2 comes before part-10. A directory
    means its files at any depth. Files and folders whose names begin with _ or a dot, such as
    Spark's _SUCCESS, are left out, unless the pattern begins so too.

    Raises:
      DataError: A path names no file; a file is named twice, by whatever names; a directory holds
        files of several types.
    """
    files: list[Path] = []
    named: dict[tuple[int, int], tuple[Path, str]] = {}
    for path in paths:
        for file in _expand(path):
            stat = file.stat()
            identity = (stat.st_dev, stat.st_ino)
            if identity in named:
                other, other_path = named[identity]
                raise DataError(
                    f"{file}: this file is named twice{_how(file, path, other, other_path)}; its "
                    "events would count double, so name it once"
                )
            named[identity] = (file, path)
            files.append(file)
    return files


def natural_order(path: Path | str) -> list[tuple[int, int, str]]:
    """A sort key in which numbers count by value: 2 before 10."""
    parts = re.split(r"([0-9]+)", str(path))
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts if part]


def file_type(file: Path) -> str:
    """The last suffix of a name, in lower case, ignoring that of a compression: '.csv'."""
    path = Path(file.name)
    if path.suffix.lower() in _COMPRESSED:
        path = Path(path.stem)
    return path.suffix.lower()


def _how(file: Path, path: str, other: Path, other_path: str) -> str:
    """The arguments that name a file twice, and its other name."""
    by = f", by {other_path!r} and by {path!r}" if path != other_path else ""
    return by + (f", also as {other}" if other != file else "")


def _expand(path: str) -> Iterator[Path]:
    """The files that a path, a pattern or a directory names."""
    if os.path.exists(path):
        found = [Path(path)]
    else:
        is_marker_wanted = os.path.basename(path).startswith("_")
        found = [
            found_path
            for found_path in map(Path, sorted(glob.glob(path), key=natural_order))
            if is_marker_wanted or not found_path.name.startswith("_")
        ]
    if not found:
        raise DataError(f"{path}: no such file; check the path, or the pattern")
    for found_path in found:
        if found_path.is_dir():
            yield from _files_of_directory(found_path)
        else:
            yield _file(found_path)


def _files_of_directory(directory: Path) -> list[Path]:
    files = sorted(_walk(directory), key=natural_order)
    if not files:
        raise DataError(f"{directory}: no files in this directory; name another")
    types = sorted({file_type(file) for file in files})
    if len(types) > 1:
        shown = ", ".join(suffix or "(no suffix)" for suffix in types)
        raise DataError(
            f"{directory}: has files of several types, {shown}; are they one log? Name those to "
            f"read by a pattern, such as '{directory}/*{types[-1]}'"
        )
    return files


def _walk(directory: Path) -> Iterator[Path]:
    for entry in directory.iterdir():
        if entry.name.startswith(("_", ".")):
            continue
        if entry.is_dir() and not entry.is_symlink():
            yield from _walk(entry)
        else:
            yield _file(entry)


def _file(found_path: Path) -> Path:
    if not found_path.is_file():
        raise DataError(
            f"{found_path}: expected a file or a directory of files, got something else"
        )
    return found_path
