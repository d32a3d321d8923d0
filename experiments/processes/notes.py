"""Notes that the processes of a run leave for each other, in the service that JAX starts for them.

`jax.distributed` keeps a store of texts that every process reaches as long as the first one lives,
even while another is silent or the main thread waits for a device. JAX has no public way to it, and
Orbax uses the private one too. This is the only module that reads a private name of JAX.
"""

from typing import Any, Protocol

import jax


class Notes(Protocol):
    """The store: texts by key."""

    def key_value_set(self, key: str, value: str, allow_overwrite: bool = False) -> None:
        """Leaves a note."""

    def key_value_dir_get(self, key: str) -> list[tuple[str, str]]:
        """The keys and values of all notes whose key begins so."""


def notes_of_jax() -> Notes:
    """The store of the processes that `jax.distributed.initialize` has joined.

    Raises:
      RuntimeError: This version of JAX keeps it elsewhere, or no processes are joined.
    """
    try:
        notes: Any = jax._src.distributed.global_state.client
    except AttributeError as error:
        raise RuntimeError(
            f"jax {jax.__version__} keeps the notes of processes elsewhere; use a version that "
            "pyproject.toml allows"
        ) from error
    if notes is None:
        raise RuntimeError("no processes are joined")
    return notes
