import fcntl
import os

import pytest

from data_pipelines.commands import aside
from data_pipelines.commands.aside import written_aside
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


def test_an_existing_directory_is_kept(tmp_path):
    (tmp_path / "a").write_text("a")
    with pytest.raises(DataError, match="is not empty"), written_aside(tmp_path):
        pass
    with pytest.raises(DataError, match="is a file"), written_aside(tmp_path / "a"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_directory_created_meanwhile_is_kept(tmp_path):
    target = tmp_path / "out"
    with pytest.raises(DataError, match="is not empty"), written_aside(target):
        target.mkdir()
        (target / "b").write_text("b")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_only_leftovers_of_killed_processes_are_removed(tmp_path):
    kept = [
        ".out.partial-",
        ".out.partial-x",
        ".other.partial-5",
        "out.partial-5",
        ".out.partial-7",
    ]
    for name in (".out.partial-1", ".out.partial-99999999", *kept):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a").write_text("a")
    (tmp_path / ".out.partial-8").write_text("a file")
    (tmp_path / ".out.partial-9").symlink_to(tmp_path / ".other.partial-5")
    # A process that is writing it holds such a lock.
    lock = os.open(tmp_path / ".out.partial-7", os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with written_aside(tmp_path / "out") as beside:
        (beside / "b").write_text("b")
    os.close(lock)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"out", ".out.partial-8", ".out.partial-9", *kept}


def test_a_process_at_work_holds_its_lock(tmp_path):
    with written_aside(tmp_path / "out") as beside:
        (beside / "a").write_text("a")
        # A second lock, in the same process; it belongs to the open directory.
        aside._remove_abandoned(tmp_path / "out")
        assert (beside / "a").exists()
