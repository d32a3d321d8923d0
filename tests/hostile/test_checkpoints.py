"""Checkpoint folders with anything deleted, cut, flipped, moved or added, as commands open them."""

import functools
import shutil
from random import Random

import jax
import numpy as np
import pytest

from experiments.runs.restore import restore_run
from hiertcn_jax.saving.checkpoint import CheckpointError
from tests.hostile.checkpoint_folders import (
    DAMAGE_KINDS,
    OTHER_STEP,
    PATH,
    RENAMED,
    VOUCHED_KINDS,
    copy_step,
    damage,
    edit_config,
    edit_metrics,
    edit_state,
    edit_text,
    reseal,
)
from tests.hostile.outcomes import Outcomes
from tests.volume import few

KINDS = {
    **{name: pattern + OTHER_STEP for name, pattern in DAMAGE_KINDS.items()},
    **RENAMED,
    "no step": PATH + r": no checkpoint of step \d+ \(kept: .+\)",
    "none": PATH + r": holds no checkpoint; train until one is saved",
    "no directory": PATH + r": no such directory; was .+ trained\? Name the workdir of a run",
}


@pytest.fixture(scope="module")
def params_of(workdir):
    """The parameters of a step, as they were before any damage."""
    return functools.cache(lambda step: restore_run(workdir, str(step)).params)


def assert_equal(params, expected):
    jax.tree.map(np.testing.assert_array_equal, params, expected)


def test_a_damaged_checkpoint_is_refused_or_restored_as_it_was(workdir, params_of, tmp_path):
    outcomes, inputs = Outcomes(KINDS), few(100, of=1500)
    steps = sorted(path.name for path in (workdir / "checkpoints").iterdir())
    named = {"best": str(restore_run(workdir, "best").step), "last": steps[-1]}
    for step in steps:
        copy_step(workdir, tmp_path, step)
    for seed in range(inputs):
        rng = Random(seed)
        asked = rng.choice(("best", "last", *steps))
        step = rng.choice(steps) if rng.random() < 0.05 else named.get(asked, asked)
        aside = tmp_path / "aside"
        aside.mkdir()
        done = [
            damage(rng, tmp_path / "checkpoints" / step, aside / str(k))
            for k in range(rng.choice((1, 1, 1, 2)))
        ]
        try:
            restored = restore_run(tmp_path, asked)
        except CheckpointError as error:
            outcomes.refused(error)
        else:
            assert str(restored.step) in steps, (seed, done)
            assert asked in named or restored.step == int(asked), (seed, done)
            assert_equal(restored.params, params_of(restored.step))
            outcomes.right()
        for path in [aside, *(tmp_path / "checkpoints").iterdir()]:
            if path.name not in set(steps) - {step}:
                shutil.rmtree(path)
        copy_step(workdir, tmp_path, step)
    outcomes.require(inputs, least=3, never=("none", "no directory"))


@pytest.mark.usefixtures("unheard_late_errors")
def test_a_damaged_checkpoint_with_valid_checksums(workdir, params_of, tmp_path):
    """Like a checkpoint that somebody edited, or wrote on purpose."""
    outcomes, inputs = Outcomes(VOUCHED_KINDS), few(20, of=100)
    step = str(restore_run(workdir, "best").step)
    for seed in range(inputs):
        rng, folder = Random(seed), copy_step(workdir, tmp_path, step)
        edit = rng.choice((edit_config, edit_config, edit_state, edit_metrics, edit_text))
        edit(rng, folder)
        reseal(folder)
        try:
            restored = restore_run(tmp_path, "best")
        except CheckpointError as error:
            outcomes.refused(error)
        else:
            # A flipped bit that no checksum contradicts is another number.
            if edit is not edit_state:
                assert_equal(restored.params, params_of(int(step)))
            outcomes.right()
        shutil.rmtree(folder)
    outcomes.require(inputs, never=(*DAMAGE_KINDS, *RENAMED))


def test_a_directory_that_is_no_run_is_reported(workdir, tmp_path):
    outcomes = Outcomes(KINDS)
    for make, asked in (
        (lambda: None, "best"),
        (lambda: (tmp_path / "checkpoints").mkdir(), "last"),
        (lambda: copy_step(workdir, tmp_path, "3"), "7"),
    ):
        make()
        with pytest.raises(CheckpointError) as caught:
            restore_run(tmp_path, asked)
        outcomes.refused(caught.value)
    assert outcomes.counts == {"no directory": 1, "none": 1, "no step": 1}
    for asked in ("", "-1", "newest", "\u00b2", "3.0", "../3"):
        with pytest.raises(CheckpointError, match="must be best, last or a step"):
            restore_run(tmp_path, asked)
