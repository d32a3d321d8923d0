import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.errors import DataError
from data_pipelines.raw.paths import expand_paths, file_type, natural_order


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")


@pytest.fixture
def parts(tmp_path):
    """part-1 .. part-12, made in another order."""
    files = [tmp_path / "log" / f"part-{number}.csv" for number in range(1, 13)]
    touch(*reversed(files))
    return files


def test_a_pattern_and_a_directory_go_by_the_numbers_in_names(parts):
    directory = parts[0].parent
    assert expand_paths([str(directory / "part-*.csv")]) == parts
    assert expand_paths([str(directory)]) == parts


def test_named_files_stay_in_their_order(parts):
    named = [parts[9], parts[0], parts[4]]
    assert expand_paths([str(path) for path in named]) == named


@given(st.lists(st.integers(0, 10**6), unique=True), st.sampled_from(["{}", "a{}b", "{}/x", "_{}"]))
def test_natural_order_is_that_of_the_numbers(numbers, form):
    names = [form.format(number) for number in numbers]
    assert sorted(names, key=natural_order) == [form.format(number) for number in sorted(numbers)]


def test_markers_and_hidden_files_are_left_out(tmp_path):
    log = tmp_path / "log"
    wanted = [log / "day=1" / "part-0.csv", log / "day=2" / "part-0.csv", log / "day=10" / "a.csv"]
    touch(*wanted, log / "_SUCCESS", log / ".part-0.csv.crc", log / "day=1" / "_metadata")
    touch(log / "_temporary" / "b.csv", log / ".hidden" / "c.csv")
    assert expand_paths([str(log)]) == wanted
    assert expand_paths([str(log / "*")]) == wanted
    assert expand_paths([str(log / "_SUCC*")]) == [log / "_SUCCESS"]


def test_a_file_is_named_once(parts, tmp_path, monkeypatch):
    monkeypatch.chdir(parts[0].parent)
    (tmp_path / "links").mkdir()
    os.symlink("../log/part-3.csv", "../links/soft.csv")
    os.link("part-4.csv", "../links/hard.csv")
    os.link("part-4.csv", "../links/hard too.csv")
    os.symlink(parts[0].parent, tmp_path / "other")
    for paths, message in (
        (["part-1.csv", "part-1.csv"], "part-1.csv: this file is named twice; its events would"),
        (["part-1.csv", "./part-1.csv"], "named twice, by 'part-1.csv' and by './part-1.csv'"),
        (["part-1.csv", "part-*.csv"], "part-1.csv: this file is named twice, by 'part-1.csv' and"),
        (["part-*.csv", "part-?.csv"], "part-1.csv: this file is named twice, by 'part-*.csv' and"),
        (
            [".", "part-12.csv"],
            "part-12.csv: this file is named twice, by '.' and by 'part-12.csv'",
        ),
        (["part-3.csv", "../links/soft.csv"], "by '../links/soft.csv', also as part-3.csv; its"),
        (["../links/hard.csv", "part-4.csv"], "and by 'part-4.csv', also as ../links/hard.csv"),
        (["../links"], "hard.csv: this file is named twice, also as ../links/hard too.csv"),
        (["part-2.csv", "../other/part-2.csv"], "by 'part-2.csv' and by '../other/part-2.csv'"),
    ):
        with pytest.raises(DataError, match=re.escape(message)) as caught:
            expand_paths(paths)
        assert "\n" not in str(caught.value)


def test_folders_that_hold_no_parts_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    touch(tmp_path / "empty" / "_SUCCESS")
    touch(tmp_path / "two" / "log.csv", tmp_path / "two" / "log.parquet")
    os.symlink(tmp_path / "empty", tmp_path / "two" / "z")
    os.mkfifo(tmp_path / "pipe.csv")
    for path, message in (
        ("missing.csv", "missing.csv: no such file"),
        ("nothing-*.csv", "nothing-*.csv: no such file"),
        ("empty", "empty: no files in this directory"),
        ("two", "z: expected a file or a directory of files, got something else"),
        ("pipe.csv", "pipe.csv: expected a file or a directory of files, got something else"),
    ):
        with pytest.raises(DataError, match=re.escape(message)):
            expand_paths([str(tmp_path / path)])
    (tmp_path / "two" / "z").unlink()
    with pytest.raises(DataError, match=r"has files of several types, \.csv, \.parquet; are they"):
        expand_paths([str(tmp_path / "two")])
    # By a pattern they may be read one by one.
    assert len(expand_paths([str(tmp_path / "two" / "*.csv")])) == 1


def test_the_type_is_that_of_the_compressed_file():
    names = ("a.csv", "A.CSV.gz", "b.x.tsv.zst", "c.zip", "part-0", "d.parquet", "e.csv.BZ2")
    types = [".csv", ".csv", ".tsv", "", "", ".parquet", ".csv"]
    assert [file_type(Path(name)) for name in names] == types
