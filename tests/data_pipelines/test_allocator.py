"""Freed memory is used again, without the system."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")

SCRIPT = """
import resource
import sys

import numpy as np

from data_pipelines.allocator import keep_freed_memory

if sys.argv[1] == "keep":
    keep_freed_memory()
for _ in range(2):
    np.ones(2**22)  # 32 MiB: 8,192 pages of 4 KiB.
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    np.ones(2**22)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(mode: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, mode], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


def test_large_arrays_get_the_pages_of_freed_ones():
    kept, given_back = faults("keep"), faults("default")
    assert kept < 100
    assert given_back > 10 * kept


GIVES_BACK = """
import os

from data_pipelines.allocator import give_back_freed_memory, keep_freed_memory


def resident_mb():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6


keep_freed_memory()
pieces = [bytearray(10_000) for _ in range(10_000)]  # 100 MB, every tenth of it in use.
pieces = pieces[::10]
before = resident_mb()
give_back_freed_memory()
print(before - resident_mb())
"""


def test_freed_pieces_between_others_are_given_back():
    done = subprocess.run(
        [sys.executable, "-c", GIVES_BACK], capture_output=True, text=True, check=True
    )
    assert 60 < float(done.stdout) < 95
