"""Resuming: from an intact checkpoint, alone in the workdir; damage is named, never used."""

import fcntl
import json
import os
import shutil

import pytest

from data_pipelines.histories.record import Split
from experiments import train
from experiments.runs.locking import lock_workdir
from experiments.runs.restore import restore_run
from hiertcn_jax.saving.checkpoint import CheckpointError, Checkpoints
from hiertcn_jax.saving.checkpoint_damage import step_folders
from hiertcn_jax.saving.checksums import write_checksums
from tests.experiments.small_runs import contents, journal, run_train, train_in
from tests.forked import run_forked


@pytest.fixture
def damaged(whole, tmp_path):
    """A copy whose newest checkpoint has one bit flipped, and that file's path."""
    workdir = tmp_path / "run"
    shutil.copytree(whole, workdir)
    path = max(
        (workdir / "checkpoints" / "10" / "state").rglob("*"), key=lambda p: p.stat().st_size
    )
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return workdir, path


def test_a_damaged_newest_checkpoint_stops_the_run_and_nothing_changes(data, damaged):
    workdir, path = damaged
    before = contents(workdir)
    with pytest.raises(CheckpointError) as caught:
        run_train(data, workdir)
    assert str(caught.value) == (
        f"{path}: changed since it was written: its SHA-256 differs; "
        "--allow_older_checkpoint resumes from step 9"
    )
    with pytest.raises(CheckpointError, match="its SHA-256 differs"):
        restore_run(workdir, "last")
    assert contents(workdir) == before


def test_a_damaged_best_checkpoint_is_noticed_before_a_newer_one_is_resumed(data, whole, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(whole, workdir)
    newest = workdir / "checkpoints" / "10"
    best = next(folder for step, folder in step_folders(newest.parent).items() if step != 10)
    (best / "metrics" / "metadata").write_text('{"monitored": 1.0}')
    (best / "checksums.json").unlink()
    write_checksums(best)
    path = max((best / "state").rglob("*"), key=lambda path: path.stat().st_size)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError) as caught:
        run_train(data, workdir)
    assert str(caught.value).startswith(f"{path}: ")
    assert str(caught.value).endswith(
        "; --allow_older_checkpoint moves it away and resumes from step 10"
    )


def test_with_permission_an_older_checkpoint_resumes_and_repeats_the_lost_steps(
    data, whole, damaged, capsys
):
    workdir, path = damaged
    run_train(data, workdir, "--allow_older_checkpoint")
    said = capsys.readouterr().out
    assert f"{path}: changed since" in said
    assert f"moved to {workdir}/checkpoints/damaged/10\n" in said
    assert "resuming from step 9\n" in said
    assert (workdir / "checkpoints" / "damaged" / "10" / path.relative_to(
        workdir / "checkpoints" / "10")).exists()  # fmt: skip
    assert journal(workdir) == journal(whole)
    assert (workdir / "test.json").read_text() == (whole / "test.json").read_text()
    # The permission was for one start only.
    assert "allow_older" not in (workdir / "flags.txt").read_text()


def test_without_an_intact_checkpoint_a_run_does_not_resume(data, damaged):
    workdir, _ = damaged
    for folder in (workdir / "checkpoints").iterdir():
        (folder / "checksums.json").unlink()
    before = contents(workdir)
    for more in ((), ("--allow_older_checkpoint",)):
        with pytest.raises(CheckpointError, match=r"10/checksums.json: missing; no checkpoint in"):
            run_train(data, workdir, *more)
    assert contents(workdir) == before


def test_a_renamed_checkpoint_does_not_resume(data, whole, tmp_path, capsys):
    workdir = tmp_path / "run"
    shutil.copytree(whole, workdir)
    (workdir / "checkpoints" / "9").rename(workdir / "checkpoints" / "60")
    before = contents(workdir)
    for more in ((), ("--allow_older_checkpoint",)):
        with pytest.raises(CheckpointError) as caught:
            run_train(data, workdir, *more)
        assert (
            str(caught.value)
            == f"{workdir}/checkpoints/60: holds step 9: was it renamed? Give it that name"
        )
    assert "resuming" not in capsys.readouterr().out
    assert contents(workdir) == before


def edit_loader(workdir, change):
    """Changes the loader's state in the newest checkpoint, with valid checksums."""
    folder = workdir / "checkpoints" / "10"
    path = folder / "loader" / "metadata"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))
    (folder / "checksums.json").unlink()
    write_checksums(folder)


@pytest.mark.parametrize(
    "change, line",
    [
        (lambda v: v.pop("batches"), "batches: missing"),
        (lambda v: v["progress"].update(more=1), "progress.more=1: unknown to this version"),
        (lambda v: v["sums"].update(events="x"), "sums.events=x: must be a whole number"),
        (lambda v: v["batches"].update(lane_count=0), "a state of 0 lanes, for 8 lanes"),
        (lambda v: v["batches"].update(place=[10**6] * 8), "lane 0 of 8 never reaches epoch="),
        (lambda v: v["batches"].update(event=[-5] * 8), "event=[-5, -5, "),
        (lambda v: v["batches"].update(event=[10**6] * 8), "lane 0: event=1000000: its user "),
        (lambda v: v["batches"].update(step=9), "batches.step=9: must be 10"),
    ],
)
def test_an_invalid_loader_state_is_named_by_field(data, whole, tmp_path, change, line):
    workdir = tmp_path / "run"
    shutil.copytree(whole, workdir)
    edit_loader(workdir, change)
    before = contents(workdir)
    with pytest.raises(CheckpointError) as caught:
        train_in(data, workdir)
    assert str(caught.value).startswith(f"{workdir}/checkpoints/10: loader: {line}")
    assert contents(workdir) == before


def test_a_validation_that_never_runs_is_not_awaited(data, tmp_path):
    """If valid is trained on, no validation can be due."""
    train_in(data, tmp_path, "--fit_on=train_valid")
    edit_loader(tmp_path, lambda values: values["progress"].update(validation_due=True))
    with pytest.raises(CheckpointError, match=r"10: loader: progress.validation_due=True: this "):
        train_in(data, tmp_path, "--fit_on=train_valid")


def test_a_second_run_on_a_workdir_is_refused(data, whole, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(whole, workdir)
    before = contents(workdir)
    with (workdir / "lock").open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError, match=r"run: process \d+ trains here"):
            run_train(data, workdir)
        flags = f"--flagfile={whole}/flags.txt", f"--workdir={workdir}"
        done = run_forked("experiments.train", *flags)
        assert done.returncode == 1
        assert done.stderr.startswith(f"error: {workdir}: process ")
        assert done.stderr.count("\n") == 1
        # Reading it is allowed.
        assert restore_run(workdir, "best").step == restore_run(whole, "best").step
    assert contents(workdir) == before
    run_train(data, workdir)


def test_the_lock_is_held_until_the_results_are_written(data, whole, tmp_path, monkeypatch):
    workdir, splits = tmp_path / "run", []
    shutil.copytree(whole, workdir)
    score = train.score

    def score_alone(restored, data, split):
        with pytest.raises(BlockingIOError, match="trains here"), lock_workdir(workdir):
            pass
        splits.append(split)
        return score(restored, data, split)

    monkeypatch.setattr(train, "score", score_alone)
    run_train(data, workdir)
    assert splits == [Split.VALID, Split.TEST]
    with lock_workdir(workdir):
        pass


def test_the_lock_names_who_holds_it_and_goes_with_them(tmp_path):
    for _ in range(2):
        with (
            lock_workdir(tmp_path),
            pytest.raises(BlockingIOError, match=f"process {os.getpid()} trains"),
            lock_workdir(tmp_path),
        ):
            pass


def test_a_checkpoint_may_be_removed_while_it_is_read(whole, tmp_path, monkeypatch):
    """A run that trains in the workdir deletes the old best one while the reader reads."""
    workdir = tmp_path / "run"
    shutil.copytree(whole, workdir)
    restore, tried = Checkpoints.restore, []

    def restore_late(self, step, *arguments, **named):
        tried.append(step)
        if len(tried) == 1:
            shutil.rmtree(workdir / "checkpoints" / str(step))
        return restore(self, step, *arguments, **named)

    monkeypatch.setattr(Checkpoints, "restore", restore_late)
    first, second = sorted(Checkpoints(workdir / "checkpoints", read_only=True).steps())[-2:]
    assert restore_run(workdir, "last").step == first
    assert tried == [second, first]
    # A step that was asked for and is gone is an error.
    with pytest.raises(CheckpointError, match=f"no checkpoint of step {second}"):
        restore_run(workdir, str(second))
