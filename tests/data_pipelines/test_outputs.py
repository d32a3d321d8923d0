"""Outputs are tested before the work, and the test leaves no files."""

import errno
import os
import tempfile
from pathlib import Path

import pytest

from data_pipelines.errors import DataError
from data_pipelines.outputs import check_directory, check_file


def test_testing_an_output_changes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.csv").write_text("mine")
    for name in ("new.csv", "there.csv", str(tmp_path / "new.csv")):
        check_file("output", tmp_path / name)
    check_directory("workdir", tmp_path)
    check_directory("workdir", tmp_path / "a" / "b")
    assert os.listdir(tmp_path) == ["there.csv"]
    assert (tmp_path / "there.csv").read_text() == "mine"


def test_an_unwritable_output_is_reported_with_its_flag(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "manifest.json").write_text("{}")
    for path, kind, message in (
        (tmp_path / "missing" / "u.csv", FileNotFoundError, f"there is no directory {tmp_path}/mi"),
        (tmp_path / "file" / "u.csv", FileNotFoundError, f"there is no directory {tmp_path}/file"),
        (tmp_path, IsADirectoryError, "is a directory, expected a file to write"),
    ):
        with pytest.raises(kind, match=f"^output={path}: {message}"):
            check_file("output", path)
    with pytest.raises(NotADirectoryError, match=f"^workdir=.*: {tmp_path}/file is a file"):
        check_directory("workdir", tmp_path / "file" / "W")
    (tmp_path / "histories").mkdir()
    with pytest.raises(DataError, match="is inside the prepared log"):
        check_file("output", tmp_path / "u.csv")


def test_what_to_do_about_it_is_said(tmp_path, monkeypatch):
    def read_only(**_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(tempfile, "TemporaryFile", read_only)
    expected = (
        "cannot be written: Read-only file system; name a place on a disk that can be written$"
    )
    with pytest.raises(OSError, match=expected):
        check_file("output", tmp_path / "u.csv")


@pytest.mark.parametrize("where", ["/proc", "/sys"])
def test_a_file_system_that_takes_no_files_is_said(where):
    if not os.path.isdir(where):
        pytest.skip(f"there is no {where}")
    with pytest.raises(OSError, match=f"^output={where}/u.csv: cannot be written: "):
        check_file("output", Path(where) / "u.csv")
    with pytest.raises(OSError, match=f"^workdir={where}/a/b: cannot be written: "):
        check_directory("workdir", Path(where) / "a" / "b")
