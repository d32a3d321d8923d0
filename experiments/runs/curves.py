"""Writes curves and settings for TensorBoard in the caller's thread.

tensorboardX's SummaryWriter passes events to a thread through a queue of ten. If that thread ends,
for example on a full disk, the queue fills up and the run waits forever. Here the caller gets the
OSError.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import hparams, scalar

_FLUSH_SECONDS = 30.0
"""Seconds that a curve may lag."""


class Curves:
    """One event file; each start of a run makes its own.

    Args:
      directory: Holds all the run's event files; created if it is missing.
      step: The step from which the run starts; later points in other files are not shown.
      settings: Settings of the run, for the table of hyperparameters.
      metrics: The curves whose last values that table shows.
    """

    def __init__(
        self,
        directory: Path,
        step: int,
        settings: Mapping[str, bool | float | str] = MappingProxyType({}),
        metrics: Sequence[str] = (),
    ) -> None:
        directory.mkdir(exist_ok=True)
        # File names contain the second, and a run may be started twice within one.
        self._writer = EventsWriter(str(directory / "events"), f".{time.time_ns()}")
        start = SessionLog(status=SessionLog.START)
        self._write(Event(step=step + 1, session_log=start))
        if settings:
            # The table's columns, and the row of this run; its third part would say that it ended.
            for summary in hparams(dict(settings), dict.fromkeys(metrics))[:2]:
                self._write(Event(summary=summary))
        self._flushed = 0.0

    def add(self, name: str, value: float, step: int) -> None:
        """Adds a point to the curve `name`."""
        self._write(Event(step=step, summary=scalar(name, value)))
        if time.monotonic() - self._flushed > _FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Writes everything so far to disk."""
        self._writer.flush()
        self._flushed = time.monotonic()

    def close(self) -> None:
        """Writes the rest, and closes the file."""
        self._writer.close()

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        self._writer.write_event(event)
