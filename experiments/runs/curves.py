"""Curves for TensorBoard, written in the caller's thread.

tensorboardX's SummaryWriter hands events to a thread through a queue of ten. Where that thread
ends, on a full disk say, the queue fills up and the run waits for ever. Here the caller gets the
OSError.
"""

import time
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

_FLUSH_SECONDS = 30.0
"""What a curve may lag behind."""


class Curves:
    """One event file; each start of a run makes one of its own.

    Args:
      directory: Of all the run's event files; made where it is missing.
      step: The step that the run starts from: what stands behind it in other files is not shown.
    """

    def __init__(self, directory: Path, step: int) -> None:
        directory.mkdir(exist_ok=True)
        # Names carry the second, and a run may be started twice in one.
        self._writer = EventsWriter(str(directory / "events"), f".{time.time_ns()}")
        start = SessionLog(status=SessionLog.START)
        self._write(Event(step=step + 1, session_log=start))
        self._flushed = 0.0

    def add(self, name: str, value: float, step: int) -> None:
        """One point of the curve `name`."""
        self._write(Event(step=step, summary=scalar(name, value)))
        if time.monotonic() - self._flushed > _FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Everything so far is on the disk."""
        self._writer.flush()
        self._flushed = time.monotonic()

    def close(self) -> None:
        """The end."""
        self._writer.close()

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        self._writer.write_event(event)
