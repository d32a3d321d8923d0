"""Stops a run on request: it finishes its step and saves before it ends."""

import ctypes
import os
import signal
import sys
from types import FrameType, TracebackType
from typing import Any, NoReturn

import jax
from jax.experimental import multihost_utils

from data_pipelines.commands.command import StoppedError


class StopSignals:
    """Within its context SIGTERM and SIGINT are remembered; the same signal again ends the process.

    Several processes must stop after the same step. There JAX handles SIGTERM: it tells all
    processes, and they agree on the call of `asked` at which all of them stop.
    """

    def __init__(self) -> None:
        self._number: int | None = None
        self._handlers: dict[signal.Signals, Any] = {}
        self._shared = jax.process_count() > 1
        self._questions, self._agreed = 0, False

    def __enter__(self) -> "StopSignals":
        kinds = (signal.SIGTERM, signal.SIGINT)
        self._handlers = {kind: signal.getsignal(kind) for kind in kinds}
        if self._shared:
            # Python does not know JAX's handler for SIGTERM; at the end the earlier one is
            # restored.
            signal.signal(signal.SIGINT, self._pass_on)
        else:
            for kind in kinds:
                signal.signal(kind, self._remember)
        for kind in kinds:
            _catch_once(kind)
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    @property
    def asked(self) -> bool:
        """Whether the run was asked to stop. All processes must call this equally often."""
        if self._shared and not self._agreed:
            self._questions += 1
            self._agreed = multihost_utils.reached_preemption_sync_point(self._questions)
            if self._agreed:
                self._number = self._number or signal.SIGTERM
        return self._agreed if self._shared else self._number is not None

    def end(self, step: int) -> NoReturn:
        """Ends the program after a request to stop.

        Args:
          step: The last step, which is saved.

        Raises:
          StoppedError: Always.
        """
        assert self._number is not None
        where = f"at step {step}, which is saved" if step else ""
        raise StoppedError(self._number, where, by_all=self._shared)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        """Turns SIGINT into the SIGTERM that JAX waits for."""
        self._remember(number, frame)
        os.kill(os.getpid(), signal.SIGTERM)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        # A second signal means: do not wait. Python handles it where the system does not.
        signal.signal(number, signal.SIG_DFL)
        self._number = self._number or number


def _catch_once(number: int) -> None:
    """Makes the system restore a signal's default action once the current handler catches it.

    Python's handlers wait until native code returns: a compilation takes minutes, and an operation
    with a missing process may take forever. Needs glibc, which alone has this function.
    """
    library = ctypes.CDLL(None)
    if sys.platform != "linux" or not hasattr(library, "sysv_signal"):
        return
    set_handler = library.sysv_signal
    set_handler.argtypes, set_handler.restype = [ctypes.c_int, ctypes.c_void_p], ctypes.c_void_p
    set_handler(number, set_handler(number, int(signal.SIG_DFL)))
