"""A disk that is full or not writable: one line, and good files stay good."""

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from data_pipelines.commands.os_errors import os_error_line
from experiments.runs.files import make_workdir, naming, whole_file, write_text
from hiertcn_jax.saving.checkpoint_damage import step_folders, survey
from tests.experiments.small_runs import ROOT, contents, train_in
from tests.forked import run_forked

MOUNTS = ("unshare", "--map-root-user", "--mount", "sh", "-c")
"""A shell that may mount in its own name space; its mounts disappear with it."""

_LIMITED = """
import resource, runpy, sys
limit, module = int(sys.argv.pop(1)), sys.argv.pop(1)
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""
TRAIN = ("sh", sys.executable, "-m", "experiments.train")


def run(command, **environment):
    environment = {**os.environ, "TERM": "dumb", **environment}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="session")
def may_mount(tmp_path_factory):
    directory = tmp_path_factory.mktemp("mount")
    try:
        done = run([*MOUNTS, f"mount -t tmpfs tmpfs {directory}"])
    except FileNotFoundError:
        pytest.skip("there is no unshare")
    if done.returncode:
        pytest.skip(f"mounting is not allowed: {done.stderr}")


def flags_of(whole, workdir, *more):
    flags = f"--flagfile={whole}/flags.txt", f"--workdir={workdir}"
    return [*flags, *more]


def assert_one_line(done, start, *parts):
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {start}")
    assert done.stderr.count("\n") == 1
    assert all(part in done.stderr for part in parts)


def assert_same_checkpoints(one, other):
    """A failed write may leave a temporary file; the next start removes it."""
    assert list(step_folders(one / "checkpoints")) == list(step_folders(other / "checkpoints"))
    for step in step_folders(other / "checkpoints"):
        place = Path("checkpoints") / str(step)
        assert contents(one / place) == contents(other / place)


_FULL_DISK = """
mount -t tmpfs tmpfs "$MOUNTED" && cp -r "$WHOLE/." "$MOUNTED" || exit 9
used=$(df --output=used -B1 "$MOUNTED" | tail -1)
mount -o remount,size=$((used + 80000)) "$MOUNTED" || exit 9
"$@"
code=$?
cp -r "$MOUNTED" "$KEPT"
exit $code
"""


@pytest.mark.thorough
def test_a_full_disk_is_one_line_and_earlier_checkpoints_stay_whole(
    data, whole, tmp_path, may_mount
):
    """The free space is less than a checkpoint's size."""
    mounted, kept = tmp_path / "mounted", tmp_path / "kept"
    mounted.mkdir()
    command = [*MOUNTS, _FULL_DISK, *TRAIN, *flags_of(whole, mounted, "--steps=13")]
    done = run(command, MOUNTED=str(mounted), WHOLE=str(whole), KEPT=str(kept))
    assert_one_line(
        done, f"{mounted}/checkpoints/12: cannot be written: ", "No space left on device"
    )
    assert "; that of step 10 is whole\n" in done.stderr
    assert_same_checkpoints(kept, whole)
    # On a disk with free space it resumes.
    train_in(data, kept, "--steps=13")
    assert survey(kept / "checkpoints") == (13, {})


def test_files_that_may_not_grow_are_one_line_and_earlier_files_stay(data, whole, tmp_path):
    """Like a full disk, for a user who may not mount one."""
    workdir = tmp_path / "run"
    shutil.copytree(whole, workdir)
    limit = (workdir / "metrics.jsonl").stat().st_size + 6000
    flags = flags_of(whole, workdir, "--steps=12")
    done = run_forked("experiments.train", *flags, most_file_bytes=limit)
    assert_one_line(done, f"{workdir}/checkpoints/12: cannot be written: ", "File too large")
    assert "; that of step 10 is whole\n" in done.stderr
    assert_same_checkpoints(workdir, whole)


@pytest.mark.thorough
def test_a_workdir_that_cannot_be_written_is_one_line(whole, may_mount):
    before = contents(whole)
    script = f'mount --bind {whole} {whole} && mount -o remount,ro,bind {whole} || exit 9\n"$@"'
    done = run([*MOUNTS, script, *TRAIN, *flags_of(whole, whole, "--steps=12")])
    assert_one_line(
        done, f"workdir={whole}: cannot be written: Read-only file system; name a place on a disk"
    )
    assert contents(whole) == before


@pytest.fixture
def obeying():
    """Prefix of a command that makes file modes apply to it: root has to give up its privilege."""
    if os.geteuid():
        return []
    rights = "-dac_override,-dac_read_search"
    prefix = ["setpriv", f"--bounding-set={rights}", f"--inh-caps={rights}"]
    try:
        done = run([*prefix, "true"])
    except FileNotFoundError:
        pytest.skip("root writes where it may not, and there is no setpriv to give that up")
    if done.returncode:
        pytest.skip(f"root writes where it may not, and cannot give that up: {done.stderr}")
    return prefix


def test_a_workdir_that_may_not_be_written_is_one_line(whole, tmp_path, obeying):
    """Like a read-only disk, for a user who may not mount one."""
    workdir = tmp_path / "run"
    shutil.copytree(whole, workdir)
    before, paths = contents(workdir), [workdir, *workdir.rglob("*")]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    done = run([*obeying, *TRAIN[1:], *flags_of(whole, workdir, "--steps=12")])
    for path in paths:
        path.chmod(0o755)
    assert_one_line(
        done, f"workdir={workdir}: cannot be written: Permission denied; set its permissions, or"
    )
    assert contents(workdir) == before


def test_a_run_that_is_read_only_is_scored_and_its_table_printed(whole, may_mount):
    before = contents(whole)
    script = f'mount --bind {whole} {whole} && mount -o remount,ro,bind {whole} || exit 9\n"$@"'
    evaluate = ["sh", sys.executable, "-m", "experiments.evaluate", f"--workdir={whole}"]
    done = run([*MOUNTS, script, *evaluate])
    assert done.returncode == 1
    first, last = done.stderr.splitlines()
    reason = "cannot be written: Read-only file system; name a place on a disk that can be written"
    assert first == f"workdir={whole}: {reason}; the result will be printed only"
    assert last.startswith(f"error: {whole}/test.json: Read-only file system; name a place on")
    assert "coverage" in done.stdout and "hiertcn" in done.stdout
    assert contents(whole) == before


def test_a_result_that_does_not_fit_on_the_disk_has_been_printed(whole, tmp_path):
    """Like a full disk, for a user who may not mount one."""
    workdir = tmp_path / "run"
    shutil.copytree(whole, workdir)
    before = contents(workdir)
    limited = [sys.executable, "-c", _LIMITED, "100", "experiments.evaluate"]
    done = run([*limited, f"--workdir={workdir}", "--split=valid"])
    assert_one_line(done, f"{workdir}/valid.json: File too large; raise the limit on")
    assert "coverage" in done.stdout and "hiertcn" in done.stdout
    assert contents(workdir) == before


def test_a_file_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    path, synced = tmp_path / "results.json", []
    path.write_text("one")
    fsync = os.fsync

    def look_and_sync(descriptor):
        fsync(descriptor)
        assert path.read_text() == "one"
        synced.append(os.fstat(descriptor).st_ino)

    monkeypatch.setattr(os, "fsync", look_and_sync)
    with whole_file(path) as aside:
        aside.write_text("two")
    assert path.read_text() == "two"
    assert synced == [path.stat().st_ino]


def test_a_workdir_that_is_a_file_is_said(tmp_path):
    path = tmp_path / "run"
    path.write_text("")
    with pytest.raises(OSError, match=f"^{path}: is a file, not a directory to work in; give"):
        make_workdir(path)
    with pytest.raises(OSError, match=f"^{path}/a/b: {path} is a file, not a directory to work"):
        make_workdir(path / "a" / "b")
    for _ in range(2):
        make_workdir(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_file_is_complete_or_unchanged(tmp_path, error):
    path = tmp_path / "results.json"
    with whole_file(path) as aside:
        aside.write_text("one")
    with pytest.raises(type(error)) as caught, whole_file(path) as aside:
        aside.write_text("tw")
        raise error
    assert path.read_text() == "one"
    assert list(tmp_path.iterdir()) == [path]
    if isinstance(error, OSError):
        assert str(caught.value) == f"[Errno 28] No space left on device: '{path}'"


@pytest.mark.parametrize("write", ["write_parquet", "write_csv", "write_ndjson"])
def test_a_table_on_a_full_disk_is_an_error_of_the_system(tmp_path, write):
    """Whatever Polars makes of it. What is written to /dev/full meets a full disk."""
    if not os.path.exists("/dev/full"):
        pytest.skip("there is no /dev/full")
    path, frame = tmp_path / "u", pl.DataFrame({"user_id": range(100_000)})
    with pytest.raises(OSError) as caught, naming(path):
        getattr(frame, write)("/dev/full")
    assert os_error_line(caught.value) == (
        f"{path}: No space left on device; make room there, or name a place on another disk"
    )


def test_two_processes_may_write_the_same_file(tmp_path):
    """As an evaluation does beside a training run: each file is whole, and the last one stays."""
    path = tmp_path / "valid.json"
    with whole_file(path) as one, whole_file(path) as other:
        assert one != other
        other.write_text("other")
        one.write_text("one")
    # The inner block ended first.
    assert path.read_text() == "one"
    assert list(tmp_path.iterdir()) == [path]


def test_only_leftovers_of_killed_processes_are_removed(tmp_path):
    path = tmp_path / "valid.json"
    for name in ("valid.json.partial", "valid.json.7-0123abcd.partial"):
        (tmp_path / name).write_text("half")
    kept = {"valid.json.mine.partial", "test.json.7-0123abcd.partial", "valid.json.bak"}
    for name in kept:
        (tmp_path / name).write_text("mine")
    (tmp_path / "valid.json.8-0123abcd.partial").symlink_to(tmp_path / "valid.json.bak")
    with whole_file(path) as outer:
        # A process that is still running wrote this.
        outer.write_text("whole")
        with whole_file(path) as inner:
            inner.write_text("whole")
        assert outer.exists()
    names = {entry.name for entry in tmp_path.iterdir()}
    assert names == {"valid.json", "valid.json.8-0123abcd.partial", *kept}


def test_a_file_that_was_taken_for_abandoned_is_made_again(tmp_path, monkeypatch):
    """Another process may look between its creation and its lock."""
    path, lock = tmp_path / "a.json", fcntl.flock
    removed = []

    def remove_and_lock(descriptor, operation):
        if not removed:
            (aside,) = tmp_path.iterdir()
            aside.unlink()
            removed.append(aside)
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", remove_and_lock)
    write_text(path, "a")
    assert removed and path.read_text() == "a"


def test_a_file_has_the_rights_of_any_other(tmp_path):
    write_text(tmp_path / "a.json", "a")
    (tmp_path / "b.json").write_text("b")
    modes = [(tmp_path / name).stat().st_mode for name in ("a.json", "b.json")]
    assert modes[0] == modes[1]
