"""What a run writes while it runs: metrics.jsonl and TensorBoard."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from experiments.runs.curves import Curves
from experiments.runs.files import naming, write_text
from hiertcn_jax.saving.json_files import parse_json


def keep_lines_until(path: Path, step: int, validation_due: bool = False) -> None:
    """Drops the lines that a killed run wrote after the checkpoint from which it resumes.

    Otherwise lines of later steps would occur twice. Also drops a last line that was cut off. The
    file is replaced at once, so a kill leaves the old file or the new one.

    Args:
      path: metrics.jsonl; nothing happens if it is missing.
      step: The last step to keep.
      validation_due: Whether the validation of that step will be repeated; then its line, which was
        written after the checkpoint, is dropped too.

    Raises:
      OSError: It cannot be read or written.
    """
    if not path.exists():
        return
    if not path.is_file():  # Reading from a pipe would never end.
        raise OSError(f"{path}: is no file; remove it")
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
        try:
            values = parse_json(line)
            key = values["step"], values["kind"]
            earlier = key[0] <= step and not (validation_due and key == (step, "valid"))
        except (ValueError, TypeError, KeyError):
            continue
        if line.endswith("\n") and earlier:
            kept.append(line)
    write_text(path, "".join(kept))


class NoJournal:
    """The journal of a process that writes none, because another process does."""

    def write(self, step: int, kind: str, values: Mapping[str, Any]) -> None:
        """See `Journal`."""

    def sync(self) -> None:
        """See `Journal`."""

    def close(self) -> None:
        """See `Journal`."""


class Journal:
    """Writes lines of metrics to metrics.jsonl and to TensorBoard.

    Args:
      workdir: The run's directory.
      step: The step from which the run starts.
      validation_due: Whether the validation of that step will be repeated.
      settings: Settings of the run, for TensorBoard's table of hyperparameters.
      metrics: The values that this table shows, as kind/name.

    Raises:
      OSError: As for `write`.
    """

    def __init__(
        self,
        workdir: Path,
        step: int,
        validation_due: bool = False,
        settings: Mapping[str, bool | float | str] = MappingProxyType({}),
        metrics: Sequence[str] = (),
    ) -> None:
        path = workdir / "metrics.jsonl"
        keep_lines_until(path, step, validation_due)
        self._path, self._curves_path = path, workdir / "tensorboard"
        with naming(path):
            # Unbuffered, so that closing has nothing left to write that may fail.
            self._file = path.open("ab", buffering=0)
        with naming(self._curves_path):
            self._curves = Curves(self._curves_path, step, settings, metrics)

    def write(self, step: int, kind: str, values: Mapping[str, Any]) -> None:
        """Writes one line {"step", "kind", values}; numbers go to TensorBoard as kind/name.

        Args:
          step: Steps done.
          kind: `train` or `valid`.
          values: JSON values by name.

        Raises:
          OSError: Writing failed; the error names the file, or TensorBoard's directory.
        """
        rest = (json.dumps({"step": step, "kind": kind, **values}) + "\n").encode()
        with naming(self._path):
            while rest:
                rest = rest[self._file.write(rest) :]
        with naming(self._curves_path):
            for name, value in values.items():
                if isinstance(value, int | float):
                    self._curves.add(f"{kind}/{name}", value, step)

    def sync(self) -> None:
        """Writes all lines to disk; call it before a checkpoint, which must not be ahead of them.

        Raises:
          OSError: As for `write`.
        """
        with naming(self._path):
            os.fsync(self._file.fileno())
        with naming(self._curves_path):
            self._curves.flush()

    def close(self) -> None:
        """Writes the rest, and closes.

        Raises:
          OSError: As for `write`.
        """
        with naming(self._path):
            self._file.close()
        with naming(self._curves_path):
            self._curves.close()
