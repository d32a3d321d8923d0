"""A test that would hang fails instead, and names its input."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hostile.limits import limited


def test_an_endless_wait_fails_with_the_number_of_its_input(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    before = signal.getsignal(signal.SIGALRM)
    for seed in range(17, 18):
        with (
            pytest.raises(pytest.fail.Exception, match=f"hangs at seed {seed}"),
            limited(0.05),
        ):
            fifo.read_bytes()
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


_HANGS_IN_NATIVE_CODE = """
import ctypes
from tests.hostile.limits import limited

mutex = ctypes.create_string_buffer(64)  # Of zeros, as PTHREAD_MUTEX_INITIALIZER.
with limited(0.05):
    for _ in range(2):
        ctypes.CDLL(None).pthread_mutex_lock(mutex)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a mutex of zeros is one of glibc or musl")
def test_hanging_native_code_ends_the_process():
    result = subprocess.run(
        [sys.executable, "-c", _HANGS_IN_NATIVE_CODE],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert "Timeout" in result.stderr


def test_all_tests_here_are_limited(request):
    assert "hangs_are_failures" in request.fixturenames
    assert signal.getitimer(signal.ITIMER_REAL)[0] > 0
