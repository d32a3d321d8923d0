"""experiments.replay: what it scores at each moment, and what it keeps."""

import json

import numpy as np
import polars as pl
import pytest
from absl import flags
from absl.testing import flagsaver

from data_pipelines.errors import DataError
from data_pipelines.histories.record import Split
from experiments import replay
from experiments.judging.rankers import evaluate_ranker, fitted_histories, ranker_for
from experiments.replaying import scoring
from experiments.replaying.walk import parse_every, parse_update, periods_of, seen_from
from experiments.runs.data import open_data
from hiertcn_jax.memory.levels import parse
from tests.experiments.conftest import prepared
from tests.experiments.small_runs import run_train


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    return prepared(tmp_path_factory.mktemp("log") / "D", users=30, split="time")


@pytest.fixture(scope="module")
def live(fitted):
    return open_data(fitted.directory, "live")


def run(data, *arguments):
    with flagsaver.flagsaver():
        replay.define_flags()
        flags.FLAGS(["replay", f"--data_dir={data.directory}", *arguments])
        replay.main(replay.read_settings())


RANKERS = ("--rankers=rolling_popularity,popularity", "--every=2d")


@pytest.fixture(scope="module")
def replayed(live, tmp_path_factory):
    directory = tmp_path_factory.mktemp("replay") / "R"
    run(live, *RANKERS, "--update=never,counts,train", f"--output_dir={directory}")
    return directory, json.loads((directory / "replay.json").read_text())


def test_counts_are_those_of_an_evaluation_at_live(live, replayed):
    ranker = ranker_for("rolling_popularity", live, {}, parse("live"))
    ranker.fit(fitted_histories(live, "train", parse("live")))
    metrics = evaluate_ranker(ranker, live, Split.TEST).metrics
    row = replayed[1]["models"]["rolling_popularity (counts)"]
    assert row["events"] == metrics["events"]
    assert row["events_hash"] == metrics["events_hash"]
    for group in ("all", "first", "next"):
        assert row[group]["mrr"] == pytest.approx(metrics[group]["mrr"])


def test_rows_score_the_same_events_and_slices_divide_them(live, replayed):
    rows = replayed[1]["models"]
    assert set(rows) == {
        "rolling_popularity (never)", "rolling_popularity (counts)", "rolling_popularity (train)",
        "popularity (never)", "popularity (train)",
    }  # fmt: skip
    assert len({row["events_hash"] for row in rows.values()}) == 1
    for row in rows.values():
        for by in row["slices"].values():
            assert sum(one["events"] for one in by["bins"]) == row["events"]
    mrr = {name: row["all"]["mrr"] for name, row in rows.items()}
    # Fitting it anew adds nothing to counts that are live already.
    assert mrr["rolling_popularity (train)"] == mrr["rolling_popularity (counts)"]
    assert mrr["popularity (train)"] != mrr["popularity (never)"]


def test_a_period_is_scored_with_what_was_known_at_its_start(live, replayed):
    directory, _ = replayed
    first = live.manifest["cuts"]["test_after"]
    periods = periods_of(live, first, 2 * 86_400)
    assert (
        len(periods.starts)
        == len(list((directory / "ranks" / "popularity_(train)").glob("*.parquet")))
        > 1
    )
    start, end = periods.bounds[1]
    seen = seen_from(live, start, end)
    ranker = ranker_for("popularity", seen, {})
    ranker.fit(fitted_histories(seen, "train"))
    evaluation = evaluate_ranker(ranker, seen, Split.TEST)
    found = pl.read_parquet(directory / "ranks" / "popularity_(train)" / "00001.parquet")
    assert found["rank"].to_list() == evaluation.rank_n.tolist()
    counts_v = np.zeros(live.vocabulary.size)
    for history in live.histories.__getitems__(range(len(live.histories))):
        starts = np.cumsum(history.session_lengths) - history.session_lengths
        kept = np.repeat(history.times[starts] < start, history.session_lengths)
        np.add.at(counts_v, history.item_ids[kept & (history.times < start)], 1)
    np.testing.assert_array_equal(ranker.counts_v[2:], counts_v[2:])


def test_the_same_command_resumes(live, replayed, monkeypatch):
    directory, values = replayed
    path = directory / "ranks" / "popularity_(train)" / "00000.parquet"
    kept = path.read_bytes()
    path.unlink()
    scored = []
    score = scoring._score
    monkeypatch.setattr(scoring, "_score", lambda *a: scored.append(a[3]) or score(*a))
    run(live, *RANKERS, "--update=never,counts,train", f"--output_dir={directory}")
    assert len(scored) == 1
    again = json.loads((directory / "replay.json").read_text())
    rows = (row["models"]["popularity (train)"]["slices"] for row in (values, again))
    assert next(rows) == next(rows)
    one, other = (pl.read_parquet(part) for part in (path, kept))
    assert one.select(scoring.COLUMNS).equals(other.select(scoring.COLUMNS))
    with pytest.raises(DataError, match=r"made with other settings: starts, end|starts"):
        run(live, "--rankers=rolling_popularity,popularity", "--every=3d",
            f"--output_dir={directory}")  # fmt: skip


def test_a_model_is_replayed_into_its_workdir(fitted, live, tmp_path, capsys):
    workdir = tmp_path / "W"
    run_train(fitted, workdir, "--memory=world", "--loss=cross_entropy", "--steps=4")
    run(live, f"--workdir={workdir}", "--update=counts:6h", "--every=3d")
    values = json.loads((workdir / "replay" / "replay.json").read_text())
    assert list(values["models"]) == ["hiertcn (counts:6h)"]
    said = capsys.readouterr().out
    assert "hiertcn (counts:6h)" in said
    assert said.endswith(f"\nlook at it: hiertcn report --workdir={workdir} --output=report.html\n")
    with pytest.raises(DataError, match=r"from=.+: the model was fitted on events until .+; set"):
        run(live, f"--workdir={workdir}", "--from=1700000000", f"--output_dir={tmp_path / 'R'}")


def test_what_is_no_update_or_period_is_refused():
    with pytest.raises(ValueError, match="update=state: must be never, counts, counts:15m"):
        parse_update("state")
    with pytest.raises(ValueError, match="every=1: must be a number of m, h or d"):
        parse_every("1")
    assert parse_every("6h") == 21_600
