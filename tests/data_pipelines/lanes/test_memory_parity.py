"""Counts in training, in an evaluation and event by event are the same to the last bit."""

import dataclasses
import itertools

import numpy as np
import pytest

from data_pipelines.histories.record import Split
from data_pipelines.lanes.loaders import eval_loader, train_loader
from data_pipelines.lanes.memory_lists import items_before, remember
from hiertcn_jax.batch import Bucket
from hiertcn_jax.memory.config import SIZES
from hiertcn_jax.memory.lists import AGE
from hiertcn_jax.memory.memory import Memory
from tests.data_pipelines.lanes.test_memory_lists import asked_events
from tests.data_pipelines.lanes.walking import ListSource, history

ROWS, BUCKET = 9, Bucket(lanes=3, events=8, sessions=4)
PARTS = [Split.TRAIN, Split.TRAIN, Split.VALID]


def users(count, **changes):
    """Histories whose times go back now and then."""
    made = [history([3, 2, 4], PARTS, seed=user) for user in range(count)]
    for record in made:
        fields = {name: make(record) for name, make in changes.items()}
        yield dataclasses.replace(record, **fields)


LOGS = {
    "times that go back": lambda: users(7),
    "one instant": lambda: users(7, times=lambda h: np.full_like(h.times, 1_700_000_000)),
    "a single user": lambda: users(1),
    "a single item": lambda: users(4, item_ids=lambda h: np.full_like(h.item_ids, 2)),
}


def lists_of(elements):
    """What each event of a user is told: its list, and the counts."""
    return {
        (user, place): (
            element.batch.memory_ids_blk[index],
            element.batch.memory_counts_blkf[index],
        )
        for element in elements
        for index, user, place, _ in asked_events(element)
    }


def streamed(source):
    """The same from a memory that takes in one event after the other, in order of time."""
    records = [list.__getitem__(source, user) for user in range(len(source))]
    lengths = [len(record.times) for record in records]
    item_n = np.concatenate([record.item_ids for record in records]).astype(np.int32)
    time_n = np.concatenate([record.times for record in records])
    starts = np.repeat(np.cumsum(lengths) - lengths, lengths)
    position_n = np.concatenate(
        [np.arange(length) for record in records for length in record.session_lengths]
    ).astype(np.int32)
    user_n = np.repeat(np.arange(len(records)), lengths)
    memory, found = Memory(ROWS, events=1), {}
    for event in np.argsort(time_n, kind="stable"):
        own_nm = np.zeros((1, SIZES.own_events), np.int32)
        before = item_n[starts[event] : event][::-1][: SIZES.own_events]
        own_nm[0, : len(before)] = before
        one = slice(event, event + 1)
        lists = memory.lists(time_n[one], own_nm, position_n[one])
        place = (int(user_n[event]), int(event - starts[event]))
        found[place] = lists.item_ids_nk[0], lists.features_nkf[0]
        before_nm = items_before(item_n, starts[one], np.asarray([event]), SIZES.distance)
        memory.observe(item_n[one], time_n[one], before_nm, position_n[one])
    return found


@pytest.mark.parametrize("log", LOGS)
def test_training_evaluation_and_a_stream_know_the_same(log):
    source = ListSource(LOGS[log]())
    recall = remember(source, ROWS, Split.VALID)
    loader = train_loader(source, BUCKET, seed=0, fit_on="train_valid", recall=recall, prefetch=0)
    trained = lists_of(itertools.islice(loader, 12))
    evaluated = lists_of(eval_loader(source, BUCKET, split=Split.VALID, recall=recall, prefetch=0))
    live = streamed(source)
    assert evaluated
    assert evaluated.keys() <= trained.keys() <= live.keys()
    for place, (ids_k, counts_kf) in trained.items():
        for other in (live[place], evaluated.get(place, live[place])):
            np.testing.assert_array_equal(other[0], ids_k)
            np.testing.assert_array_equal(other[1], counts_kf)
    if log == "one instant":
        assert not any(counts_kf[:, : AGE + 1].any() for _, counts_kf in live.values())
