"""What a run says while it runs: metrics.jsonl, TensorBoard, a progress bar."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter


def keep_lines_until(path: Path, step: int) -> None:
    """Drops what a killed run wrote behind the checkpoint that it goes on from.

    Lines of later steps would stand there twice; a last line that was cut off is dropped too. The
    file is replaced at once, so a kill in between leaves the old or the new one.

    Args:
      path: metrics.jsonl; nothing happens where it is missing.
      step: The last step to keep.
    """
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        try:
            values = json.loads(line)
        except ValueError:
            continue
        if line.endswith("\n") and values["step"] <= step:
            kept.append(line)
    aside = path.with_suffix(".jsonl.partial")
    aside.write_text("".join(kept), encoding="utf-8")
    os.replace(aside, path)


class Journal:
    """Writes lines of metrics to metrics.jsonl and to TensorBoard.

    Args:
      workdir: The run's directory.
      step: The step that the run starts from.
    """

    def __init__(self, workdir: Path, step: int) -> None:
        path = workdir / "metrics.jsonl"
        keep_lines_until(path, step)
        self._file = path.open("a", encoding="utf-8")
        self._writer = SummaryWriter(str(workdir / "tensorboard"), purge_step=step)

    def write(self, step: int, kind: str, values: Mapping[str, Any]) -> None:
        """One line {"step", "kind", values}; numbers go to TensorBoard as kind/name.

        Args:
          step: Steps done.
          kind: `train` or `valid`.
          values: JSON values by name.
        """
        self._file.write(json.dumps({"step": step, "kind": kind, **values}) + "\n")
        self._file.flush()
        for name, value in values.items():
            if isinstance(value, int | float):
                self._writer.add_scalar(f"{kind}/{name}", value, step)

    def close(self) -> None:
        """Writes what is still held back."""
        self._file.close()
        self._writer.close()
