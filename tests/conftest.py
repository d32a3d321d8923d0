"""Every test runs on CPU, with the annotations of the library checked at run time."""

import contextlib
import gc
import importlib.metadata
import os
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Simulated devices, for tests with several; all other tests use the first.
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "8")
# One thread for each test process, since xdist keeps the cores busy. Tests compile more than they
# compute, so the compiler optimizes little, and uses its older emitters, which take a third of the
# time; to compile a program as a whole, not in parts for many cores, takes a quarter less again.
# An unknown XLA flag ends the process, so flags are set only for versions known to have them.
_flags = ["--xla_cpu_multi_thread_eigen=false", "--xla_backend_optimization_level=0"]
if importlib.metadata.version("jaxlib").startswith("0.10."):
    _flags += ["--xla_cpu_use_fusion_emitters=false", "--xla_cpu_parallel_codegen_split_count=1"]
os.environ.setdefault("XLA_FLAGS", " ".join(_flags))

from tests.programs import share_programs

share_programs()

import pkgutil

import jax
import pytest
from jaxtyping import install_import_hook

import hiertcn_jax
import tests.typecheck  # noqa: F401  (the hook finds it by name)
from tests.volume import (  # noqa: F401  (hooks of pytest)
    pytest_addoption,
    pytest_collection_modifyitems,
    pytest_configure,
)

# Not functions that numba compiles, because numba cannot compile the checks.
_names = {m.name for m in pkgutil.iter_modules(hiertcn_jax.__path__)} - {"memory", "serving"}
_serving = pkgutil.iter_modules([f"{hiertcn_jax.__path__[0]}/serving"])
_names |= {f"serving.{m.name}" for m in _serving if m.name != "following"}
_names |= {"memory.memory", "memory.terms"}
install_import_hook([f"hiertcn_jax.{name}" for name in _names], "tests.typecheck.check")

from hypothesis import settings

from data_pipelines.commands.allocator import give_back_freed_memory

# Tests never time anything: on a busy machine a deadline fails correct code.
settings.register_profile("hiertcn_jax", deadline=None)
settings.load_profile("hiertcn_jax")


# Tests compile thousands of programs, and tracing keeps what it made of each.
_MOST_RESIDENT_BYTES = 1_300_000_000


def pytest_collection_finish():
    """What the imports made stays; looking through it at each garbage collection takes time."""
    gc.collect()
    gc.freeze()
    # Tracing makes many objects, and few cycles.
    gc.set_threshold(20_000, 20, 20)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item, nextitem):
    """After a file: what compiling left is given back; a process that is still large forgets its
    programs, which are in the folder."""
    yield
    if nextitem is None or nextitem.path != item.path:
        give_back_freed_memory()
        with contextlib.suppress(OSError):
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            if pages * os.sysconf("SC_PAGE_SIZE") > _MOST_RESIDENT_BYTES:
                jax.clear_caches()
                gc.collect()
                give_back_freed_memory()
