"""Opens the directory of an exported model, and checks that it is whole."""

import dataclasses
import functools
import tokenize
import warnings
from collections.abc import Sized
from pathlib import Path
from typing import Any

import numpy as np

from hiertcn_jax.exported import layout
from hiertcn_jax.exported.id_table import IdTable
from hiertcn_jax.exported.users import ExportedUsers
from hiertcn_jax.item_ids import PADDING_ID
from hiertcn_jax.memory.config import SIZES
from hiertcn_jax.memory.memory import Memory
from hiertcn_jax.saving.checksums import find_damage
from hiertcn_jax.saving.json_files import parse_json
from hiertcn_jax.serving.user_states import UserStates, is_possible
from hiertcn_jax.settings import shortly

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


_AGAIN = "; export the run again with this version"
_BLOCK = 65_536
"""Entries of a mapped file that are looked at together."""


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
          check: Whether to compare the SHA-256 of each file with the manifest's, and to look
            through all users. Without it only sizes are compared.

        Raises:
          ExportError: It is no export, not whole, or of another schema.
        """
        self.directory, self._checks = Path(directory), check
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
        self._require_length(layout.ITEMS, table.ids, self.manifest["rows"] - table.first)
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
            raise ExportError(f"{path}: columns: must be lists by name{_AGAIN}")
        for name, values in columns.items():
            if not isinstance(values, list) or len(values) != len(found["ids"]):
                raise ExportError(f"{path}: column {name!r}: must have a value for each id{_AGAIN}")
        return found

    @functools.cached_property
    def users(self) -> ExportedUsers:
        """The users of the log; none, if they were left out."""
        if layout.USER_IDS not in self.manifest["files"]:
            nobody = np.zeros(0, layout.EVENT)
            records = layout.as_records(self.start)[:0]
            return ExportedUsers(IdTable([], 0), self.newest, records, nobody, np.zeros(1, int))
        ids = self._json(layout.USER_IDS)["ids"]
        states = self._array(layout.STATES, layout.state_record(self.start), mapped=True)
        events = self._array(layout.EVENTS, layout.EVENT, mapped=True)
        first_u = self._array(layout.FIRST_EVENTS, np.dtype(np.int64))
        self._require_length(layout.STATES, states, len(ids))
        self._require_length(layout.FIRST_EVENTS, first_u, len(ids) + 1)
        if first_u[0] != 0 or first_u[-1] != len(events) or np.any(np.diff(first_u) < 0):
            raise ExportError(
                f"{self.directory / layout.FIRST_EVENTS}: must rise from 0 to {len(events)}, the "
                f"number of events{_AGAIN}"
            )
        if self._checks:
            self._require_possible(states, events)
        return ExportedUsers(IdTable(ids, 0), self.newest, states, events, first_u)

    def _require_possible(self, states: np.ndarray, events: np.ndarray) -> None:
        """Checks the rows of items in mapped files, block by block."""
        rows = self.manifest["rows"]
        for start in range(0, len(states), _BLOCK):
            if not is_possible(layout.as_states(states[start : start + _BLOCK]), rows):
                path = self.directory / layout.STATES
                raise ExportError(f"{path}: holds impossible values{_AGAIN}")
        for start in range(0, len(events), _BLOCK):
            item_n = events["item"][start : start + _BLOCK]
            if not PADDING_ID < item_n.min() <= item_n.max() < rows:
                path = self.directory / layout.EVENTS
                raise ExportError(f"{path}: items must be rows from 1 to {rows - 1}{_AGAIN}")

    @functools.cached_property
    def start(self) -> UserStates:
        """The state of one user without events."""
        records, path = self._array(layout.START), self.directory / layout.START
        if not layout.is_state_record(records.dtype):
            raise ExportError(f"{path}: is no state of this version{_AGAIN}")
        self._require_length(layout.START, records, 1)
        states = layout.as_states(records)
        if not is_possible(states, self.manifest["rows"]):
            raise ExportError(f"{path}: holds impossible values{_AGAIN}")
        return states

    def weights(self) -> dict[str, np.ndarray]:
        """All arrays of the model, by name."""
        arrays, rows = self._tensors(layout.WEIGHTS), self.manifest["rows"]
        items = arrays.get("items/input")
        if items is None or items.ndim != 2 or len(items) != rows:
            raise ExportError(
                f"{self.directory / layout.WEIGHTS}: items/input must have {rows} rows{_AGAIN}"
            )
        return arrays

    def memory(self) -> Memory | None:
        """What everybody did so far; None for a model without terms of memory."""
        if not self.manifest["memory"]:
            return None
        path, arrays = self.directory / layout.MEMORY, self._tensors(layout.MEMORY)
        try:
            memory = Memory.from_arrays(arrays)
        except ValueError as error:
            raise ExportError(
                f"{path}: holds no counts of this version ({error}){_AGAIN}"
            ) from error
        if memory.rows != self.manifest["rows"]:
            raise ExportError(
                f"{path}: counts {memory.rows} rows, must be {self.manifest['rows']}{_AGAIN}"
            )
        return memory

    def _tensors(self, name: str) -> dict[str, np.ndarray]:
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            return load_file(self.directory / name)
        except (OSError, SafetensorError) as error:
            raise ExportError(f"{self.directory / name}: cannot be read: {_line(error)}") from error

    def _array(
        self, name: str, kind: np.dtype[Any] | None = None, mapped: bool = False
    ) -> np.ndarray:
        """An array with one axis.

        Args:
          name: Its file.
          kind: Its type; None: any.
          mapped: Whether to leave it on disk.
        """
        path = self.directory / name
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                array = np.load(path, "r" if mapped else None, allow_pickle=False)
        # The last three come from a damaged header, which numpy reads as Python, old and new.
        except (
            OSError, ValueError, EOFError, SyntaxError, tokenize.TokenError, UserWarning,
        ) as error:  # fmt: skip
            raise ExportError(f"{path}: cannot be read: {_line(error)}") from error
        found = getattr(array, "dtype", None)  # An archive of arrays has none.
        if found is None or (kind is not None and found != kind) or array.ndim != 1:
            raise ExportError(f"{path}: is not the array that an export has there{_AGAIN}")
        return array

    def _json(self, name: str) -> dict[str, Any]:
        """A file with a list of ids, and perhaps more."""
        path = self.directory / name
        try:
            found = dict(parse_json(path.read_text(encoding="utf-8")))
            found["ids"] = ids = list(found["ids"])
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ExportError(f"{path}: is not a list of ids{_AGAIN}") from error
        if any(type(one) not in (str, int) for one in ids) or len(set(map(str, ids))) < len(ids):
            raise ExportError(f"{path}: must hold text or whole numbers, each once{_AGAIN}")
        return found

    def _require_length(self, name: str, found: Sized, length: int) -> None:
        if len(found) != length:
            raise ExportError(
                f"{self.directory / name}: {len(found)} entries, must be {length}{_AGAIN}"
            )


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
            f"{path}: schema {shortly(manifest.get('schema'))}, but this version reads "
            f"{layout.SCHEMA}{_AGAIN}"
        )
    for name, kind in _FACTS.items():
        value = manifest.get(name)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise ExportError(f"{path}: {name}={shortly(value)}: cannot be used{_AGAIN}")
    if not manifest["gap_seconds"] >= 0:
        gap = shortly(manifest["gap_seconds"])
        raise ExportError(f"{path}: gap_seconds={gap}: must be >= 0{_AGAIN}")
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
        f"{path}: memory_sizes: {shortly(differing[0])}={shortly(theirs.get(differing[0]))}, but "
        f"this version has {ours.get(differing[0])}{_AGAIN}"
    )


def _line(error: BaseException) -> str:
    """The first line of an error of a library."""
    return str(error).partition("\n")[0]
