"""Given embeddings: rows match items whatever the order of the file; mismatched files."""

import numpy as np
import polars as pl
import pytest

from data_pipelines.embeddings.item_embeddings import open_item_embeddings
from data_pipelines.embeddings.item_ids import read_item_ids
from data_pipelines.errors import DataError
from data_pipelines.sessions.vocabulary import Vocabulary
from hiertcn_jax.batch import FIRST_ITEM_ID

ITEMS = [f"item {number}" for number in range(20)]


def vocabulary(items):
    counts = np.arange(len(items), 0, -1)
    return Vocabulary(pl.Series(items, dtype=pl.String), counts, np.zeros_like(counts))


def write(directory, items, dtype="f4", width=3):
    """A file of embeddings whose rows start with the number of their item; and its ids."""
    matrix = np.random.default_rng(0).normal(size=(len(items), width))
    matrix[:, 0] = [int(item.split()[1]) for item in items]
    np.save(directory / "E.npy", matrix.astype(dtype))
    (directory / "E.txt").write_text("".join(f"{item}\n" for item in items))
    return directory / "E.npy", directory / "E.txt"


@pytest.mark.parametrize("room", [0, 150, 1 << 20])
@pytest.mark.parametrize("dtype", ["f2", "f4"])
def test_rows_match_ids_and_the_file_may_have_more(tmp_path, dtype, room):
    generator = np.random.default_rng(1)
    catalogue = generator.permutation(ITEMS)[:12].tolist()
    paths = write(tmp_path, generator.permutation(ITEMS).tolist(), dtype)
    embeddings = open_item_embeddings(*paths, vocabulary(catalogue), room)
    assert (embeddings.table_rows, embeddings.width) == (12 + FIRST_ITEM_ID, 3)
    assert embeddings.dtype == np.dtype(dtype)
    item_ids = generator.integers(FIRST_ITEM_ID, embeddings.table_rows, 30)
    expected = [int(catalogue[item - FIRST_ITEM_ID].split()[1]) for item in item_ids]
    np.testing.assert_array_equal(embeddings.rows(item_ids)[:, 0], expected)
    assert embeddings.rows(item_ids[:0]).shape == (0, 3)


def test_places_go_through_the_catalogue_in_the_order_of_the_file(tmp_path):
    generator = np.random.default_rng(2)
    catalogue = generator.permutation(ITEMS)[:12].tolist()
    paths = write(tmp_path, generator.permutation(ITEMS).tolist())
    embeddings = open_item_embeddings(*paths, vocabulary(catalogue), 0)
    every = np.arange(embeddings.table_rows)
    file_indices = embeddings.file_indices(every)
    np.testing.assert_array_equal(file_indices[:FIRST_ITEM_ID], every[:FIRST_ITEM_ID])
    np.testing.assert_array_equal(np.sort(file_indices), every)
    assert np.all(np.diff(embeddings.file_rows[np.argsort(file_indices[FIRST_ITEM_ID:])]) > 0)
    read = np.concatenate([embeddings.read_file_indices(2, 5), embeddings.read_file_indices(7, 7)])
    np.testing.assert_array_equal(
        read[file_indices[FIRST_ITEM_ID:] - FIRST_ITEM_ID], embeddings.rows(every[FIRST_ITEM_ID:])
    )


def test_the_hash_covers_values_and_their_items(tmp_path):
    paths = write(tmp_path, ITEMS)
    known = vocabulary(ITEMS[:9])
    before = open_item_embeddings(*paths, known, 0).content_hash
    assert open_item_embeddings(*paths, known, 0).content_hash == before
    paths[1].write_text("\n".join([ITEMS[1], ITEMS[0], *ITEMS[2:]]))
    assert open_item_embeddings(*paths, known, 0).content_hash != before
    write(tmp_path, ITEMS)
    matrix = np.load(paths[0])
    matrix[19, 2] += 1
    np.save(paths[0], matrix)
    assert open_item_embeddings(*paths, known, 0).content_hash != before


def test_ids_come_from_parquet_too(tmp_path):
    path = tmp_path / "ids.parquet"
    for values, expected in (([7, 3], ["7", "3"]), (["b", "a"], ["b", "a"])):
        pl.DataFrame({"other": [1, 2], "item_id": values}).write_parquet(path)
        assert read_item_ids(path).to_list() == expected
    # As `prepare` writes them.
    vocabulary(ITEMS).save(tmp_path)
    assert read_item_ids(tmp_path / "vocabulary.parquet").to_list() == ITEMS


def test_an_id_is_a_line_whatever_is_in_it(tmp_path):
    path = tmp_path / "ids.txt"
    path.write_bytes('a,b\r\n"q\n  x \nü\n1'.encode())
    assert read_item_ids(path).to_list() == ["a,b", '"q', "  x ", "ü", "1"]


def spoil(value, row, column=1):
    def change(directory):
        matrix = np.load(directory / "E.npy")
        matrix[row, column] = value
        np.save(directory / "E.npy", matrix)

    return change


def ids(*lines):
    return lambda directory: (directory / "E.txt").write_bytes(b"".join(lines))


KNOWN = [f"{item}\n".encode() for item in ITEMS[:4]]


@pytest.mark.parametrize(
    "change, message",
    [
        (spoil(np.nan, 2), r"E.npy: row 2 \(counted from 0\), of the item 'item 2': a value is"),
        (spoil(np.inf, 3, 2), r"E.npy: row 3 .*'item 3': a value is not a finite number"),
        (ids(*KNOWN[:3]), "E.npy: 4 rows, but .*E.txt has 3 ids"),
        (ids(*KNOWN[:3], b"item 9\n"), "E.txt: lacks 1 of the 4 items .*, the first is 'item 3'"),
        (ids(*KNOWN[:3], KNOWN[1]), "E.txt: line 4: 'item 1' occurs twice"),
        (ids(KNOWN[0], b"\n", *KNOWN[2:]), "E.txt: line 2: the id is empty"),
        (ids(), "E.npy: 4 rows, but .*E.txt has 0 ids"),
        (ids(b"\xff\xfe\n"), "E.txt: not readable as lines of text: invalid utf-8"),
        (ids(b"a\x01b\n"), "E.txt: not readable as lines of text"),
        (lambda directory: (directory / "E.txt").unlink(), "E.txt: no such file"),
    ],
)
def test_files_that_do_not_match_are_refused_by_name(tmp_path, change, message):
    paths = write(tmp_path, ITEMS[:4])
    change(tmp_path)
    with pytest.raises(DataError, match=message) as error:
        open_item_embeddings(*paths, vocabulary(ITEMS[:4]), 0)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "name, frame, message",
    [
        ("ids.csv", None, "unknown file type; expected .txt or .parquet"),
        ("ids.parquet", {"id": ["a"]}, "expected one column 'item_id', got id"),
        ("ids.parquet", {"item_id": [0.5]}, "column 'item_id': expected text or integers"),
        ("ids.parquet", {"item_id": ["a", None]}, "row 2: the id is empty"),
        ("ids.parquet", {"item_id": [4, 5, 4]}, "row 3: '4' occurs twice"),
    ],
)
def test_files_that_hold_no_ids_are_refused_by_name(tmp_path, name, frame, message):
    path = tmp_path / name
    path.write_text("a\n") if frame is None else pl.DataFrame(frame).write_parquet(path)
    with pytest.raises(DataError, match=f"{path}: {message}"):
        read_item_ids(path)
