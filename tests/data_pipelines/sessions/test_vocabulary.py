import numpy as np
import polars as pl
import pytest

from data_pipelines.errors import DataError
from data_pipelines.sessions.vocabulary import Vocabulary, build_vocabulary


@pytest.fixture
def built():
    return build_vocabulary(
        pl.Series(["a", "b", "c", "d"]), np.array([1, 0, 3, 1]), np.array([0, 5, 2, 1])
    )


def test_rows_by_train_events_then_id_and_the_rest_is_unknown(built):
    vocabulary, rows = built
    assert rows.tolist() == [3, 1, 2, 4]
    assert vocabulary.size == 5
    assert vocabulary.counts_v.tolist() == [0, 0, 3, 1, 1]
    assert vocabulary.valid_counts_v.tolist() == [0, 0, 2, 0, 1]


def test_ids_to_rows_and_back(built):
    vocabulary, _ = built
    assert vocabulary.encode(["d", "nobody", "b", "c"]).tolist() == [4, 1, 1, 2]
    assert vocabulary.decode(np.array([4, 2])) == ["d", "c"]
    for row in (0, 1, 5):
        with pytest.raises(ValueError, match=f"rows={row}: must be in 2..4"):
            vocabulary.decode(np.array([2, row]))


def test_listed_items_are_known_without_train_events(tmp_path):
    vocabulary, rows = build_vocabulary(
        pl.Series(["a", "b", "c", "d"]),
        np.array([1, 0, 3, 0]),
        np.array([0, 5, 2, 1]),
        listed=pl.Series(["y", "d", "x", "c"]),
    )
    assert vocabulary.item_ids.to_list() == ["c", "a", "d", "x", "y"]
    assert rows.tolist() == [3, 1, 2, 4]
    assert vocabulary.counts_v.tolist() == [0, 0, 3, 1, 0, 0, 0]
    assert vocabulary.valid_counts_v.tolist() == [0, 0, 2, 0, 1, 0, 0]
    vocabulary.save(tmp_path)
    assert Vocabulary.load(tmp_path).item_ids.to_list() == vocabulary.item_ids.to_list()


def test_saved_and_loaded(built, tmp_path):
    vocabulary, _ = built
    vocabulary.save(tmp_path)
    loaded = Vocabulary.load(tmp_path)
    assert loaded.item_ids.to_list() == ["c", "a", "d"]
    np.testing.assert_array_equal(loaded.counts_v, vocabulary.counts_v)
    np.testing.assert_array_equal(loaded.valid_counts_v, vocabulary.valid_counts_v)
    assert pl.read_parquet(tmp_path / "vocabulary.parquet")["index"].to_list() == [2, 3, 4]


def test_invalid_vocabularies_are_refused(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        Vocabulary.load(tmp_path)
    path = tmp_path / "vocabulary.parquet"
    path.write_bytes(b"no parquet")
    with pytest.raises(DataError, match="not readable as Parquet"):
        Vocabulary.load(tmp_path)
    pl.DataFrame({"index": [2]}).write_parquet(path)
    with pytest.raises(DataError, match="expected the columns index, item_id"):
        Vocabulary.load(tmp_path)
