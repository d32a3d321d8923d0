"""A small prepared log, to be damaged in copies; and an end to a test that hangs."""

import pytest

from data_pipelines.config import PrepareConfig
from data_pipelines.prepare import prepare
from tests.hostile.limits import limited

_LIMIT_SECONDS = 300.0
"""For a test, of all its inputs; far above what any takes: only to fail where it would hang."""


@pytest.fixture(scope="session")
def prepared_dir(tmp_path_factory):
    """Its name is not in it, so that damage drawn for it is the same everywhere."""
    parent = tmp_path_factory.mktemp("prepared")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(parent)
        prepare(PrepareConfig(synthetic="planted", synthetic_users=20, output_dir="D"))
    return parent / "D"


@pytest.fixture(autouse=True)
def hangs_are_failures():
    with limited(_LIMIT_SECONDS):
        yield
