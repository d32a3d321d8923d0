"""Makes a test that hangs fail, and name its input."""

import contextlib
import faulthandler
import signal
import sys

import pytest


@contextlib.contextmanager
def limited(seconds):
    """Within this context a test fails once it takes longer, for example by waiting for a FIFO.

    If native code hangs, where no exception arrives, this ends the whole process a little later,
    with a traceback; the process that started the tests then reports the test's name.
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
    """Fails the test, but not with an error, which might be taken for a refusal."""
    pytest.fail(f"hangs at {_input_of(frame)}")


def _input_of(frame):
    """The current input: tests number theirs `seed`, or name them `case`."""
    while frame is not None:
        for name in ("seed", "case"):
            if name in frame.f_locals:
                return f"{name} {frame.f_locals[name]}"
        frame = frame.f_back
    return "an input without a number"
