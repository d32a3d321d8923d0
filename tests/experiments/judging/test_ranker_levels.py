"""Rankers at each level of counts, against the same ranker on a log cut by hand."""

import dataclasses

import numpy as np
import pytest

from data_pipelines.histories.record import Split
from experiments.comparison.alterations import ListedHistories, sessions_of
from experiments.judging.rankers import context_before, fitted_histories, ranker_at
from hiertcn_jax.baselines.registry import AT_LEVELS
from hiertcn_jax.memory.levels import parse
from tests.experiments.conftest import prepared

LEVELS = ("live", "delayed:6h", "static")
ARGUMENTS = {
    "rolling_popularity": {"events": 40},
    "stan": {"neighbours": 8, "sample": 30, "causal": False},
    "vsknn": {"neighbours": 8, "sample": 30, "recency_days": 3},
}


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    data = prepared(tmp_path_factory.mktemp("log") / "data", users=16)
    return data, data.histories.__getitems__(range(len(data.histories)))


def cut(data, histories, keeps):
    """The log with the sessions for which `keeps(its part, its times)` holds, all as one part."""
    kept = []
    for history in histories:
        ends = np.cumsum(history.session_lengths)
        places = [
            (start, end)
            for start, end, part in zip([0, *ends], ends, history.session_splits, strict=False)
            if keeps(part, history.times[start:end])
        ]
        if places:
            kept.append(
                dataclasses.replace(
                    history,
                    item_ids=np.concatenate([history.item_ids[a:b] for a, b in places]),
                    times=np.concatenate([history.times[a:b] for a, b in places]),
                    session_lengths=np.array([b - a for a, b in places], np.int32),
                    session_splits=np.zeros(len(places), np.uint8),
                )
            )
    return data._replace(histories=ListedHistories(kept))


def known_sessions(level, end, time):
    """Which sessions count for an event at a time, as the module `levels` says."""
    known = {"live": time, "delayed:6h": time - 6 * 3600, "static": min(time, end)}[level]
    return lambda part, times: (level != "static" or part == Split.TRAIN) and times[-1] < known


def contexts(histories, number=12):
    rng = np.random.default_rng(0)
    for history in (histories[user] for user in rng.integers(0, len(histories), number)):
        event = int(rng.integers(0, len(history.times)))
        yield context_before(history, int(sessions_of(history)[event]), event)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", ["stan", "vsknn"])
def test_neighbours_are_the_sessions_that_a_level_knows(log, name, level):
    data, histories = log
    rows, end = (
        data.vocabulary.size,
        1
        + max(
            h.times[sessions_of(h) < (h.session_splits == Split.TRAIN).sum()].max()
            for h in histories
        ),
    )
    ranker = ranker_at(name, rows, ARGUMENTS[name], parse(level))
    assert ranker.causal
    ranker.fit(fitted_histories(data, "train", parse(level)))
    differ = 0
    for context in contexts(histories):
        known = known_sessions(level, end, context.time)
        plain = ranker_at(name, rows, ARGUMENTS[name], parse("fitted"))
        plain.fit(fitted_histories(cut(data, histories, known), "train"))
        found, expected = ranker.score(context), plain.score(context)
        # Ages are counted from another moment: a common factor, which changes no rank.
        scale = expected.max() / found.max() if found.any() else 1.0
        np.testing.assert_allclose(found * scale, expected, rtol=1e-9)
        differ += bool(found.any())
    assert differ


@pytest.mark.parametrize("level", [*LEVELS, "fitted"])
def test_the_window_holds_the_last_events_that_a_level_knows(log, level):
    data, histories = log
    ranker = ranker_at("rolling_popularity", data.vocabulary.size, {"events": 40}, parse(level))
    ranker.fit(fitted_histories(data, "train", parse(level)))
    parts = [h.session_splits[sessions_of(h)] for h in histories]
    counted = Split.TEST if level in ("live", "delayed:6h") else Split.TRAIN
    events = sorted(
        (time, item)
        for history, part_n in zip(histories, parts, strict=True)
        for time, item, part in zip(history.times, history.item_ids, part_n, strict=True)
        if part <= counted and item >= 2
    )
    late = 6 * 3600 if level == "delayed:6h" else 0
    end = events[-1][0] + 1 if level == "static" else np.inf
    for context in contexts(histories):
        known = [event for event in events if event[0] < min(context.time - late, end)]
        window = known[-40:]
        if window and known[-41:-40] and known[-41][0] == window[0][0]:
            continue  # Of equal times either may be in the window.
        items = [item for _, item in window]
        expected = np.bincount(items, minlength=data.vocabulary.size)
        np.testing.assert_array_equal(ranker.score(context), expected)


@pytest.mark.parametrize("name", sorted(AT_LEVELS))
def test_at_the_level_fitted_a_ranker_is_as_its_arguments_say(name):
    assert type(ranker_at(name, 9, ARGUMENTS[name], parse("fitted"))).__name__ != "RankerAtLevel"
    assert set(ARGUMENTS) == AT_LEVELS


def test_what_cannot_be_causal_has_no_other_level():
    with pytest.raises(ValueError, match=r"counts=live: idf=1: must be 0 if causal"):
        ranker_at("vsknn", 9, {"idf": 1}, parse("live"))
