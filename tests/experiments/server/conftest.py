"""One small export with terms of memory, titles and three users; servers of it at a set time."""

import itertools
import json

import numpy as np
import pytest
import redis

from benchmarks.redis_server import RedisServer
from experiments.server.engine import Engine
from experiments.server.opening import open_store
from hiertcn_jax.exported.layout import MANIFEST
from hiertcn_jax.exporting.directory import UsersToExport
from hiertcn_jax.saving.checksums import write_checksums
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


def seal(folder, **facts):
    """Writes the manifest of files that were changed."""
    said = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).unlink()
    del said["files"]
    write_checksums(folder, MANIFEST, {**said, **facts})


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store_file(tmp_path):
    return tmp_path / "shop.db"


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory):
    """A private Redis."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.kill()


@pytest.fixture
def database(redis_server):
    """The URL of an empty database."""
    url = redis_server.url(next(_databases) % 16)
    with redis.Redis.from_url(url) as client:
        client.flushdb()
    return url


_databases = itertools.count()


@pytest.fixture(params=["file", "redis"])
def place(request):
    """Where a store is to be: each test runs once with a file, and once with Redis."""
    name = {"file": "store_file", "redis": "database"}[request.param]
    return str(request.getfixturevalue(name))


@pytest.fixture
def engine(export, place, clock):
    engine = Engine(export, open_store(place)[0], clock)
    yield engine
    engine.close()
