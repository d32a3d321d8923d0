"""Killed with SIGKILL at unforeseeable moments, the real command ends like a run never killed."""

import json
import shutil

import pytest

from benchmarks.chaos import MODES, Chaos, cached_programs, figures
from benchmarks.commands import start_fresh
from benchmarks.kills import KINDS
from benchmarks.run_differences import differences
from tests.forked import start_forked
from tests.volume import few

STEPS = few(24, of=60)


@pytest.fixture(scope="module")
def chaos(tmp_path_factory):
    """A log, and the runs on it."""
    return Chaos(tmp_path_factory.mktemp("chaos"), STEPS, start_forked)


@pytest.fixture
def programs(tmp_path):
    """Fresh interpreters share their compiled programs."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in cached_programs(tmp_path / "programs").items():
            patch.setenv(name, value)
        yield


def require_same_end(chaos, mode, name, kinds, seed):
    chain = chaos.chain(mode, name, kinds, seed)
    assert chain.differences == []
    assert [kind for kind, _ in chain.sights] == kinds
    case = figures([chain], 0.0)["all"]
    assert (case["kills"], case["runs"], case["different"]) == (len(kinds), 1, 0)
    # The kills had an effect: steps were lost, and repeated.
    assert case["with_steps_that_were_not_saved"] > len(kinds) // 4


def test_a_run_that_was_killed_ends_as_one_that_was_not(chaos):
    require_same_end(chaos, "rows", "killed", ["writing"], seed=0)


@pytest.mark.thorough
@pytest.mark.parametrize("seed, mode", list(enumerate(MODES)))
def test_a_run_that_was_killed_at_every_kind_of_moment_ends_as_one_that_was_not(
    programs, tmp_path, seed, mode
):
    chaos = Chaos(tmp_path, STEPS, start_fresh)
    *kinds, last = KINDS
    kinds = [*kinds[2 * seed :], *kinds[: 2 * seed], last]
    require_same_end(chaos, mode, f"killed_{mode}", kinds, seed)


@pytest.mark.thorough
def test_two_processes_end_like_undisturbed_ones_whichever_was_killed(programs, tmp_path):
    """The second is killed while a checkpoint is written, then the first at an epoch's end."""
    pair = Chaos(tmp_path, 24, start_fresh, processes=2)
    chain = pair.chain("rows", "killed", ["writing", "epoch"], seed=3)
    assert chain.differences == []
    assert [kind for kind, _ in chain.sights] == ["writing", "epoch"]
    said = (tmp_path / "killed.txt").read_text()
    assert said.count("error: process 1 of 2: its connection broke: ") == 1
    # Without the first process, JAX aborts the other: exit code 134 in a shell.
    assert "the JAX distributed service detected fatal errors" in said


def spoil_line(workdir):
    path = workdir / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines, lines[-1]]))


def spoil_loader(workdir):
    path = max((workdir / "checkpoints").glob("*/loader/metadata"))
    values = json.loads(path.read_text())
    values["sums"]["events"] += 1
    path.write_text(json.dumps(values))


def spoil_config(workdir):
    path = workdir / "checkpoints" / "10" / "config" / "metadata"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))


def spoil_state(workdir):
    one, other = sorted((workdir / "checkpoints").iterdir())[:2]
    shutil.rmtree(one / "state")
    shutil.copytree(other / "state", one / "state")


def spoil_steps(workdir):
    (workdir / "checkpoints" / "1").mkdir()


def spoil_results(workdir):
    path = workdir / "test.json"
    path.write_text(path.read_text().replace("0.", "0.1", 1))


@pytest.mark.parametrize(
    "spoil, name",
    [
        (spoil_line, "metrics.jsonl"), (spoil_loader, "loader"), (spoil_state, "state"),
        (spoil_steps, "checkpoints"), (spoil_results, "test.json"),
        (spoil_config, "config"),
    ],
)  # fmt: skip
def test_the_comparison_detects_differences(whole, tmp_path, spoil, name):
    other = tmp_path / "other"
    shutil.copytree(whole, other)
    assert differences(other, whole) == []
    spoil(other)
    assert [found.split()[0] for found in differences(other, whole)] == [name]
