"""A log split by time: nothing from the cut on is fitted, by anything."""

import json

import numpy as np
import polars as pl
import pytest

from data_pipelines.config import PrepareConfig
from data_pipelines.histories.record import Split
from data_pipelines.lanes.loaders import train_loader
from data_pipelines.prepare import prepare
from data_pipelines.synthetic import SyntheticConfig, synthetic_log
from experiments.judging.rankers import fitted_histories
from experiments.runs.data import open_data
from experiments.runs.recall import recall_of
from hiertcn_jax.batch import Bucket
from hiertcn_jax.models import MODELS

FILTERS = {"min_item_events": 3, "min_user_events": 4, "max_user_events": 60}


def prepared(log, directory, **settings):
    directory.mkdir()
    log.write_parquet(directory / "log.parquet")
    config = PrepareConfig(
        input=(str(directory / "log.parquet"),),
        output_dir=str(directory / "D"),
        session_column="session_id",
        time_unit="s",
        split="time",
        allow_odd_times=True,
        **settings,
    )
    prepare(config)
    return open_data(config.output_dir)


@pytest.fixture(scope="module")
def log():
    """Sessions that are stretched, so that many cross a cut."""
    log = synthetic_log(SyntheticConfig(users=40))
    place = pl.int_range(pl.len()).over("user_id", "session_id")
    log = log.with_columns(timestamp=pl.col("timestamp") + 3000 * place)
    # Sessions of a user that overlap now are one.
    log = log.sort("user_id", "timestamp")
    pause = pl.col("timestamp").diff().fill_null(0).over("user_id") > 7200
    return log.with_columns(session_id=pause.cum_sum().over("user_id"))


@pytest.fixture(scope="module")
def cuts(log):
    return [int(log["timestamp"].quantile(share)) for share in (0.7, 0.85)]


@pytest.fixture(scope="module")
def logs(log, cuts, tmp_path_factory):
    """The log, and one with other items, users and events from the first cut on."""
    after = pl.col("timestamp") >= cuts[0]
    rng = np.random.default_rng(0)
    late = log.filter(after).sample(fraction=0.8, seed=1)
    late = late.with_columns(
        item_id=pl.lit("other ") + pl.Series(rng.integers(0, 9, len(late))).cast(pl.String),
        timestamp=pl.col("timestamp") + pl.Series(rng.integers(0, 50, len(late))),
    )
    other = pl.concat([log.filter(~after).with_columns(pl.col("item_id").cast(pl.String)), late])
    directory = tmp_path_factory.mktemp("by_time")
    bounds = {"valid_after": str(cuts[0]), "test_after": str(cuts[1])}
    log = log.with_columns(pl.col("item_id").cast(pl.String))
    return [
        prepared(one, directory / str(number), **bounds, **FILTERS)
        for number, one in enumerate((log, other))
    ]


def test_sessions_go_by_their_start_and_every_later_event_is_a_target(log, cuts, logs):
    data = logs[0]
    assert data.manifest["cuts"] == {"valid_after": cuts[0], "test_after": cuts[1]}
    start = log.group_by("user_id", "session_id").agg(pl.col("timestamp").min(), n=pl.len())
    expected = start.filter(pl.col("timestamp") >= cuts[1])
    test = data.manifest["counts"]["splits"]["test"]
    assert (test["sessions"], test["events"]["all"]) == (len(expected), expected["n"].sum())
    late = log.filter(pl.col("timestamp") >= cuts[0])
    histories = data.histories.__getitems__(range(len(data.histories)))
    times = np.concatenate([history.times for history in histories])
    assert (times >= cuts[0]).sum() == len(late)
    splits = [np.repeat(one.session_splits, one.session_lengths) for one in histories]
    crossing = (np.concatenate(splits) == Split.TRAIN) & (times >= cuts[0])
    assert crossing.sum() > 3


def test_nothing_from_the_cut_on_decides_what_is_fitted(logs):
    one, other = logs
    assert one.vocabulary.item_ids.equals(other.vocabulary.item_ids)
    np.testing.assert_array_equal(one.counts_v("train"), other.counts_v("train"))
    fits = [list(fitted_histories(data, "train")) for data in logs]
    assert len(fits[0]) == len(fits[1])
    for mine, theirs in zip(*fits, strict=True):
        for array, as_other in zip(mine, theirs, strict=True):
            np.testing.assert_array_equal(array, as_other)
    events = sum(len(mine.item_ids_n) for mine in fits[0])
    assert events == one.counts_v("train").sum()
    assert max(mine.times_n.max() for mine in fits[0]) < one.manifest["cuts"]["valid_after"]


def test_training_reads_nothing_from_the_cut_on(logs, cuts):
    for fit_on, cut in zip(("train", "train_valid"), cuts, strict=True):
        data = logs[0]
        last = Split.TRAIN if fit_on == "train" else Split.VALID
        assert data.cut(last) == cut
        loader = train_loader(
            data.histories, Bucket(4, 16, 8), seed=0, fit_on=fit_on, before=cut, prefetch=0
        )
        batches = iter(loader)
        times = np.concatenate([next(batches).info.time_bl.ravel() for _ in range(20)])
        assert cuts[0] - 20 * 86_400 < times.max() < cut


def test_memory_counts_nothing_from_the_cut_on(logs):
    asked = np.array([10**10]), np.zeros((1, 64), np.int32), np.zeros(1, np.int32)
    config = MODELS["memory"].config(memory=("world", "followers"))
    lists = [recall_of(data, config, "train").memory.lists(*asked) for data in logs]
    for array, as_other in zip(*lists, strict=True):
        np.testing.assert_array_equal(array, as_other)
    assert lists[0].features_nkf.any()


def test_filters_leave_every_event_after_the_cut(log, cuts, logs):
    rare = log.filter(pl.col("timestamp") < cuts[0]).group_by("item_id").len()
    rare = rare.filter(pl.col("len") < FILTERS["min_item_events"])["item_id"].cast(pl.String)
    assert len(rare) > 0
    assert not set(rare) & set(logs[0].vocabulary.item_ids)
    drops = {drop["reason"]: drop["events"] for drop in logs[0].manifest["drops"]}
    assert drops["min_item_events=3"] > 0
    flags = json.loads((logs[0].directory / "manifest.json").read_text())["flags"]
    assert flags["split"] == "time"
