"""A tiny prepared log for the tests of the commands."""

import pytest

from data_pipelines.config import PrepareConfig
from data_pipelines.prepare import prepare
from experiments.data import open_data


def prepared(directory, users=40, seed=0):
    """A synthetic log of few users; many of its test events are on items unknown to training."""
    prepare(
        PrepareConfig(
            synthetic="planted", synthetic_users=users, seed=seed, output_dir=str(directory)
        )
    )
    return open_data(directory)


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    return prepared(tmp_path_factory.mktemp("log") / "data")
