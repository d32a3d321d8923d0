"""One small export with terms of memory, titles and three users; servers of it at a set time."""

import numpy as np
import pytest

from experiments.server.engine import Engine
from experiments.server.sqlite_store import SqliteStore
from hiertcn_jax.exporting.directory import UsersToExport
from hiertcn_jax.serving.user_states import Events
from tests.exporting.test_directory import WITH_MEMORY, exported

NEWEST = 1_700_000_000
"""Of the export's log."""
NOW = NEWEST + 20_000_000
"""After all that the export's counts know."""


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self):
        self.now = NOW

    def __call__(self):
        return self.now


def log_of(user):
    """The log has two sessions of each user."""
    times = NEWEST - np.array([90_000, 89_940, 60, 0]) - user
    return Events(
        np.array([2, 3, 1, 4 + user], np.int32), times, np.array([True, False, True, False])
    )


@pytest.fixture(scope="session")
def export(tmp_path_factory):
    blocks = [(["a", "b", "c"], [log_of(user) for user in range(3)])]
    users = UsersToExport(blocks, 3, 12)
    return exported(tmp_path_factory.mktemp("export"), WITH_MEMORY, users, titled=True)[2]


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store_file(tmp_path):
    return tmp_path / "shop.db"


@pytest.fixture
def engine(export, store_file, clock):
    engine = Engine(export, SqliteStore(store_file), clock)
    yield engine
    engine.close()
