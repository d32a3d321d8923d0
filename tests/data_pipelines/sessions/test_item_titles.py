"""Titles of items: kept in the catalogue's order; missing, repeated and unknown ids are counted."""

import numpy as np
import polars as pl
import pytest

from data_pipelines.errors import DataError
from data_pipelines.sessions.item_titles import ItemColumns, items_line, read_items, write_items
from data_pipelines.sessions.vocabulary import Vocabulary

COLUMNS = ItemColumns("item_id", "title")


def vocabulary_of(*ids, id_type="int64"):
    counts = np.arange(len(ids), 0, -1)
    return Vocabulary(pl.Series(ids, dtype=pl.String), counts, counts, id_type)


def written(tmp_path, table, vocabulary, columns=COLUMNS, name="items.parquet"):
    source = tmp_path / "given"
    source.mkdir()
    path = source / name
    write = {".parquet": table.write_parquet, ".csv": table.write_csv, ".jsonl": table.write_ndjson}
    write[path.suffix](path)
    report = write_items(tmp_path, str(path), columns, vocabulary)
    return report, read_items(tmp_path, vocabulary)


def test_missing_repeated_and_unknown_ids(tmp_path):
    table = pl.DataFrame(
        {
            "colour": ["red", "blue", "green", "grey", "pink", "tan"],
            "id": [7, 5, 99, 7, None, 4],
            "name": ["seven", " five ", "other", "again", "nobody", "  "],
        }
    )
    vocabulary = vocabulary_of("5", "6", "7", "4")
    report, items = written(tmp_path, table, vocabulary, ItemColumns("id", "name"))
    assert items.to_dict(as_series=False) == {
        "item_id": [5, 6, 7, 4],
        "title": ["five", None, "seven", None],
        "colour": ["blue", None, "red", "tan"],
    }
    assert report == {
        "rows": 6,
        "titled": 2,
        "untitled": 2,
        "unknown": 1,
        "repeated": 1,
        "without_id": 1,
    }
    assert items_line(report) == (
        "titles: 2 of 4 items have one; of 6 rows of --items 1 of other items, 1 repeat an id, "
        "1 have no id"
    )


@pytest.mark.parametrize("name", ["items.csv", "items.jsonl"])
def test_text_files(tmp_path, name):
    table = pl.DataFrame({"item_id": ["a", "007"], "title": ["A", "Bond"]})
    _, items = written(tmp_path, table, vocabulary_of("007", "a", id_type="string"), name=name)
    assert items["title"].to_list() == ["Bond", "A"]


def test_whole_floats_are_ids(tmp_path):
    table = pl.DataFrame({"item_id": [2.0, float("nan"), 1.0], "title": ["two", "x", "one"]})
    report, items = written(tmp_path, table, vocabulary_of("1", "2"))
    assert items["title"].to_list() == ["one", "two"]
    assert report["without_id"] == 1


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"item_id": [1], "name": ["x"]}, r"no column 'title' \(item_title_column\), got item_id"),
        ({"title": ["x"]}, r"no column 'item_id' \(item_id_column\)"),
        ({"item_id": [1.5], "title": ["x"]}, "expected text or whole numbers"),
        ({"item_id": [True], "title": ["x"]}, "expected text or whole numbers"),
    ],
)
def test_tables_that_are_refused(tmp_path, table, message):
    with pytest.raises(DataError, match=message):
        written(tmp_path, pl.DataFrame(table), vocabulary_of("1"))


def test_files_that_are_refused(tmp_path):
    vocabulary = vocabulary_of("1")
    with pytest.raises(DataError, match="no such file"):
        write_items(tmp_path, str(tmp_path / "none.parquet"), COLUMNS, vocabulary)
    path = tmp_path / "items.xlsx"
    path.write_text("?")
    with pytest.raises(DataError, match="must end with"):
        write_items(tmp_path, str(path), COLUMNS, vocabulary)
    table = pl.DataFrame({"id": [1], "name": ["x"], "title": ["y"]})
    with pytest.raises(DataError, match="column 'title': the result has one of that name"):
        written(tmp_path, table, vocabulary, ItemColumns("id", "name"))


def test_titles_of_another_catalogue(tmp_path):
    table = pl.DataFrame({"item_id": [1, 2], "title": ["one", "two"]})
    written(tmp_path, table, vocabulary_of("1", "2"))
    with pytest.raises(DataError, match="holds other items than vocabulary"):
        read_items(tmp_path, vocabulary_of("2", "1"))
    assert read_items(tmp_path / "elsewhere", vocabulary_of("1", "2")) is None
