"""The benchmark of the row cache: its draws, its file, and a small run."""

import json

import numpy as np
import pytest

from benchmarks.row_cache import Settings, drawn_items, file_rows, main, write_rows
from data_pipelines.embeddings.row_cache import FILL_BYTES
from data_pipelines.embeddings.row_file import RowFile


@pytest.mark.parametrize("items", [2, 9, 1000])
def test_every_item_has_a_row_of_its_own(items):
    rows = file_rows(items)(np.arange(items))
    np.testing.assert_array_equal(np.sort(rows), np.arange(items))


def test_a_billion_items_have_rows():
    rows = file_rows(10**9)(np.asarray([0, 1, 999_999_999]))
    assert rows.min() >= 0 and rows.max() < 10**9 and len(set(rows)) == 3


def test_items_are_drawn_by_rank():
    generator, items = np.random.default_rng(0), 50
    counts = np.zeros(items)
    for _ in range(4000):
        counts[drawn_items(generator, items, 1)] += 1
    # log(1 + 1 / r) / log(items + 1), within five standard deviations.
    expected = np.log1p(1 / np.arange(1, items + 1)) / np.log(items + 1)
    np.testing.assert_allclose(counts / 4000, expected, atol=5 * 0.5 / 63)
    many = drawn_items(generator, items, 500)
    assert np.all(np.diff(many) > 0)


def test_the_file_is_one_of_finite_rows(tmp_path):
    write_rows(tmp_path / "rows.npy", 1000, 5)
    rows = np.load(tmp_path / "rows.npy")
    assert (rows.shape, rows.dtype) == ((1000, 5), np.float16)
    assert np.isfinite(rows).all() and len(np.unique(rows)) > 1000
    assert RowFile(tmp_path / "rows.npy").rows == 1000


def test_a_small_run(tmp_path):
    row_bytes, hot = 8 * 2 + FILL_BYTES, 100
    settings = Settings(
        tmp_path / "rows.npy", 1000, 10**6, 8, hot * row_bytes, 64, 2, 2, str(tmp_path / "F.json")
    )
    main(settings)
    assert not settings.file.exists()
    cases = json.loads((tmp_path / "F.json").read_text())["cases"]
    assert set(cases) == {"cache", "no_cache", "memory_map", "cache_addressed"}
    for name, case in cases.items():
        assert (case["hit_rate"] > 0.1) == name.startswith("cache")
        assert case["warm_rows_per_s"] > 0
        assert case["peak_resident_bytes"] >= case["start_resident_bytes"] > 0
    # The three read the same draws.
    assert cases["cache"]["rows"] == cases["no_cache"]["rows"] == cases["memory_map"]["rows"]
