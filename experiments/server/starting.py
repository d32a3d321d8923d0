"""What a server does first, so that it starts quickly."""

import hashlib
import sys
from pathlib import Path

from hiertcn_jax.exported.layout import MANIFEST
from hiertcn_jax.exported.reading import Export

_BLAS = "scipy.linalg"


def load_numba() -> None:
    """Loads what numba needs to run functions that it has compiled before, but for SciPy.

    numba imports `scipy.linalg`, a fifth of a second, to learn whether there is a BLAS for products
    of matrices; the compiled functions of a server have none. numba is told that there is none, and
    SciPy can be imported afterwards.
    """
    if _BLAS in sys.modules:
        return
    sys.modules[_BLAS] = None  # type: ignore[assignment]
    try:
        import numba.np.arraymath  # noqa: F401
    finally:
        del sys.modules[_BLAS]


def read_export(directory: Path) -> Export:
    """An export, with all that answers need read and checked.

    Raises:
      ExportError: It is none, or damaged.
    """
    export = Export(directory)
    # These are read when they are first asked for.
    _ = export.items, export.titles, export.users, export.start
    return export


def version_of(export: Export) -> str:
    """Tells the export from all others: the hash of its manifest, which has those of its files."""
    return hashlib.sha256((export.directory / MANIFEST).read_bytes()).hexdigest()[:16]
