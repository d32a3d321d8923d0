"""Compiled programs, which all processes of the tests share, and keep for the next run.

JAX finds a program by a hash of everything that it is compiled from: code, flags, versions. So an
entry of its cache is never out of date. But JAX writes it in place, so another process could read
half of one. Here a file gets its name when it is whole: JAX opens its cache through `epath`, where
a prefix chooses the class of a path. Commands in fresh interpreters do not know the prefix. They
read the entries and write none.
"""

import contextlib
import hashlib
import os
import platform
import tempfile
import time
from pathlib import Path

import jax
from etils import epath

_PREFIX = "whole://"
_UNUSED_DAYS = 7


class _WholePath(type(epath.Path())):
    """A path whose file is there whole or not at all; its time is that of the last use."""

    def write_bytes(self, data):
        with tempfile.NamedTemporaryFile(dir=self.parent, delete=False) as file:
            file.write(data)
        os.replace(file.name, self)

    def read_bytes(self):
        os.utime(self)
        return super().read_bytes()


@epath.register_path_cls(_PREFIX)
class _Prefixed:
    """Makes a `_WholePath` of a path with the prefix."""

    def __new__(cls, path):
        return _WholePath(path.removeprefix(_PREFIX))


def share_programs():
    """Lets this process read and write the programs, and the commands that it starts read them."""
    folder = Path(__file__).parents[1] / ".pytest_cache" / "programs" / _machine()
    _remove_unused(folder)
    options = {
        "jax_compilation_cache_dir": f"{_PREFIX}{folder}",
        "jax_persistent_cache_min_compile_time_secs": 0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    for name, value in options.items():
        jax.config.update(name, value)
        os.environ[name.upper()] = str(value)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "1e9"


def _machine():
    """A name for the kind of this machine: programs use all instructions of its processor."""
    words = [platform.machine()]
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        words += [line for line in lines if line.startswith(("flags", "Features"))][:1]
    return hashlib.sha256(" ".join(words).encode()).hexdigest()[:12]


def _remove_unused(folder):
    oldest = time.time() - 86_400 * _UNUSED_DAYS
    for path in folder.glob("*"):
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime < oldest:
                path.unlink()
