"""A log played through the server gets the ranks of an evaluation with live counts."""

import json
import threading

import polars as pl
import pytest
from absl import flags
from absl.testing import flagsaver

from data_pipelines.errors import DataError
from data_pipelines.histories.events import blocks_of
from data_pipelines.histories.record import Split
from experiments import evaluate, export, replay
from experiments.replaying.served import events_from, rank_in
from experiments.runs.data import open_data
from experiments.server.app import make_app
from experiments.server.engine import Engine
from experiments.server.running import make_server, open_socket
from experiments.server.sqlite_store import SqliteStore
from experiments.server.worker import Worker
from hiertcn_jax.exported.reading import Export


def run(module, *arguments):
    with flagsaver.flagsaver():
        module.define_flags()
        flags.FLAGS(["command", *arguments])
        module.main(module.read_settings())


@pytest.fixture(scope="module")
def log(by_time):
    return by_time


@pytest.fixture(scope="module")
def workdir(by_time_run):
    return by_time_run


@pytest.fixture(scope="module")
def exported(log, workdir, tmp_path_factory):
    """As it was when test began."""
    directory = tmp_path_factory.mktemp("export") / "X"
    until = log.manifest["cuts"]["test_after"]
    run(export, f"--workdir={workdir}", f"--output_dir={directory}", f"--until={until}")
    return Export(directory)


@pytest.fixture(scope="module")
def evaluated(workdir, tmp_path_factory):
    """Ranks of `evaluate --counts=live`."""
    path = tmp_path_factory.mktemp("ranks") / "ranks.parquet"
    run(evaluate, f"--workdir={workdir}", "--counts=live", f"--ranks_out={path}")
    return in_order(pl.read_parquet(path))


def in_order(frame):
    return frame.with_columns(pl.col("user_id", "item_id").cast(pl.String)).sort(
        "user_id", "session", "position"
    )


def assert_equal(played, evaluated):
    same = ["user_id", "session", "position", "item_id"]
    assert played.select(same).equals(evaluated.select(same).cast(played.select(same).schema))
    assert played["rank"].to_list() == pytest.approx(evaluated["rank"].to_list(), abs=0.5)
    assert (played["rank"] - evaluated["rank"]).abs().mean() < 0.01


def test_ranks_are_those_of_an_evaluation_with_live_counts(log, exported, evaluated, tmp_path):
    run(
        replay,
        f"--data_dir={log.directory}",
        f"--export_dir={exported.directory}",
        f"--output_dir={tmp_path / 'R'}",
    )
    played = in_order(pl.read_parquet(tmp_path / "R" / "served_ranks.parquet"))
    assert_equal(played, evaluated)
    found = json.loads((tmp_path / "R" / "served.json").read_text())
    assert found["all"]["events"] == len(evaluated)
    assert found["all"]["recall@20"] == pytest.approx((evaluated["rank"] <= 20).mean(), abs=1e-3)
    assert found["all"]["mrr"] == pytest.approx((1 / evaluated["rank"]).mean(), abs=1e-3)
    assert found["duplicates"] == found["beyond_the_answer"] == 0


def test_over_http_it_is_the_same(log, exported, evaluated, tmp_path):
    server = make_server(make_app(Worker(Engine(exported, SqliteStore(tmp_path / "s.db")))))
    listening = open_socket("127.0.0.1", 0)
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    try:
        run(
            replay,
            f"--data_dir={log.directory}",
            f"--export_dir={exported.directory}",
            f"--output_dir={tmp_path / 'R'}",
            f"--url=http://127.0.0.1:{listening.getsockname()[1]}",
        )
    finally:
        server.should_exit = True
        thread.join()
        listening.close()
    assert_equal(in_order(pl.read_parquet(tmp_path / "R" / "served_ranks.parquet")), evaluated)


def test_an_export_ends_where_it_is_cut(log, exported):
    cut = log.manifest["cuts"]["test_after"]
    assert exported.newest < cut
    after = events_from(open_data(log.directory), exported.newest, Split.TEST)
    assert min(event.time for event in after) >= cut
    assert sorted(event.time for event in after) == [event.time for event in after]
    histories = [one for _, block in blocks_of(log.histories) for one in block]
    counted = sum(int((one.times < cut).sum()) for one in histories)
    assert len(after) + counted == sum(len(one.times) for one in histories)
    assert any(event.is_scored for event in after)


def test_an_export_of_the_whole_log_is_refused(log, workdir, exported, tmp_path, monkeypatch):
    place = (f"--data_dir={log.directory}", f"--output_dir={tmp_path / 'R'}")
    given = f"--export_dir={exported.directory}"
    with pytest.raises(ValueError, match="flag --workdir: cannot be used with --export_dir"):
        run(replay, *place, given, f"--workdir={workdir}")
    monkeypatch.setattr(Export, "newest", 2**40)
    with pytest.raises(DataError, match="no event of test comes after the export's last one"):
        run(replay, *place, given)
    with pytest.raises(DataError, match="no event before --until=5; set it later"):
        run(export, f"--workdir={workdir}", f"--output_dir={tmp_path / 'Y'}", "--until=5")


def test_ranks_with_ties():
    found = [("a", 3.0), ("b", 2.0), ("c", 2.0), ("d", 1.0)]
    assert [rank_in(found, item) for item in "abcde"] == [1, 2.5, 2.5, 4, None]
