"""Sizes that flags leave open fit the counts of a log; what is given stays."""

import dataclasses
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.runs.config import TrainConfig
from experiments.runs.fitted_sizes import fit_sizes
from experiments.runs.resume import keep_sizes

OPEN = ("lanes", "events", "sessions", "epochs", "patience")
COUNTS = st.integers(1, 10**6).flatmap(
    lambda sessions: st.tuples(st.integers(sessions, 1000 * sessions), st.just(sessions))
)


def sizes(train):
    return tuple(getattr(train, name) for name in OPEN)


@pytest.mark.parametrize(
    "events, sessions, fitted",
    [
        # 6,807 // 100 = 68 slots: the least is 512, 16 rows of 32. 1.5 * 32 * 2,979 / 6,807 = 21
        # sessions. 6,807 / 512 -> 14 steps an epoch: 36 epochs are 500 steps, 15 are 200.
        (6_807, 2_979, (16, 32, 24, 36, 15)),
        # 1,764 slots: 1,024 is the power of two below, 16 rows of 64. 22.5 sessions. 173 steps.
        (176_422, 41_365, (16, 64, 24, 10, 2)),
        # 1,458 slots -> 1,024; 4.7 sessions.
        (145_847, 7_187, (16, 64, 8, 10, 2)),
        # 1,254 slots -> 1,024; 10.6 sessions.
        (125_425, 13_784, (16, 64, 16, 10, 2)),
        # 2,908 slots -> 2,048; 30.3 sessions.
        (290_890, 91_796, (32, 64, 32, 10, 2)),
        # The most is 8,192.
        (10**9, 10**9, (128, 64, 64, 10, 2)),
        (1, 1, (16, 32, 32, 500, 200)),
    ],
    ids=["retailrocket", "ebnerd", "online_retail", "30music", "globo", "huge", "one_event"],
)
def test_the_counts_of_known_logs(events, sessions, fitted):
    assert sizes(fit_sizes(TrainConfig(), events, sessions)) == fitted


@given(COUNTS, st.integers(1, 12))
def test_whatever_the_log_there_are_enough_steps_and_nothing_is_open(counts, shares):
    events, sessions = counts
    train = fit_sizes(TrainConfig(), events, sessions, shares)
    lanes, row, slots, epochs, patience = sizes(train)
    assert lanes % shares == 0 and 1 <= slots <= row
    steps_per_epoch = math.ceil(events / (lanes * row))
    assert epochs >= 10 and epochs * steps_per_epoch >= 500
    assert patience * steps_per_epoch >= 200
    # As many sessions as this many events have on average fit into a row.
    assert slots >= min(row, row * sessions / events)
    assert fit_sizes(train, events, sessions, shares) == train


@given(COUNTS, st.fixed_dictionaries({}, optional=dict.fromkeys(OPEN, st.integers(1, 40))))
def test_given_sizes_stay(counts, given):
    train = fit_sizes(TrainConfig(**given), *counts)
    assert {name: getattr(train, name) for name in given} == given


@pytest.mark.parametrize("given", [{"epochs": 3}, {"steps": 70}, {"epochs": 3, "steps": 70}])
def test_with_a_given_length_training_is_not_stopped_early(given):
    assert fit_sizes(TrainConfig(**given), 10_000, 3_000).patience == 0
    assert fit_sizes(TrainConfig(**given, patience=4), 10_000, 3_000).patience == 4


def test_patience_counts_validations_however_far_apart():
    often = fit_sizes(TrainConfig(eval_every_epochs=0.5), 6_807, 2_979)
    seldom = fit_sizes(TrainConfig(eval_every_epochs=5), 6_807, 2_979)
    assert (often.patience, seldom.patience) == (29, 3)


@pytest.mark.parametrize("name", ["lanes", "events", "sessions"])
def test_a_batch_that_is_not_fitted_has_no_shape(name):
    train = dataclasses.replace(TrainConfig(lanes=1, events=2, sessions=2), **{name: "auto"})
    with pytest.raises(ValueError, match=f"^{name}=auto: must be fitted to the log first$"):
        _ = train.bucket


def checkpoint(directory, step, train):
    path = directory / str(step) / "config" / "metadata"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"train": train}) if isinstance(train, dict) else train)


def test_a_run_keeps_the_sizes_of_its_newest_checkpoint(tmp_path):
    had = {"lanes": 128, "events": 64, "sessions": 32, "epochs": 10, "patience": 0, "seed": 3}
    assert keep_sizes(TrainConfig(), tmp_path) == TrainConfig()
    checkpoint(tmp_path, 8, {**had, "lanes": 1})
    checkpoint(tmp_path, 12, had)
    assert keep_sizes(TrainConfig(), tmp_path) == TrainConfig(
        lanes=128, events=64, sessions=32, epochs=10, patience=0
    )
    given = TrainConfig(lanes=4, epochs=20)
    assert keep_sizes(given, tmp_path) == dataclasses.replace(given, events=64, sessions=32)


@pytest.mark.parametrize("config", ["", "[]", '{"train": 3}', '{"train": {"lanes": 0}}'])
def test_a_checkpoint_that_cannot_be_read_changes_nothing(tmp_path, config):
    checkpoint(tmp_path, 12, config)
    assert keep_sizes(TrainConfig(), tmp_path) == TrainConfig()
