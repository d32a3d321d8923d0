"""A directory's content tells its kind; other kinds are refused, and so are paths inside them."""

import errno
import os
import re

import pytest

from data_pipelines.config import PrepareConfig
from data_pipelines.directories import Kind, kind_of, require_kind, require_output
from data_pipelines.errors import DataError
from data_pipelines.prepare import prepare

KINDS = [
    (["manifest.json", "histories/1.0.0/a"], "", Kind.LOG),
    (["manifest.json", "vocabulary.parquet"], "", Kind.LOG),
    (["manifest.json", "weights.safetensors"], "", Kind.EXPORT),
    # Other programs write files of that name too.
    (["manifest.json"], "", None),
    (["compare.json"], "", Kind.COMPARISON),
    (["flags.txt"], "--data_dir=D\n--models=popularity\n", Kind.COMPARISON),
    (["popularity/cell.json"], "", Kind.COMPARISON),
    (["hiertcn/seed_0/cell.json"], "", Kind.COMPARISON),
    (["sweep.db"], "", Kind.SWEEP),
    (["leaderboard.json"], "", Kind.SWEEP),
    (["trials/0000/trial.flags"], "", Kind.SWEEP),
    (["cell.json", "checkpoints/3/a"], "", Kind.CELL),
    (["checkpoints/3/a"], "", Kind.RUN),
    (["metrics.jsonl"], "", Kind.RUN),
    (["flags.txt"], "--data_dir=D\n--model=hiertcn\n", None),
    (["trial.flags"], "", Kind.RUN),
    (["replay_settings.json"], "", Kind.REPLAY),
    (["replay.json"], "", Kind.REPLAY),
    # A directory that is only locked, and other programs' files.
    (["lock"], "", None),
    (["notes.txt", "data/manifest.json"], "", None),
    ([], "", None),
]


def make(directory, names, text=""):
    """A directory with these files."""
    for name in names:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    directory.mkdir(exist_ok=True)
    return directory


@pytest.mark.parametrize(("names", "text", "kind"), KINDS)
def test_a_kind_is_told_by_content(tmp_path, names, text, kind):
    assert kind_of(make(tmp_path / "D", names, text)) == kind


def test_paths_that_are_no_directory_have_no_kind(tmp_path):
    (tmp_path / "file").write_text("")
    assert kind_of(tmp_path / "file") is None
    assert kind_of(tmp_path / "missing") is None


def test_another_kind_is_refused_with_what_to_do(tmp_path):
    directory = make(tmp_path / "D", ["compare.json"])
    require_kind("workdir", directory, Kind.COMPARISON)
    message = (
        f"workdir={directory}: is a comparison (its models are in <name>/seed_<seed>), not a "
        "training run; name another directory by --workdir"
    )
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        require_kind("workdir", directory, Kind.RUN, Kind.CELL)
    for mine in (tmp_path / "missing", make(tmp_path / "E", ["notes.txt"])):
        require_kind("workdir", mine, Kind.RUN)


@pytest.mark.parametrize("inside", ["run", "histories/run", "a/b/c"])
def test_nothing_is_written_below_a_prepared_log(tmp_path, monkeypatch, inside):
    log = make(tmp_path / "D", ["manifest.json", "vocabulary.parquet"])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(log)
    for directory in (log / inside, tmp_path / "link" / inside):
        for refused in (
            lambda path: require_kind("workdir", path, Kind.RUN),
            lambda path: require_output("output", path / "u.parquet"),
        ):
            with pytest.raises(
                DataError, match=f"is inside the prepared log {log.resolve()}, which"
            ):
                refused(directory)
    require_output("output", tmp_path / "u.parquet")


def test_nothing_is_written_among_checkpoints(tmp_path):
    run = make(tmp_path / "W", ["checkpoints/3/state/a"])
    for path in (run / "checkpoints" / "u.csv", run / "checkpoints" / "3" / "state" / "u.csv"):
        with pytest.raises(DataError, match="is inside the checkpoints of the run"):
            require_output("output", path)
    require_output("output", run / "u.csv")
    # A directory of that name that belongs to no run.
    make(tmp_path / "mine", ["notes.txt"])
    require_output("output", tmp_path / "checkpoints" / "u.csv")


@pytest.mark.parametrize(
    ("names", "output"),
    [
        (["cell.json"], "ranks.parquet"),
        (["compare.json"], "compare.csv"),
        (["leaderboard.json"], "leaderboard.csv"),
        (["checkpoints/3/a"], "metrics.jsonl"),
    ],
)
def test_no_output_replaces_a_file_of_ours(tmp_path, names, output):
    directory = make(tmp_path / "W", names)
    with pytest.raises(DataError, match=f"output=.*{output}: would replace a file of a"):
        require_output("output", directory / output)
    require_output("output", directory / f"my_{output}")


def test_prepare_refuses_paths_inside_a_prepared_log_or_a_run(tmp_path):
    log, run = tmp_path / "D", make(tmp_path / "W", ["checkpoints/3/a"])

    def prepare_into(directory):
        prepare(PrepareConfig(synthetic="planted", synthetic_users=20, output_dir=str(directory)))

    prepare_into(log)
    with pytest.raises(DataError, match=r"output_dir=.*: is inside the prepared log"):
        prepare_into(log / "other")
    with pytest.raises(DataError, match="is not empty: it holds a prepared log; give another"):
        prepare_into(log)
    with pytest.raises(DataError, match="is not empty: it holds a training run; give another"):
        prepare_into(run)
    assert sorted(path.name for path in log.iterdir()) == [
        "histories", "log", "manifest.json", "vocabulary.parquet",
    ]  # fmt: skip


def test_folders_that_vanish_meanwhile_do_no_harm(tmp_path, monkeypatch):
    """An output in /tmp, where other programs make and remove folders."""
    make(tmp_path, ["a/x", "b/seed_0/cell.json"])
    scandir = os.scandir

    def scan(path):
        if str(path).endswith("/a"):
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", scan)
    assert kind_of(tmp_path) == Kind.COMPARISON
    require_output("output", tmp_path / "a" / "u.csv")
