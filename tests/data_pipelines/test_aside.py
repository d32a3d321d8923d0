import pytest

from data_pipelines.aside import written_aside
from data_pipelines.errors import DataError


def test_appears_whole(tmp_path):
    target = tmp_path / "made" / "on the way"
    with written_aside(target) as beside:
        (beside / "a").write_text("a")
        assert not target.exists()
    assert [path.name for path in target.iterdir()] == ["a"]
    assert list(target.parent.iterdir()) == [target]


def test_an_empty_directory_is_taken(tmp_path):
    target = tmp_path / "empty"
    target.mkdir()
    with written_aside(target) as beside:
        (beside / "a").write_text("a")
    assert (target / "a").read_text() == "a"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_nothing_is_left_of_what_failed(tmp_path, error):
    with pytest.raises(error), written_aside(tmp_path / "made" / "out") as beside:
        (beside / "a").write_text("a")
        raise error
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_stays(tmp_path):
    (tmp_path / "a").write_text("a")
    with pytest.raises(DataError, match="is not empty"), written_aside(tmp_path):
        pass
    with pytest.raises(DataError, match="is a file"), written_aside(tmp_path / "a"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_what_came_in_between_stays(tmp_path):
    target = tmp_path / "out"
    with pytest.raises(DataError, match="is not empty"), written_aside(target):
        target.mkdir()
        (target / "b").write_text("b")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
