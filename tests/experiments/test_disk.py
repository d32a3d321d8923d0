"""A disk that is full, or that cannot be written: one line, and what was good stays good."""

import os
import shutil
import subprocess
import sys

import pytest

from experiments.files import whole_file
from hiertcn_jax.checkpoint_damage import checkpoint_damage, step_folders, survey
from tests.experiments.runs import ROOT, contents, journal, train_in

MOUNTS = ("unshare", "--map-root-user", "--mount", "sh", "-c")
"""A shell that may mount, in a name space of its own; what it mounts is gone with it."""


_LIMITED = """
import resource, runpy, sys
limit = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
runpy.run_module("experiments.train", run_name="__main__", alter_sys=True)
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


def test_a_full_disk_is_one_line_and_the_checkpoints_before_stay_whole(
    data, whole, tmp_path, may_mount
):
    mounted, kept = tmp_path / "mounted", tmp_path / "kept"
    mounted.mkdir()
    one = sum(4096 + path.stat().st_blocks * 512 for path in (whole / "checkpoints/10").rglob("*"))
    script = (
        f"mount -t tmpfs -o size={int(1.7 * one)} tmpfs {mounted} || exit 9\n"
        f'"$@"; code=$?; cp -r {mounted} {kept}; exit $code'
    )
    done = run([*MOUNTS, script, *TRAIN, *flags_of(whole, mounted)])
    assert_one_line(done, f"{mounted}/checkpoints/", "cannot be written", "No space left on device")
    found = survey(kept / "checkpoints")
    assert found.damaged == {}
    assert f"; that of step {found.newest_whole} is whole\n" in done.stderr
    # On a disk with room it goes on.
    train_in(data, kept)
    assert journal(kept) == journal(whole)


def test_files_that_may_not_grow_are_one_line_and_what_was_there_stays(data, whole, tmp_path):
    """As a full disk, without leave to mount one."""
    workdir = tmp_path / "run"
    shutil.copytree(whole, workdir)
    before = contents(workdir / "checkpoints")
    limit = (workdir / "metrics.jsonl").stat().st_size + 6000

    command = [sys.executable, "-c", _LIMITED, str(limit), *flags_of(whole, workdir, "--steps=12")]
    # JAX warns where a compiled program may not be kept.
    done = run(command, PYTHONWARNINGS="ignore")
    assert_one_line(done, f"{workdir}/checkpoints/12: cannot be written: ", "File too large")
    assert "; that of step 10 is whole\n" in done.stderr
    assert contents(workdir / "checkpoints") == before
    assert not any(checkpoint_damage(f) for f in step_folders(workdir / "checkpoints").values())


def test_a_workdir_that_cannot_be_written_is_one_line(whole, may_mount):
    before = contents(whole)
    script = f'mount --bind {whole} {whole} && mount -o remount,ro,bind {whole} || exit 9\n"$@"'
    done = run([*MOUNTS, script, *TRAIN, *flags_of(whole, whole, "--steps=12")])
    assert_one_line(done, f"[Errno 30] Read-only file system: '{whole}/lock'")
    assert contents(whole) == before


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_file_is_whole_or_as_it_was(tmp_path, error):
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
