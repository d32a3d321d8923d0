"""A small prepared log and a run on it, to damage in copies; a time limit for each test."""

import gc
import sys

import pytest

from data_pipelines.config import PrepareConfig
from data_pipelines.prepare import prepare
from experiments.runs.data import open_data
from experiments.runs.resolve import resolve
from experiments.runs.train_loop import train
from tests.hostile.checkpoint_folders import RUN
from tests.hostile.limits import limited

_LIMIT_SECONDS = 300.0
"""Limit in seconds for a test with all its inputs; far above what any takes."""


@pytest.fixture(scope="session")
def prepared_dir(tmp_path_factory):
    """The log does not contain its path, so that drawn damage is the same everywhere."""
    parent = tmp_path_factory.mktemp("prepared")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(parent)
        prepare(PrepareConfig(synthetic="planted", synthetic_users=20, output_dir="D"))
    return parent / "D"


@pytest.fixture(scope="session")
def workdir(prepared_dir, tmp_path_factory):
    """The workdir of a complete run."""
    directory = tmp_path_factory.mktemp("run") / "W"
    directory.mkdir()
    train(resolve(RUN, open_data(prepared_dir)), directory)
    return directory


@pytest.fixture
def unheard_late_errors(monkeypatch):
    """Orbax starts all its reads; after one fails, others fail when nobody waits for them."""
    with monkeypatch.context() as patch:
        patch.setattr(sys, "unraisablehook", lambda _: None)
        yield
        gc.collect()


@pytest.fixture(autouse=True)
def hangs_are_failures():
    with limited(_LIMIT_SECONDS):
        yield
