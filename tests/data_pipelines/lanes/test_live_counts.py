"""Counts from the end of a log on: those of the whole log, however few events are in memory."""

import dataclasses

import numpy as np
import pytest

from data_pipelines.histories.record import Split
from data_pipelines.lanes import live_counts
from data_pipelines.lanes.live_counts import count_live
from data_pipelines.lanes.memory_lists import remember
from hiertcn_jax.memory.config import SIZES
from tests.data_pipelines.lanes.walking import ListSource, history

ROWS = 30


def source_of(users):
    """Users of several sessions; some events of one second, some sessions that do not count."""
    rng, source = np.random.default_rng(0), ListSource()
    for user in range(users):
        lengths = rng.integers(1, 9, rng.integers(1, 6)).tolist()
        splits = [Split.TRAIN] * (len(lengths) - 1) + [Split.TEST if user % 3 else Split.VALID]
        record = history(lengths, splits, seed=user)
        times = 1_700_000_000 + np.sort(rng.integers(0, 400, len(record.times)))
        items = rng.integers(1, ROWS, len(times)).astype(np.int32)
        source.append(dataclasses.replace(record, times=times, item_ids=items))
    return source


@pytest.mark.parametrize("last", Split)
@pytest.mark.parametrize(("run", "at_once"), [(1 << 19, 1 << 16), (60, 40), (7, 1)])
def test_they_are_those_of_the_whole_log(monkeypatch, last, run, at_once):
    """Bit for bit, in one run or in many, compacted once or often."""
    monkeypatch.setattr(live_counts, "_RUN", run)
    monkeypatch.setattr(live_counts, "_AT_ONCE", at_once)
    monkeypatch.setattr("data_pipelines.histories.events._HISTORIES_AT_ONCE", 2)
    source = source_of(40)
    whole, live = remember(source, ROWS, last).memory, count_live(source, ROWS, last)
    assert live.known_from == whole.last_time
    rng = np.random.default_rng(1)
    time_n = whole.last_time + rng.integers(0, 10**5, 20)
    own_nm = rng.integers(0, ROWS, (20, SIZES.own_events)).astype(np.int32)
    asked = time_n, own_nm, np.zeros(20, np.int32)
    for one, other in zip(whole.lists(*asked), live.lists(*asked), strict=True):
        np.testing.assert_array_equal(one, other)
    assert live.lists(*asked).item_ids_nk.any()


def test_a_log_of_which_nothing_counts():
    source = ListSource([history([2, 3], [Split.TEST, Split.TEST], seed=0)])
    assert count_live(source, ROWS, Split.TRAIN).events == 0
