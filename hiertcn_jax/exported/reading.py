"""Opens the directory of an exported model, and checks that it is whole."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np

from hiertcn_jax.exported import layout
from hiertcn_jax.exported.id_table import IdTable
from hiertcn_jax.exported.users import ExportedUsers
from hiertcn_jax.memory.config import SIZES
from hiertcn_jax.memory.memory import Memory
from hiertcn_jax.saving.checksums import find_damage
from hiertcn_jax.saving.json_files import parse_json
from hiertcn_jax.serving.user_states import UserStates

_FACTS: dict[str, type | tuple[type, ...]] = {
    "model_id": str,
    "gap_seconds": (int, float),
    "newest": int,
    "rows": int,
    "memory": bool,
    "config": dict,
    "columns": dict,
    "functions": dict,
    "files": dict,
}
"""What a manifest says, and the type of each."""


class ExportError(ValueError):
    """The directory is no export, is damaged, or is of another version."""


class Export:
    """An exported model on disk; see `layout` for its files.

    Attributes:
      directory: Where it is.
      manifest: What `manifest.json` says.
    """

    def __init__(self, directory: str | Path, check: bool = True) -> None:
        """Opens it.

        Args:
          directory: See the class.
          check: Whether to compare the SHA-256 of each file with the manifest's. Without it only
            their sizes are compared.

        Raises:
          ExportError: It is no export, not whole, or of another schema.
        """
        self.directory = Path(directory)
        self.manifest = _read_manifest(self.directory)
        damage = find_damage(self.directory, "" if check else "?", layout.MANIFEST)
        if damage is None and not check:
            damage = self._wrong_size()
        if damage is not None:
            raise ExportError(f"{damage}; copy the export again, or make it again")

    def _wrong_size(self) -> str | None:
        for name, written in self.manifest["files"].items():
            found = (self.directory / name).stat().st_size
            if found != written["bytes"]:
                return (
                    f"{self.directory / name}: {found} bytes, but {written['bytes']} were written"
                )
        return None

    @property
    def model_id(self) -> str:
        """Names the weights; states of other models are refused."""
        return self.manifest["model_id"]

    @property
    def gap_seconds(self) -> float:
        """A pause longer than this ends a session."""
        return float(self.manifest["gap_seconds"])

    @property
    def newest(self) -> int:
        """Time of the log's newest event, seconds."""
        return self.manifest["newest"]

    @functools.cached_property
    def items(self) -> IdTable:
        """The catalogue."""
        table = IdTable(self._items["ids"])
        if table.size != self.manifest["rows"]:
            raise ExportError(
                f"{self.directory / layout.ITEMS}: {len(table.ids)} ids, must be "
                f"{self.manifest['rows'] - table.first}"
            )
        return table

    @property
    def columns(self) -> dict[str, list[Any]]:
        """What is known of the items, in their order: `title` and others; empty without titles."""
        return self._items.get("columns", {})

    @functools.cached_property
    def titles(self) -> list[str | None] | None:
        """The items' titles, in their order; None in an export without titles."""
        return self.columns.get("title")

    @functools.cached_property
    def _items(self) -> dict[str, Any]:
        path = self.directory / layout.ITEMS
        found = self._json(layout.ITEMS)
        columns = found.get("columns", {})
        if not isinstance(columns, dict):
            raise ExportError(f"{path}: columns: must be lists by name")
        for name, values in columns.items():
            if not isinstance(values, list) or len(values) != len(found["ids"]):
                raise ExportError(f"{path}: column {name!r}: must have a value for each id")
        return found

    @functools.cached_property
    def users(self) -> ExportedUsers:
        """The users of the log; none, if they were left out."""
        if layout.USER_IDS not in self.manifest["files"]:
            nobody = np.zeros(0, layout.EVENT)
            records = layout.as_records(self.start)[:0]
            return ExportedUsers(IdTable([], 0), self.newest, records, nobody, np.zeros(1, int))
        return ExportedUsers(
            IdTable(self._json(layout.USER_IDS)["ids"], 0),
            self.newest,
            self._array(layout.STATES, mapped=True),
            self._array(layout.EVENTS, mapped=True),
            self._array(layout.FIRST_EVENTS),
        )

    @functools.cached_property
    def start(self) -> UserStates:
        """The state of one user without events."""
        records = self._array(layout.START)
        own = records.dtype.fields["own"][0].shape if records.dtype.fields else None
        if own != (SIZES.own_events,):
            raise ExportError(
                f"{self.directory / layout.START}: is no state of this version; export the run "
                "again with this version"
            )
        return layout.as_states(records)

    def weights(self) -> dict[str, np.ndarray]:
        """All arrays of the model, by name."""
        return self._tensors(layout.WEIGHTS)

    def memory(self) -> Memory | None:
        """What everybody did so far; None for a model without terms of memory."""
        if not self.manifest["memory"]:
            return None
        arrays = self._tensors(layout.MEMORY)
        try:
            return Memory.from_arrays(arrays)
        except ValueError as error:
            raise ExportError(
                f"{self.directory / layout.MEMORY}: holds no counts of this version; export the "
                "run again with this version"
            ) from error

    def _tensors(self, name: str) -> dict[str, np.ndarray]:
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            return load_file(self.directory / name)
        except (OSError, SafetensorError) as error:
            raise ExportError(f"{self.directory / name}: cannot be read: {error}") from error

    def _array(self, name: str, mapped: bool = False) -> np.ndarray:
        try:
            return np.load(self.directory / name, "r" if mapped else None, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise ExportError(f"{self.directory / name}: cannot be read: {error}") from error

    def _json(self, name: str) -> dict[str, Any]:
        """A file with a list of ids, and perhaps more."""
        path = self.directory / name
        try:
            found = dict(parse_json(path.read_text(encoding="utf-8")))
            found["ids"] = list(found["ids"])
            return found
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ExportError(f"{path}: is not a list of ids") from error


def _read_manifest(directory: Path) -> dict[str, Any]:
    path = directory / layout.MANIFEST
    if not path.is_file():
        raise ExportError(f"{path}: missing; name the directory that experiments.export wrote")
    try:
        manifest = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ExportError(f"{path}: cannot be read: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("kind") != layout.KIND:
        raise ExportError(f"{path}: is not of an export; name one that experiments.export wrote")
    if manifest.get("schema") != layout.SCHEMA:
        raise ExportError(
            f"{path}: schema {manifest.get('schema')}, but this version reads {layout.SCHEMA}; "
            "export the run again with this version"
        )
    for name, kind in _FACTS.items():
        if not isinstance(manifest.get(name), kind):
            raise ExportError(f"{path}: {name}={manifest.get(name)!r} cannot be used")
    _require_sizes(path, manifest.get("memory_sizes"))
    return manifest


def _require_sizes(path: Path, found: Any) -> None:
    """Checks that states and counts have the sizes of this version; earlier exports name none.

    Raises:
      ExportError: They have others.
    """
    ours = dataclasses.asdict(SIZES)
    if found is None or found == ours:
        return
    theirs = found if isinstance(found, dict) else {}
    differing = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
    raise ExportError(
        f"{path}: memory_sizes: {differing[0]}={theirs.get(differing[0])}, but this version has "
        f"{ours.get(differing[0])}; export the run again with this version"
    )
