"""A test that hangs fails, and says at which input."""

import contextlib
import faulthandler
import signal
import sys

import pytest


@contextlib.contextmanager
def limited(seconds):
    """In its context a test fails once it takes longer: a FIFO or an endless file is waited for.

    What hangs in native code, where no exception gets to, ends the whole process a little later,
    with a traceback; the test's name is then said by whoever started the process.
    """
    before = signal.signal(signal.SIGALRM, _fail)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    faulthandler.dump_traceback_later(1.2 * seconds, exit=True, file=sys.__stderr__)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _fail(number, frame):
    """Not by an error, which might be taken for a refusal."""
    pytest.fail(f"hangs at {_input_of(frame)}")


def _input_of(frame):
    """Which input is worked on: tests number theirs `seed`, or name them `case`."""
    while frame is not None:
        for name in ("seed", "case"):
            if name in frame.f_locals:
                return f"{name} {frame.f_locals[name]}"
        frame = frame.f_back
    return "an input without a number"
