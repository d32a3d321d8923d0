import dataclasses
import pickle
import tempfile

import numpy as np
import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.core.utils import gcs_utils
from tensorflow_datasets.proto import tf_example_pb2

from data_pipelines.errors import DataError
from data_pipelines.histories import builder
from data_pipelines.histories.record import NO_ITEMS, History
from data_pipelines.histories.store import HistorySource, open_histories, write_histories


def make_histories(count):
    rng = np.random.default_rng(0)
    for user in range(count):
        lengths = rng.integers(1, 5, rng.integers(1, 4)).astype(np.int32)
        events = int(lengths.sum())
        counts = rng.integers(0, 3, events).astype(np.int32)
        yield History(
            user_id=f"usér {user}",
            item_ids=rng.integers(1, 99, events).astype(np.int32),
            times=np.sort(rng.integers(0, 2**40, events)),
            session_lengths=lengths,
            session_splits=np.sort(rng.integers(0, 3, len(lengths))).astype(np.uint8),
            shown_items=rng.integers(2, 99, counts.sum()).astype(np.int32),
            shown_counts=counts,
        )


def assert_same(one, other):
    assert one.user_id == other.user_id
    for field in dataclasses.fields(History):
        left, right = getattr(one, field.name), getattr(other, field.name)
        np.testing.assert_array_equal(left, right)
        assert getattr(left, "dtype", None) == getattr(right, "dtype", None)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("histories")
    write_histories(directory, make_histories(20))
    return directory


def test_read_as_written_one_by_one_and_in_batches(data_dir):
    source = open_histories(data_dir)
    assert len(source) == 20
    for index, history in enumerate(make_histories(20)):
        assert_same(source[index], history)
    order = [3, 19, 0, 3]
    for index, history in zip(order, source.__getitems__(order), strict=True):
        assert_same(history, source[index])


def test_tfds_reads_the_same(data_dir):
    directory = data_dir / "histories" / "1.0.0"
    records = tfds.builder_from_directory(directory).as_data_source("users")
    source = open_histories(data_dir)
    assert len(records) == len(source)
    for record, history in zip(records, source, strict=True):
        assert_same(History(**{**record, "user_id": record["user_id"].decode()}), history)


class Records(list):
    """Records in memory."""

    def __getitems__(self, indices):
        return [self[index] for index in indices]


def test_records_older_than_impressions_have_none(data_dir):
    history = next(make_histories(1))
    example = tf_example_pb2.Example()
    fields = {**vars(history), "user_id": history.user_id.encode()}
    for name in ("user_id", "item_ids", "times", "session_lengths", "session_splits"):
        value = fields[name]
        text = value if isinstance(value, bytes) else value.tobytes()
        example.features.feature[name].bytes_list.value.append(text)
    read = HistorySource(Records([example.SerializeToString()]), data_dir, 99)[0]
    none = {"shown_items": NO_ITEMS, "shown_counts": NO_ITEMS}
    assert_same(read, dataclasses.replace(history, **none))


def test_worker_processes_can_have_it(data_dir):
    source = open_histories(data_dir)
    assert_same(pickle.loads(pickle.dumps(source))[5], source[5])


def test_several_shards_keep_the_order(tmp_path, monkeypatch):
    monkeypatch.setattr("data_pipelines.histories.store.RECORDS_PER_SHARD", 7)
    write_histories(tmp_path, make_histories(20))
    assert len(list((tmp_path / "histories" / "1.0.0").glob("*array_record*"))) == 3
    for read, written in zip(open_histories(tmp_path), make_histories(20), strict=True):
        assert_same(read, written)


def test_writing_asks_no_server_and_leaves_no_other_files(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(gcs_utils, "gcs_dataset_info_files", asked.append)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    write_histories(tmp_path / "data", make_histories(3))
    open_histories(tmp_path / "data")
    assert asked == []
    assert list(temporary.iterdir()) == []


def test_long_histories(tmp_path):
    events = 100_000
    history = History(
        user_id="u",
        item_ids=np.arange(1, events + 1, dtype=np.int32),
        times=np.arange(events),
        session_lengths=np.ones(events, np.int32),
        session_splits=np.zeros(events, np.uint8),
    )
    write_histories(tmp_path, [history])
    assert_same(open_histories(tmp_path)[0], history)


def test_no_histories_there(tmp_path):
    with pytest.raises(DataError, match=r"no histories of version 1.0.0"):
        open_histories(tmp_path)


def test_the_builder_does_not_generate(tmp_path):
    with pytest.raises(NotImplementedError, match=r"data_pipelines.prepare"):
        builder.Histories(data_dir=tmp_path).download_and_prepare()
