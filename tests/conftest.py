"""Every test runs on CPU, with the annotations of the library checked at run time."""

import atexit
import gc
import importlib.metadata
import os
import tempfile

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Simulated devices, for tests with several; all other tests use the first.
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "8")
# One thread for each test process, since xdist keeps the cores busy. Tests compile more than they
# compute, so the compiler optimizes little, and uses its older emitters, which take a third of the
# time. An unknown XLA flag ends the process, so flags are set only for versions known to have them.
_flags = ["--xla_cpu_multi_thread_eigen=false", "--xla_backend_optimization_level=0"]
if importlib.metadata.version("jaxlib").startswith("0.10."):
    _flags.append("--xla_cpu_use_fusion_emitters=false")
os.environ.setdefault("XLA_FLAGS", " ".join(_flags))

# Tests make the same programs again and again; each process compiles a program once. Processes do
# not share a cache, because JAX would read what another process has half written.
_programs = tempfile.TemporaryDirectory(prefix="hiertcn_jax_programs_")
atexit.register(_programs.cleanup)
os.environ["JAX_COMPILATION_CACHE_DIR"] = _programs.name
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

import pkgutil

from jaxtyping import install_import_hook

import hiertcn_jax
import tests.typecheck  # noqa: F401  (the hook finds it by name)
from tests.volume import (  # noqa: F401  (hooks of pytest)
    pytest_addoption,
    pytest_collection_modifyitems,
    pytest_configure,
)

# Not functions that numba compiles, because numba cannot compile the checks.
_checked = [m.name for m in pkgutil.iter_modules(hiertcn_jax.__path__) if m.name != "memory"]
install_import_hook(
    [f"hiertcn_jax.{name}" for name in (*_checked, "memory.memory", "memory.terms")],
    "tests.typecheck.check",
)

from hypothesis import settings

# Tests never time anything: on a busy machine a deadline fails correct code.
settings.register_profile("hiertcn_jax", deadline=None)
settings.load_profile("hiertcn_jax")


def pytest_collection_finish():
    """What the imports made stays; looking through it at each garbage collection takes time."""
    gc.collect()
    gc.freeze()
