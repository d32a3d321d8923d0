"""Freed memory is reused, without the system, and by all threads."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")

SCRIPT = """
import resource
import sys

import numpy as np

from data_pipelines.commands.allocator import keep_freed_memory

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

from data_pipelines.commands.allocator import give_back_freed_memory, keep_freed_memory


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


ARENAS = """
import ctypes
import importlib
import sys

for module in sys.argv[1:]:
    importlib.import_module(module)

import jax

jax.devices()
libc = ctypes.CDLL(None)
libc.open_memstream.restype = ctypes.c_void_p
text, size = ctypes.c_char_p(), ctypes.c_size_t()
stream = ctypes.c_void_p(libc.open_memstream(ctypes.byref(text), ctypes.byref(size)))
libc.malloc_info(0, stream)
libc.fclose(stream)
print(text.value.count(b"<heap nr="))
"""


def arenas(*modules: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", ARENAS, *modules], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


def test_the_threads_of_a_command_share_one_heap():
    assert arenas("experiments.train") == 1
    assert arenas("polars", "experiments.train") > 1
