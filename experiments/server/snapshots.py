"""Snapshots of the counts, so that a start reads the newest events and not the whole stream.

A snapshot belongs to one export and one store, and says up to which event of the stream it counts.
What is read from it and the events after it give the same lists as the whole stream, to the last
bit.
"""

import hashlib
import logging
import threading

import numpy as np

from experiments.server.counts import Counts
from experiments.server.store import Store, StoreError
from hiertcn_jax.exported.reading import Export
from hiertcn_jax.memory.memory import Memory

SNAPSHOT_EVENTS = 50_000
"""A snapshot is written after this many events. A start counts few more."""

_DIGEST = hashlib.sha256().digest_size


class Snapshots:
    """Reads and writes the snapshots of one export's counts.

    Attributes:
      note: What the counts of `restore` were made from, in words.
    """

    def __init__(self, export: Export, store: Store, version: str) -> None:
        """See the class.

        Args:
          export: The model's.
          store: Has the stream and the snapshot.
          version: Of the export.
        """
        self._export, self._store, self._version = export, store, version
        self._number, self.note = 0, ""
        self._writing: threading.Thread | None = None

    def restore(self) -> Counts:
        """The counts of all events in the stream.

        Raises:
          StoreError: The stream cannot be read.
        """
        counts, reason = Counts(self._export), ""
        first = self._store.first_number(self._version)
        data = self._store.read_snapshot(self._version)
        found = self._number = 0
        if data is not None:
            reason = self._fill(counts, data)
            found = counts.number
        if found:
            counts.replay(self._store, found)
        else:
            counts.replay(self._store, first, self._export.newest)
        self._number = found or first
        behind = counts.number - self._number
        self.note = (
            f"a snapshot of {counts.events - behind:,} events and {behind:,} later ones"
            if found
            else f"all {counts.events:,} events{reason and f'; {reason}'}"
        )
        if reason:
            # Events to come could otherwise make it look as if it were of this stream.
            self.write(counts)
        else:
            self.write_if_due(counts)
        return counts

    def adopt(self, counts: Counts, first: int) -> None:
        """Takes over counts of all events in the stream that were made elsewhere.

        Args:
          counts: These.
          first: The newest event's number when the export was first served from the store.
        """
        self._number = first
        self.note = f"all {counts.events:,} events"

    def _fill(self, counts: Counts, data: bytes) -> str:
        """Takes over the counts of a snapshot; otherwise says why not, and changes nothing."""
        from safetensors import SafetensorError
        from safetensors.numpy import load

        if len(data) < _DIGEST or hashlib.sha256(data[_DIGEST:]).digest() != data[:_DIGEST]:
            return "the snapshot is damaged and was not used"
        try:
            arrays = load(data[_DIGEST:])
            names = arrays.pop("names").tobytes().decode()
            number, newest, events = arrays.pop("numbers").tolist()
            memory = Memory.from_arrays(arrays) if arrays else None
        except (SafetensorError, KeyError, ValueError) as error:
            return f"the snapshot is of another version ({error}) and was not used"
        if names != self._names:
            return "the snapshot is of another export or store and was not used"
        if number > self._store.sizes()[1]:
            return "the snapshot is newer than the store and was not used"
        counts.memory, counts.number, counts.newest, counts.events = memory, number, newest, events
        return ""

    @property
    def _names(self) -> str:
        return f"{self._version} {self._store.identity}"

    def write_if_due(self, counts: Counts) -> None:
        """Begins to write a snapshot if enough events came since the last."""
        if counts.number - self._number >= SNAPSHOT_EVENTS:
            self.write(counts)

    def write(self, counts: Counts) -> None:
        """Begins to write a snapshot, and drops from the counts what it does not need."""
        self.wait()
        counts.compact()
        arrays = {} if counts.memory is None else counts.memory.arrays()
        arrays["names"] = np.frombuffer(self._names.encode(), np.uint8)
        arrays["numbers"] = np.array([counts.number, counts.newest, counts.events], np.int64)
        self._number = counts.number
        self._writing = threading.Thread(
            target=self._write, args=(arrays, counts.number), name="snapshot"
        )
        self._writing.start()

    def _write(self, arrays: dict[str, np.ndarray], number: int) -> None:
        from safetensors.numpy import save

        data = save(arrays)
        try:
            self._store.write_snapshot(self._version, number, hashlib.sha256(data).digest() + data)
        except StoreError as error:
            logging.error("%s; a start will read more of the stream", error)

    def wait(self) -> None:
        """Waits until the snapshot that is being written is complete."""
        if self._writing is not None:
            self._writing.join()

    def close(self, counts: Counts) -> None:
        """Writes a snapshot of what came since the last."""
        if counts.number > self._number:
            self.write(counts)
        self.wait()
