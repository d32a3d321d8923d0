"""A command that is refused leaves nothing behind: no directory, no lock, no half-made file."""

import fcntl
import os
import shutil

import pytest

from experiments.runs.files import kept_if_used
from experiments.runs.locking import lock_workdir
from tests.experiments.small_runs import FLAGS
from tests.experiments.test_sweep import EVENTS, space_file
from tests.forked import run_forked
from tests.volume import mostly_thorough

TRAIN = ("experiments.train", "--data_dir=D", "--workdir=new/W", *FLAGS)
COMPARE = ("experiments.compare", "--data_dir=D", "--workdir=new/C", *FLAGS)
SWEEP = ("experiments.sweep", "--data_dir=D", "--workdir=new/S", "--space=space.json", *FLAGS)

REFUSED = {
    "train without a log": (*TRAIN, "--data_dir=none"),
    "train on a file": (*TRAIN, "--data_dir=space.json"),
    "train without negatives of that kind": (*TRAIN, "--negatives=impressions:3"),
    "train without embeddings": (
        *TRAIN, "--item_embeddings=none.npy", "--item_embedding_ids=none.txt",
    ),
    "train on too many devices": (*TRAIN, "--data_parallelism=8", "--model_parallelism=4"),
    "train inside a log": (*TRAIN, "--workdir=D/W"),
    "compare without a log": (*COMPARE, "--data_dir=none"),
    "compare what does not fit": (*COMPARE, "--models=max_item,popularity", "--settings=wide.json"),
    "sweep without a log": (*SWEEP, "--data_dir=none"),
    "sweep without its database": (*SWEEP, "--storage=sqlite:///none/s.db"),
    "evaluate without a run": ("experiments.evaluate", "--workdir=none", "--ranks_out=r.csv"),
    "evaluate on no log": ("experiments.evaluate", "--workdir=W", "--data_dir=none"),
    "embed without a run": ("experiments.embed", "--workdir=none", "--output=u.csv"),
    "recommend to nobody": (
        "experiments.recommend", "--workdir=W", "--output=r.csv", "--users=none.txt",
    ),
    "recommend without a run": ("experiments.recommend", "--workdir=none", "--output=r.csv"),
    "export without a run": ("experiments.export", "--workdir=none", "--output_dir=new/X"),
    "export of no log": (
        "experiments.export", "--workdir=W", "--output_dir=new/X", "--data_dir=none",
    ),
    "replay without a cut": (
        "experiments.replay", "--data_dir=D", "--rankers=popularity", "--output_dir=new/R",
    ),
    "replay after the end": (
        "experiments.replay", "--data_dir=D", "--rankers=popularity", "--output_dir=new/R",
        "--from=2090-01-01",
    ),
    "serve without an export": ("experiments.serve", "--export_dir=none", "--store=s.db"),
    "serve a run": ("experiments.serve", "--export_dir=W", "--store=s.db"),
    "prepare nothing": ("data_pipelines.prepare", "--input=none.csv", "--output_dir=new/D"),
    "prepare a bad row": ("data_pipelines.prepare", "--input=bad.csv", "--output_dir=new/D"),
    "prepare from no titles": (
        "data_pipelines.prepare", "--synthetic=planted", "--synthetic_users=9",
        "--output_dir=new/D", "--items=none.csv",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def place(data, whole, tmp_path_factory):
    """A folder with a log D, a run W and other files."""
    place = tmp_path_factory.mktemp("refused")
    shutil.copytree(data.directory, place / "D")
    shutil.copytree(whole, place / "W")
    space_file(place, EVENTS)
    (place / "wide.json").write_text('{"max_item": {"dim": 100000}}')
    (place / "bad.csv").write_text("user_id,item_id,timestamp\n1,2,yesterday\n")
    return place


def everything(place):
    """All paths below a folder, with the content of files."""
    return {
        path.relative_to(place): path.read_bytes() if path.is_file() else None
        for path in place.rglob("*")
    }


@pytest.mark.parametrize(
    "name",
    mostly_thorough(
        list(REFUSED),
        "train without a log",
        "train without negatives of that kind",
        "compare what does not fit",
        "replay after the end",
    ),
)
def test_a_refusal_is_one_line_and_leaves_nothing(place, name):
    module, *arguments = REFUSED[name]
    before = everything(place)
    arguments = [_placed(place, one) for one in arguments]
    done = run_forked(module, *arguments)
    assert done.returncode == 1, done
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    assert everything(place) == before


def _placed(place, argument):
    """The argument with its path in a folder."""
    flag, _, value = argument.partition("=")
    if value.startswith("sqlite:///"):
        return f"{flag}=sqlite:///{place / value.removeprefix('sqlite:///')}"
    first = value.partition("/")[0].partition(".")[0]
    is_path = first in {"D", "W", "new", "none", "space", "wide", "bad", "r", "u", "s"}
    return f"{flag}={place / value}" if is_path else argument


class FailedError(Exception):
    pass


def test_what_was_there_before_stays(tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    with pytest.raises(FailedError), kept_if_used(mine / "a" / "b"):
        assert (mine / "a" / "b").is_dir()
        raise FailedError
    assert list(tmp_path.rglob("*")) == [mine]
    with pytest.raises(FailedError), kept_if_used(mine, "flags.txt"):
        (mine / "flags.txt").touch()
        raise FailedError
    assert list(mine.iterdir()) == []
    (mine / "flags.txt").write_text("mine")
    with pytest.raises(FailedError), kept_if_used(mine, "flags.txt"):
        raise FailedError
    with pytest.raises(FailedError), kept_if_used(mine / "c"):
        (mine / "c" / "work").touch()
        raise FailedError
    assert sorted(path.name for path in mine.rglob("*")) == ["c", "flags.txt", "work"]


def test_a_lock_goes_with_a_run_that_never_began(tmp_path):
    workdir = tmp_path / "a" / "W"
    with pytest.raises(FailedError), lock_workdir(workdir):
        assert (workdir / "lock").exists()
        raise FailedError
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FailedError), lock_workdir(workdir):
        (workdir / "flags.txt").touch()
        raise FailedError
    assert sorted(os.listdir(workdir)) == ["flags.txt", "lock"]


def test_a_lock_whose_file_was_removed_is_taken_again(tmp_path, monkeypatch):
    """Its last holder may remove the file after another process has opened it."""
    path, opened = tmp_path / "lock", []
    flock = fcntl.flock

    def remove_first(file, how):
        if not opened:
            opened.append(file)
            path.unlink()
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", remove_first)
    with lock_workdir(tmp_path):
        assert path.read_text() == f"{os.getpid()}\n"
        with pytest.raises(BlockingIOError), lock_workdir(tmp_path):
            pass
