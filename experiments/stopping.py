"""Asked to stop: a run finishes its step and saves before it ends."""

import signal
from types import FrameType, TracebackType
from typing import Any, NoReturn

from data_pipelines.command import StoppedError


class StopSignals:
    """In its context SIGTERM and SIGINT are remembered; the same signal again ends the process.

    Several processes have to stop behind the same step. They would agree on it in `asked`, by
    `jax.experimental.multihost_utils.reached_preemption_sync_point(step)`.
    """

    def __init__(self) -> None:
        self._number: int | None = None
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> "StopSignals":
        for number in (signal.SIGTERM, signal.SIGINT):
            self._handlers[number] = signal.signal(number, self._remember)
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    @property
    def asked(self) -> bool:
        """Whether the run was asked to stop."""
        return self._number is not None

    def end(self, step: int) -> NoReturn:
        """Ends the program, which was asked to stop.

        Args:
          step: The last step, which is saved.

        Raises:
          StoppedError: Always.
        """
        assert self._number is not None
        raise StoppedError(self._number, f"at step {step}, which is saved" if step else "")

    def _remember(self, number: int, frame: FrameType | None) -> None:
        # What asks twice does not want to wait, not even for a compilation.
        signal.signal(number, signal.SIG_DFL)
        self._number = self._number or number
