import numpy as np
import polars as pl
import pytest

from data_pipelines.errors import DataError
from data_pipelines.sessions.vocabulary import (
    FROM_THE_START,
    NEVER,
    ItemCounts,
    Listed,
    Vocabulary,
    build_vocabulary,
)


def counts_of(train, valid, first_seen):
    ids = pl.Series(["a", "b", "c", "d", "e", "f"][: len(train)])
    return ItemCounts(ids, *map(np.array, (train, valid, first_seen)))


@pytest.fixture
def built():
    """b occurs first in valid, e in test and before it; the filters left nothing of f."""
    return build_vocabulary(
        counts_of([1, 0, 3, 1, 0, 0], [0, 5, 2, 1, 0, 0], [10, 30, 10, 20, 25, NEVER])
    )


def test_fitted_items_by_train_events_then_id_and_later_ones_by_first_appearance(built):
    vocabulary, rows = built
    assert rows.tolist() == [3, 6, 2, 4, 5, 1]
    assert (vocabulary.size, vocabulary.fitted_size) == (7, 5)
    assert vocabulary.item_ids.to_list() == ["c", "a", "d", "e", "b"]
    assert vocabulary.counts_v.tolist() == [0, 0, 3, 1, 1, 0, 0]
    assert vocabulary.valid_counts_v.tolist() == [0, 0, 2, 0, 1, 0, 5]
    assert vocabulary.known_from.tolist() == [10, 10, 20, 25, 30]
    assert (vocabulary.known_from_v[:2] == NEVER).all()


def test_the_fitted_part_knows_no_later_items(built):
    fitted = built[0].fitted_part()
    assert (fitted.size, fitted.fitted_size) == (5, 5)
    assert fitted.encode(["d", "b", "e"]).tolist() == [4, 1, 1]
    assert fitted.known_from.tolist() == [10, 10, 20]


def test_ids_to_rows_and_back(built):
    vocabulary, _ = built
    assert vocabulary.encode(["d", "nobody", "b", "c"]).tolist() == [4, 1, 6, 2]
    assert vocabulary.decode(np.array([4, 2])) == ["d", "c"]
    for row in (0, 1, 7):
        with pytest.raises(ValueError, match=f"rows={row}: must be in 2..6"):
            vocabulary.decode(np.array([2, row]))


def test_listed_items_are_fitted_without_train_events(tmp_path):
    counts = counts_of([1, 0, 3, 0], [0, 5, 2, 1], [10, 30, 10, 20])
    times = np.array([FROM_THE_START, 15, 40, 50])
    vocabulary, rows = build_vocabulary(counts, Listed(pl.Series(["y", "d", "x", "c"]), times))
    assert vocabulary.item_ids.to_list() == ["c", "a", "d", "x", "y", "b"]
    assert vocabulary.fitted_size == 7
    assert rows.tolist() == [3, 7, 2, 4]
    assert vocabulary.counts_v.tolist() == [0, 0, 3, 1, 0, 0, 0, 0]
    assert vocabulary.valid_counts_v.tolist() == [0, 0, 2, 0, 1, 0, 0, 5]
    # The earlier of the first event and the listed time; c was picked before its own.
    assert vocabulary.known_from.tolist() == [10, 10, 15, 40, FROM_THE_START, 30]
    vocabulary.save(tmp_path)
    assert Vocabulary.load(tmp_path).item_ids.to_list() == vocabulary.item_ids.to_list()


def test_saved_and_loaded(built, tmp_path):
    vocabulary, _ = built
    vocabulary.save(tmp_path)
    loaded = Vocabulary.load(tmp_path)
    assert loaded.item_ids.to_list() == ["c", "a", "d", "e", "b"]
    assert loaded.fitted_size == 5
    for name in ("counts_v", "valid_counts_v", "known_from_v"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(vocabulary, name))
    path = tmp_path / "vocabulary.parquet"
    frame = pl.read_parquet(path)
    assert frame["index"].to_list() == [2, 3, 4, 5, 6]
    assert frame["fitted"].to_list() == [True] * 3 + [False] * 2
    frame.with_columns(fitted=~pl.col("fitted")).write_parquet(path)
    with pytest.raises(DataError, match="fitted: expected the fitted items first"):
        Vocabulary.load(tmp_path)


def test_files_of_earlier_versions_hold_the_fitted_items_alone(built, tmp_path):
    built[0].fitted_part().save(tmp_path)
    path = tmp_path / "vocabulary.parquet"
    pl.read_parquet(path).drop("known_from", "fitted").write_parquet(path)
    loaded = Vocabulary.load(tmp_path)
    assert (loaded.size, loaded.fitted_size, loaded.known_from) == (5, 5, None)


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
