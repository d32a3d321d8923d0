"""manifest.json: what a prepared directory holds, and how it was made."""

import json
from pathlib import Path
from typing import Any

from data_pipelines.errors import DataError

FILE_NAME = "manifest.json"

SCHEMA_VERSION = 1
"""Raised whenever what a prepared directory holds changes in meaning."""


def save_manifest(directory: Path, manifest: dict[str, Any]) -> None:
    """Writes the manifest, with this schema version."""
    text = json.dumps({"schema_version": SCHEMA_VERSION, **manifest}, indent=2, ensure_ascii=False)
    (directory / FILE_NAME).write_text(text + "\n", encoding="utf-8")


def load_manifest(directory: Path | str) -> dict[str, Any]:
    """Reads the manifest of a prepared directory.

    Returns:
      {"schema_version", "content_hash", "counts": {"users", "items", "sessions", "events",
      "users_too_short", "splits": {"train" | "valid" | "test": {"users", "sessions",
      "events": {"all", "first", "next"}, "unknown_items": {"all", "first", "next"}}}},
      "drops": [{"reason", "events", "users", "items"}], "flags"}

    Raises:
      DataError: It is missing, not a manifest, or of another schema version.
    """
    path = Path(directory) / FILE_NAME
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(
            f"{path}: no such file; is {directory} the output of data_pipelines.prepare?"
        ) from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not readable as JSON: {error}") from error
    version = manifest.get("schema_version") if isinstance(manifest, dict) else None
    if version != SCHEMA_VERSION:
        raise DataError(
            f"{path}: expected schema_version {SCHEMA_VERSION}, got {version}; prepare it again"
        )
    missing = {"content_hash", "counts", "drops", "flags"} - manifest.keys()
    if missing:
        raise DataError(f"{path}: {', '.join(sorted(missing))} is missing; prepare it again")
    return manifest
