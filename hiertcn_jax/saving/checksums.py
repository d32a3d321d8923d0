"""Checksums of the files in a folder, to detect and name files that have changed.

`checksums.json` in the folder holds {"files": {path in the folder: {"bytes", "sha256"}}}. It is
written last, so a folder without it is incomplete.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from hiertcn_jax.saving.json_files import parse_json

CHECKSUMS_FILE = "checksums.json"


def write_checksums(
    folder: Path, name: str = CHECKSUMS_FILE, facts: dict[str, Any] | None = None
) -> None:
    """Hashes every file, and makes sure the files are on disk before their checksums.

    Args:
      folder: The folder, completely written.
      name: Of the file with the checksums.
      facts: What else it says, beside "files".

    Raises:
      OSError: A file cannot be read, or the checksums cannot be written.
    """
    files = {}
    for inside, path in _files(folder).items():
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            files[inside] = {"bytes": file.tell(), "sha256": digest}
            os.fsync(file.fileno())
    with (folder / name).open("w", encoding="utf-8") as file:
        json.dump({**(facts or {}), "files": files}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())


def find_damage(folder: Path, within: str = "", name: str = CHECKSUMS_FILE) -> str | None:
    """Describes the first changed file in one line that begins with its path; None if all are
    intact.

    Args:
      folder: A folder for which `write_checksums` wrote checksums.
      within: Only compares files whose path in the folder begins with this.
      name: Of the file with the checksums.
    """
    listed = _listed(folder / name)
    if isinstance(listed, str):
        return listed
    # Names in the file are compared with the folder's; none of them is opened as a path.
    try:
        found = _files(folder)
    except OSError as error:
        return f"{folder}: cannot be read: {error.strerror}"
    for missing in sorted(set(listed) - set(found)):
        return f"{folder / missing}: missing"
    for foreign in sorted(set(found) - set(listed) - {name}):
        return f"{folder / foreign}: not in {name}"
    for file, path in found.items():
        if file in listed and file.startswith(within):
            damage = _compare(path, listed[file])
            if damage is not None:
                return f"{path}: {damage}"
    return None


def _files(folder: Path) -> dict[str, Path]:
    """Every file below a folder by its path in it, sorted."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path for path in paths}


def _listed(path: Path) -> dict[str, Any] | str:
    """The checksums by file, or one line that says why they cannot be read."""
    # Reading from a pipe would never end.
    if not path.is_file():
        return f"{path}: missing"
    try:
        return dict(parse_json(path.read_text(encoding="utf-8"))["files"])
    except (OSError, ValueError, TypeError, KeyError):
        return f"{path}: not readable as checksums"


def _compare(path: Path, written: Any) -> str | None:
    try:
        with path.open("rb") as file:
            now = {
                "sha256": hashlib.file_digest(file, "sha256").hexdigest(),
                "bytes": file.tell(),
            }
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if now == written:
        return None
    size = written.get("bytes") if isinstance(written, dict) else None
    if now["bytes"] != size:
        return f"{now['bytes']} bytes, but {size} were written"
    return "changed since it was written: its SHA-256 differs"
