"""A small prepared log, to be damaged in copies."""

import pytest

from data_pipelines.config import PrepareConfig
from data_pipelines.prepare import prepare


@pytest.fixture(scope="session")
def prepared_dir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("prepared") / "D"
    prepare(PrepareConfig(synthetic="planted", synthetic_users=20, output_dir=str(directory)))
    return directory
