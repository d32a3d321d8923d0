import dataclasses

import numpy as np
import pytest

from data_pipelines.histories.record import Split
from data_pipelines.sessions.dataset import build_dataset
from data_pipelines.sessions.sessionize import by_column
from data_pipelines.sessions.splits import SplitOptions
from tests.data_pipelines.logs import codes_log


@pytest.fixture
def dataset():
    # User 0: sessions of items [0 1] [0] [2]. User 1 was dropped. User 2: one session [0 3].
    log = codes_log(
        [0, 0, 0, 0, 2, 2], [0, 1, 0, 2, 0, 3], [1999, 2000, 3000, 4000, 5, 6], [0, 0, 1, 2, 0, 0]
    )
    return build_dataset(log, by_column(log)[0], SplitOptions())


def test_histories(dataset):
    first, second = dataset.histories()
    assert (first.user_id, second.user_id) == ("u0", "u2")
    # Train events: item 0 twice, 1 and 3 once; item 2 is in test alone.
    assert first.item_ids.tolist() == [2, 3, 2, 5]
    assert first.times.tolist() == [1, 2, 3, 4]
    assert first.session_lengths.tolist() == [2, 1, 1]
    assert first.session_splits.tolist() == [Split.TRAIN, Split.VALID, Split.TEST]
    assert second.item_ids.tolist() == [2, 4]
    assert second.session_splits.tolist() == [Split.TRAIN]
    dtypes = [getattr(first, f.name).dtype for f in dataclasses.fields(first)[1:]]
    assert dtypes == [np.int32, np.int64, np.int32, np.uint8, np.int32, np.int32]


def test_counts(dataset):
    none = {"all": 0, "first": 0, "next": 0}
    assert dataset.counts() == {
        "users": 2,
        "items": 3,
        "later_items": 1,
        "sessions": 4,
        "events": 6,
        "users_too_short": 1,
        "splits": {
            "train": {
                "users": 2,
                "sessions": 2,
                "events": {"all": 4, "first": 2, "next": 2},
                "unknown_items": none,
                "unseen": {"all": 3, "first": 1, "next": 2},
            },
            "valid": {
                "users": 1,
                "sessions": 1,
                "events": {"all": 1, "first": 1, "next": 0},
                "unknown_items": none,
                "unseen": none,
            },
            "test": {
                "users": 1,
                "sessions": 1,
                "events": {"all": 1, "first": 1, "next": 0},
                "unknown_items": {"all": 1, "first": 1, "next": 0},
                "unseen": {"all": 1, "first": 1, "next": 0},
            },
        },
    }
    assert dataset.vocabulary.counts_v.tolist() == [0, 0, 2, 1, 1, 0]
    assert dataset.vocabulary.valid_counts_v.tolist() == [0, 0, 1, 0, 0, 0]


@pytest.mark.parametrize(
    "field", ["item_ids", "times", "session_lengths", "session_splits", "user_sessions"]
)
def test_the_hash_sees_every_array(dataset, field):
    changed = getattr(dataset, field).copy()
    changed[0] += 1
    other = dataclasses.replace(dataset, **{field: changed})
    assert other.content_hash() != dataset.content_hash()


def test_the_hash_sees_ids_and_where_they_end(dataset):
    hashes = {
        dataclasses.replace(dataset, user_ids=dataset.user_ids.clear().append(ids)).content_hash()
        for ids in (dataset.user_ids, dataset.user_ids.reverse(), dataset.user_ids + "x")
    }
    ab, a = (dataset.user_ids.clear().extend_constant(text, 1) for text in ("ab", "a"))
    for ids in (ab.append(a.str.replace("a", "c")), a.append(ab.str.replace("ab", "bc"))):
        hashes.add(dataclasses.replace(dataset, user_ids=ids).content_hash())
    assert len(hashes) == 5
