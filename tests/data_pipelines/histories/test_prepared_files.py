"""The files that a manifest names."""

import pytest

from data_pipelines.errors import DataError
from data_pipelines.histories.prepared_files import describe_files, verify_files


def test_no_name_leads_out_of_the_directory(tmp_path):
    directory, outside = tmp_path / "D", tmp_path / "outside"
    (directory / "a").mkdir(parents=True)
    for path in (outside, directory / "a" / "b"):
        path.write_text("x")
    described = describe_files(directory)
    verify_files(directory, described)
    (entry,) = described.values()
    for name in ("../outside", str(outside), "a/../../outside", "..", "", "a\\b", "a\0"):
        with pytest.raises(DataError, match=r"files: .* is no path in it; prepare it again$"):
            verify_files(directory, {**described, name: entry})
