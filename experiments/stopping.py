"""Asked to stop: a run finishes its step and saves before it ends."""

import os
import signal
from types import FrameType, TracebackType
from typing import Any, NoReturn

import jax
from jax.experimental import multihost_utils

from data_pipelines.command import StoppedError


class StopSignals:
    """In its context SIGTERM and SIGINT are remembered; the same signal again ends the process.

    Several processes have to stop behind the same step. There SIGTERM is JAX's to catch: it tells
    all processes, and they agree on the question of `asked` at which all of them stop.
    """

    def __init__(self) -> None:
        self._number: int | None = None
        self._handlers: dict[int, Any] = {}
        self._shared = jax.process_count() > 1
        self._questions, self._agreed = 0, False

    def __enter__(self) -> "StopSignals":
        if self._shared:
            # Python knows nothing of JAX's handler; that of before is set again at the end.
            self._handlers[signal.SIGTERM] = signal.getsignal(signal.SIGTERM)
            self._handlers[signal.SIGINT] = signal.signal(signal.SIGINT, self._pass_on)
            return self
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
        """Whether the run was asked to stop. Of several processes all have to ask equally often."""
        if self._shared and not self._agreed:
            self._questions += 1
            self._agreed = multihost_utils.reached_preemption_sync_point(self._questions)
            if self._agreed:
                self._number = self._number or signal.SIGTERM
        return self._agreed if self._shared else self._number is not None

    def end(self, step: int) -> NoReturn:
        """Ends the program, which was asked to stop.

        Args:
          step: The last step, which is saved.

        Raises:
          StoppedError: Always.
        """
        assert self._number is not None
        where = f"at step {step}, which is saved" if step else ""
        raise StoppedError(self._number, where, by_all=self._shared)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        """SIGINT as the SIGTERM that JAX waits for."""
        signal.signal(number, signal.SIG_DFL)
        self._number = number
        os.kill(os.getpid(), signal.SIGTERM)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        # What asks twice does not want to wait, not even for a compilation.
        signal.signal(number, signal.SIG_DFL)
        self._number = self._number or number
