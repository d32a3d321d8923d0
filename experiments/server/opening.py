"""Opens the store that --store names: a file, or a Redis."""

import importlib.util
from pathlib import Path

from data_pipelines.directories import require_outside
from data_pipelines.errors import DataError
from experiments.server.store import Store

_SCHEMES = ("redis", "rediss")


def is_url(place: str) -> bool:
    """Whether it names a server and no file."""
    return "://" in place


def open_store(place: str) -> tuple[Store, list[str]]:
    """Opens a store; makes the file if there is none.

    Args:
      place: A file, or a URL such as redis://host:6379/0.

    Returns:
      The store, and lines about what can lose accepted events.

    Raises:
      DataError: The place cannot be used, or the client of Redis is not installed.
      StoreError: The store cannot be used.
    """
    # These import packages of the extra.
    if not is_url(place):
        from experiments.server.sqlite_store import SqliteStore

        require_outside("store", Path(place))
        return SqliteStore(place), []
    if place.partition("://")[0] not in _SCHEMES:
        raise DataError(f"store={place}: must be a file, or a URL such as redis://host:6379/0")
    if importlib.util.find_spec("redis") is None:
        raise DataError("redis is not installed; run: pip install 'hiertcn_jax[serve]'")
    from experiments.server.redis_store import RedisStore

    store = RedisStore(place)
    return store, store.risks()
